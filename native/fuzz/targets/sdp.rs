//! The server's descriptions and candidates: a transport takes them or ends, and never panics.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use str0m::config::DtlsCert;
use trunkbridge_core::peer::{Options, Output, Peer};
use trunkbridge_core::types::Law;
use trunkbridge_fuzz::Script;

static CERTIFICATE: OnceLock<DtlsCert> = OnceLock::new();

fn open(offers: bool, now: Instant, out: &mut Vec<Output>) -> Peer {
    let certificate = CERTIFICATE.get_or_init(|| {
        let provider = str0m::crypto::from_feature_flags();
        provider.dtls_provider.generate_certificate().expect("a certificate")
    });
    let options = Options {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        offers,
        track: offers.then(|| "track".to_string()),
        law: Law::A,
        receivers: 2,
    };
    Peer::open(&options, certificate, now, out).expect("opened")
}

fn described(out: &[Output]) -> Option<String> {
    out.iter().rev().find_map(|output| match output {
        Output::Offer(sdp) | Output::Answer(sdp) => Some(sdp.clone()),
        _ => None,
    })
}

/// Change *sdp* as the script says: lines go, come twice, change places, or get other bytes.
fn changed(sdp: &str, script: &mut Script) -> String {
    let mut lines: Vec<String> = sdp.lines().map(str::to_string).collect();
    for _ in 0..script.byte() % 6 {
        if lines.is_empty() {
            break;
        }
        let at = usize::from(script.byte()) % lines.len();
        match script.byte() % 5 {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[at].clone()),
            2 => {
                let other = usize::from(script.byte()) % lines.len();
                lines.swap(at, other);
            }
            3 => {
                let size = usize::from(script.byte()) % 40;
                let text = String::from_utf8_lossy(script.take(size)).into_owned();
                let keep = usize::from(script.byte());
                lines[at] = lines[at].chars().take(keep).chain(text.chars()).collect();
            }
            _ => lines[at] = lines[at].replace(|c: char| c.is_ascii_digit(), "9"),
        }
    }
    lines.join("\r\n") + "\r\n"
}

fuzz_target!(|bytes: &[u8]| {
    let mut script = Script::new(bytes);
    let mut now = Instant::now();
    let (mut ours, mut theirs) = (vec![], vec![]);
    let mut one = open(true, now, &mut ours);
    let mut other = open(false, now, &mut theirs);
    while !script.is_over() {
        let offer = described(&ours).unwrap_or_default();
        match script.byte() % 8 {
            0..=2 => {
                let changed = changed(&offer, &mut script);
                other.take_offer(&changed, now, &mut theirs);
                let answer = described(&theirs).unwrap_or_default();
                one.answer(&answer, now, &mut ours);
            }
            3 => {
                other.take_offer(&offer, now, &mut theirs);
                let answer = changed(&described(&theirs).unwrap_or_default(), &mut script);
                one.answer(&answer, now, &mut ours);
            }
            4 => {
                let size = usize::from(script.byte());
                let text = String::from_utf8_lossy(script.take(size)).into_owned();
                let known = "candidate:1 1 udp 2130706431 127.0.0.1 9 typ host";
                one.candidate(&text, now, &mut ours);
                one.candidate(&changed(known, &mut script), now, &mut ours);
            }
            5 => one.add_receivers(u32::from(script.byte()), now, &mut ours),
            6 => one.restart_ice(now, &mut ours),
            _ => {
                now += Duration::from_millis(20 * u64::from(script.byte()));
                one.tick(now, &mut ours);
                other.tick(now, &mut theirs);
            }
        }
        assert!(ours.len() < 10_000 && theirs.len() < 10_000);
    }
});
