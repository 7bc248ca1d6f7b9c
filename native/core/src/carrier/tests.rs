//! The carrier's side on a clock of the test's. What its receive path does with each kind of
//! stream is in tests/vectors/rtp; here is what the vectors cannot say.

use std::time::{Duration, Instant, SystemTime};

use super::codecs::Kind;
use super::*;
use crate::types::{Crypto, MasterKey};

const THEM: ([u8; 4], u16) = ([192, 0, 2, 10], 4000);
const MS: Duration = Duration::from_millis(1);

const TALKING: Levels = Levels {
    transmit: true,
    agent_audio: true,
    caller_audio: true,
    watchdog: Some(Duration::from_secs(30)),
    watchdog_initial: None,
};

/// One call and its time.
struct Line {
    carrier: Carrier,
    now: Instant,
    out: Vec<u8>,
}

fn negotiated() -> Negotiated {
    Negotiated {
        remote: Some(THEM.into()),
        remote_rtcp_port: 4001,
        send: Law::A,
        payload_type: 8,
        receive: vec![(8, Law::A), (0, Law::Mu)],
        dtmf_payload_type: Some(101),
        receive_dtmf_payload_type: Some(96),
        ptime: 20,
        crypto: None,
    }
}

fn not_ours(_: SocketAddr) -> bool {
    false
}

impl Line {
    fn new() -> Line {
        let now = Instant::now();
        let setup = CarrierSetup {
            ssrc: 0x55,
            sequence: 65_530,
            timestamp: 0xFFFF_FF00,
            track: Law::A,
            signalling: None,
            allow: Vec::new(),
            cname: "c".to_owned(),
        };
        Line { carrier: Carrier::new(setup, now), now, out: Vec::new() }
    }

    fn talking() -> Line {
        let mut line = Line::new();
        line.connect(negotiated());
        line.apply(TALKING);
        line
    }

    fn connect(&mut self, negotiated: Negotiated) {
        self.carrier.connect(negotiated, &not_ours, self.now).expect("what we can do");
    }

    fn apply(&mut self, levels: Levels) {
        self.carrier.apply(levels, self.now);
    }

    fn run(&mut self, time: Duration) -> Vec<CarrierNotice> {
        let until = self.now + time;
        while self.now < until {
            self.now += 20 * MS;
            self.carrier.poll(self.now, SystemTime::UNIX_EPOCH, &mut self.out);
        }
        self.carrier.take_notices()
    }

    /// Takes a packet of theirs; returns number, timestamp and marker of what the room gets.
    fn hear(&mut self, sequence: u16, payload: &[u8]) -> Option<(u64, u32, bool)> {
        let mut datagram = packet(8, sequence, u32::from(sequence) * 160, payload);
        let forward = self.carrier.receive(&mut datagram, THEM.into(), &not_ours, self.now)?;
        Some((forward.sequence, forward.timestamp, forward.marker))
    }
}

fn packet(payload_type: u8, sequence: u16, timestamp: u32, payload: &[u8]) -> Vec<u8> {
    let mut data = vec![0x80, payload_type];
    data.extend_from_slice(&sequence.to_be_bytes());
    data.extend_from_slice(&timestamp.to_be_bytes());
    data.extend_from_slice(&[0, 0, 0, 7]);
    data.extend_from_slice(payload);
    data
}

#[test]
fn nothing_is_taken_or_sent_before_something_was_negotiated() {
    let mut line = Line::new();
    line.apply(TALKING);
    assert_eq!(line.hear(1, &[0xD5; 160]), None);
    assert!(!line.carrier.wants_audio());
    assert_eq!(line.carrier.send(None, &mut line.out, line.now), None);
    assert_eq!(line.carrier.position(), (65_530, 0xFFFF_FFA0, 0));
    assert_eq!(line.carrier.stats(), CarrierStats::default());
}

#[test]
fn audio_is_wanted_only_while_it_may_leave() {
    let mut line = Line::talking();
    assert!(line.carrier.wants_audio());
    for closed in [Levels { transmit: false, ..TALKING }, Levels { agent_audio: false, ..TALKING }]
    {
        line.apply(closed);
        assert!(!line.carrier.wants_audio());
    }
    line.apply(TALKING);
    let nowhere = Some(SocketAddr::from(([127, 0, 0, 1], 4000)));
    line.connect(Negotiated { remote: nowhere, ..negotiated() });
    assert!(!line.carrier.wants_audio());
}

