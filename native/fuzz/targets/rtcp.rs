//! RTCP: what is read can be written again; what is no compound packet is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trunkbridge_core::rtp::rtcp::{Report, RtcpPacket, build, parse, round_trip};

fuzz_target!(|bytes: &[u8]| {
    let Ok(packets) = parse(bytes) else { return };
    let mut out = Vec::new();
    for packet in packets {
        let RtcpPacket::Report { ssrc, sender, blocks } = packet else { continue };
        assert!(blocks.len() <= 31);
        for block in &blocks {
            let _ = round_trip(block, u64::from(ssrc) << 20);
        }
        let report = Report { ssrc, sender, block: blocks.first().copied() };
        build(&report, "trunkbridge", &mut out);
        let again = parse(&out).expect("ours is valid");
        let block = report.block.into_iter().collect();
        let wanted = RtcpPacket::Report { ssrc, sender: report.sender.clone(), blocks: block };
        assert_eq!(again, [wanted]);
    }
});
