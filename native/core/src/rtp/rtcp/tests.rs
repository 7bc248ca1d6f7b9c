//! RTCP as RFC 3550 has it; both engines write the same bytes (tests/unit/native/test_sending.py).

use super::*;

fn report() -> Report {
    Report {
        ssrc: 7,
        sender: Some(SenderInfo {
            ntp: 0x0102_0304_0506_0708,
            timestamp: 9,
            packets: 10,
            octets: 11,
        }),
        block: Some(ReportBlock {
            ssrc: 8,
            fraction_lost: 200,
            cumulative_lost: -3,
            highest_sequence: 70_000,
            jitter: 12,
            last_report: 13,
            delay: 14,
        }),
    }
}

#[test]
fn a_report_is_parsed_as_built_whatever_the_name() {
    for cname in ["", "a", "ab", "abc", "abcd", &"x".repeat(300)] {
        let mut out = vec![1, 2, 3];
        build_last(&report(), cname, &mut out);
        assert_eq!(out.len() % 4, 0);
        let wanted = RtcpPacket::Report {
            ssrc: 7,
            sender: report().sender,
            blocks: report().block.into_iter().collect(),
        };
        assert_eq!(parse(&out), Ok(vec![wanted, RtcpPacket::Goodbye]));
    }
}

#[test]
fn a_report_of_one_who_sent_nothing_is_a_receivers() {
    let mut out = Vec::new();
    build(&Report { sender: None, block: None, ..report() }, "c", &mut out);
    let wanted = [
        0x80, 201, 0, 1, 0, 0, 0, 7, // RR without blocks
        0x81, 202, 0, 2, 0, 0, 0, 7, 1, 1, b'c', 0, // SDES: CNAME, ended by a zero
    ];
    assert_eq!(out, wanted);
}

#[test]
fn a_broken_packet_is_refused_with_its_reason() {
    let refused: [(&[u8], &str); 8] = [
        (&[], "empty datagram"),
        (&[0x80, 201, 0], "shorter than an RTCP header"),
        (&[0x40, 201, 0, 0], "RTCP version is not 2"),
        (&[0x80, 201, 0, 1], "RTCP packet runs past the end"),
        (&[0x80, 200, 0, 1, 0, 0, 0, 1], "sender report is too short"),
        (&[0x80, 201, 0, 0], "report is too short"),
        (&[0x81, 201, 0, 1, 0, 0, 0, 1], "report block runs past the end"),
        (&[0x82, 203, 0, 1, 0, 0, 0, 1], "goodbye is too short"),
    ];
    for (data, reason) in refused {
        assert_eq!(parse(data), Err(RtcpError(reason)));
    }
    assert_eq!(parse(&[0x80, 204, 0, 0]), Ok(vec![])); // APP: passed over
}

#[test]
fn round_trip_is_the_example_of_rfc_3550() {
    // RFC 3550 figure 2: A 46864.500 s, LSR 46853.125 s, DLSR 5.250 s, round trip 6.125 s.
    let block = ReportBlock {
        last_report: 0xB705_2000,
        delay: 0x0005_4000,
        ..report().block.expect("a block")
    };
    let arrived = 0xB710_8000 << 16;
    assert_eq!(round_trip(&block, arrived), Some(Duration::from_millis(6125)));
}

#[test]
fn no_round_trip_without_a_report_of_ours_or_from_the_future() {
    let block = ReportBlock { last_report: 0, delay: 0, ..report().block.expect("a block") };
    assert_eq!(round_trip(&block, 5 << 32), None);
    let ahead = ReportBlock { last_report: 6 << 16, ..block };
    assert_eq!(round_trip(&ahead, 5 << 32), None);
}

#[test]
fn ntp_counts_from_1900() {
    let half = Duration::from_millis(500);
    assert_eq!(ntp(SystemTime::UNIX_EPOCH + half), 2_208_988_800 << 32 | 1 << 31);
    assert_eq!(middle(ntp(SystemTime::UNIX_EPOCH + half)), 0x7E80_8000);
}