#[test]
fn what_is_given_while_only_silence_may_leave_is_not_sent() {
    let mut line = Line::talking();
    line.apply(Levels { agent_audio: false, ..TALKING });
    let to = line.carrier.send(Some(&[9000; 160]), &mut line.out, line.now);
    assert_eq!(to, Some(THEM.into()));
    assert_eq!(line.out[12..], [0xD5; 160]);
}

#[test]
fn pcm_of_another_length_is_cut_or_filled_to_a_packet() {
    for length in [0, 1, 159, 161, 4000] {
        let mut line = Line::talking();
        line.carrier.send(Some(&vec![9000; length]), &mut line.out, line.now);
        assert_eq!(line.out.len(), 12 + 160);
        assert_eq!(line.out[12..].iter().filter(|byte| **byte != 0xD5).count(), length.min(160));
    }
}

#[test]
fn the_watchdog_tells_once_and_again_after_the_limit_changed() {
    let mut line = Line::talking();
    let limit = |seconds| Some(Duration::from_secs(seconds));
    line.apply(Levels { watchdog: limit(2), watchdog_initial: limit(4), ..TALKING });
    assert_eq!(line.run(3900 * MS), []);
    assert_eq!(line.run(2000 * MS), [CarrierNotice::TimedOut { ever: false }]);
    line.hear(1, &[0xD5; 160]);
    line.apply(Levels { watchdog: limit(3), watchdog_initial: limit(4), ..TALKING });
    assert_eq!(line.run(2900 * MS), []);
    assert_eq!(line.run(1000 * MS), [CarrierNotice::TimedOut { ever: true }]);
    line.apply(Levels { watchdog: None, ..TALKING });
    assert_eq!(line.run(60_000 * MS), []);
    line.apply(Levels { watchdog: limit(3), ..TALKING });
    assert_eq!(line.run(2900 * MS), []);
    assert_eq!(line.run(1000 * MS), [CarrierNotice::TimedOut { ever: true }]);
}

#[test]
fn notices_that_nobody_takes_do_not_grow_memory() {
    let mut line = Line::talking();
    for sequence in 0..2000 {
        let mut key = packet(96, sequence, u32::from(sequence), &[1, 0x80, 0, 160]);
        line.carrier.receive(&mut key, THEM.into(), &not_ours, line.now);
        line.carrier.poll(line.now, SystemTime::UNIX_EPOCH, &mut line.out);
    }
    assert_eq!(line.carrier.take_notices().len(), MAX_NOTICES);
}

#[test]
fn the_number_goes_on_over_65535() {
    let mut line = Line::talking();
    let mut last = line.hear(0, &[0xD5; 160]).expect("the first").0;
    assert_eq!(last, 0);
    for index in 1..=200_000u32 {
        line.now += 20 * MS;
        let (sequence, timestamp, marker) =
            line.hear(index as u16, &[0xD5; 160]).unwrap_or_default();
        // The timestamp of this sender starts over with its sequence: that is no gap.
        assert_eq!((sequence, timestamp), (last + 1, index * 160), "{index}");
        assert_eq!(marker, index % 65_536 == 0);
        last = sequence;
    }
}

#[test]
fn reports_go_where_they_were_signalled_and_end_with_goodbye() {
    let mut line = Line::talking();
    line.carrier.send(None, &mut line.out, line.now);
    let rtcp: SocketAddr = (THEM.0, 4001).into();
    let mut told = 0;
    for _ in 0..1000 {
        line.now += 20 * MS;
        let to = line.carrier.poll(line.now, SystemTime::UNIX_EPOCH, &mut line.out);
        if to.is_some() {
            assert_eq!((to, line.out[1]), (Some(rtcp), 200 + u8::from(told >= 2)));
            told += 1;
        }
    }
    assert_eq!(told, 4); // 20 s
    let to = line.carrier.goodbye(line.now, SystemTime::UNIX_EPOCH, &mut line.out);
    assert_eq!(to, Some(rtcp));
    assert_eq!(line.out[line.out.len() - 8..], [0x81, 203, 0, 1, 0, 0, 0, 0x55]);
}

#[test]
fn who_never_sent_says_no_goodbye() {
    let mut line = Line::talking();
    assert_eq!(line.carrier.goodbye(line.now, SystemTime::UNIX_EPOCH, &mut line.out), None);
}

#[test]
fn the_wall_clock_may_be_set_without_a_wrong_round_trip() {
    let mut line = Line::talking();
    let mut wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    line.carrier.send(None, &mut line.out, line.now);
    let mut sent_at = None;
    for _ in 0..500 {
        line.now += 20 * MS;
        wall -= Duration::from_secs(3600);
        if line.carrier.poll(line.now, wall, &mut line.out).is_some() {
            let middle = [line.out[10], line.out[11], line.out[12], line.out[13]];
            sent_at = Some(u32::from_be_bytes(middle));
            break;
        }
    }
    let block = |last_report: u32| {
        let mut report = vec![0x81, 201, 0, 7, 0, 0, 0, 7, 0, 0, 0, 0x55];
        report.extend_from_slice(&[0; 12]);
        report.extend_from_slice(&last_report.to_be_bytes());
        report.extend_from_slice(&[0; 4]);
        report
    };
    line.now += 50 * MS;
    let rtcp: SocketAddr = (THEM.0, 4001).into();
    line.carrier.receive_rtcp(&mut block(sent_at.expect("a report")), rtcp, line.now);
    let trip = line.carrier.stats().round_trip_ms.expect("a round trip");
    assert!((trip - 50.0).abs() < 0.1, "{trip}");
}

fn key(byte: u8) -> MasterKey {
    MasterKey { secret: vec![byte; 30], mki: Vec::new(), lifetime: None }
}

fn crypto(ours: u8, theirs: u8) -> Crypto {
    let suite = "AES_CM_128_HMAC_SHA1_80".to_owned();
    Crypto { suite, send: key(ours), receive: vec![key(theirs)], window: None }
}

#[test]
fn srtp_passes_both_ways_and_what_is_not_authentic_is_no_sign_of_life() {
    let (mut one, mut other) = (Line::talking(), Line::talking());
    one.connect(Negotiated { crypto: Some(crypto(1, 2)), ..negotiated() });
    other.connect(Negotiated { crypto: Some(crypto(2, 1)), ..negotiated() });
    for _ in 0..10 {
        assert!(one.carrier.send(Some(&[1000; 160]), &mut one.out, one.now).is_some());
        let heard = other.carrier.receive(&mut one.out, THEM.into(), &not_ours, other.now);
        assert_eq!(heard.expect("it is theirs").payload.len(), 160);
        assert!(other.hear(1, &[0xD5; 160]).is_none());
    }
    let stats = other.carrier.stats();
    assert_eq!((stats.packets_received, stats.packets_refused), (10, 10));
    assert_eq!(stats.packets_unauthentic, 10);
}

#[test]
fn packets_that_are_not_authentic_are_told_once() {
    let mut line = Line::talking();
    line.connect(Negotiated { crypto: Some(crypto(1, 2)), ..negotiated() });
    for sequence in 0..200 {
        line.hear(sequence, &[0xD5; 160]);
    }
    assert_eq!(line.run(MS), [CarrierNotice::NotAuthentic]);
    line.hear(300, &[0xD5; 160]);
    assert_eq!(line.run(MS), []);
}

#[test]
fn keys_that_we_cannot_use_leave_everything_as_it_was() {
    let mut line = Line::talking();
    let crypto = Crypto { suite: "F8_128_HMAC_SHA1_80".to_owned(), ..crypto(1, 2) };
    let wanted = Negotiated { crypto: Some(crypto), ptime: 60, ..negotiated() };
    assert!(line.carrier.connect(wanted, &not_ours, line.now).is_err());
    assert_eq!(line.carrier.samples(), 160);
    assert!(line.hear(1, &[0xD5; 160]).is_some());
}

#[test]
fn a_payload_type_that_means_two_things_is_audio() {
    let codecs = Codecs::new(&[(13, Law::Mu), (96, Law::A)], Some(96));
    assert_eq!(codecs.kind(13), Kind::Audio(Law::Mu));
    assert_eq!(codecs.kind(96), Kind::Audio(Law::A));
    assert_eq!(codecs.kind(19), Kind::ComfortNoise);
    assert_eq!(codecs.kind(8), Kind::Unknown);
}

mod anything;
