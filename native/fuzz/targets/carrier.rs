//! The carrier's side of a call: any datagrams from anywhere, between any commands.
#![no_main]

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use trunkbridge_core::carrier::Carrier;
use trunkbridge_core::srtp::Line;
use trunkbridge_core::types::{CarrierSetup, Crypto, Law, Levels, MasterKey, Negotiated};
use trunkbridge_fuzz::{Clock, Script};

const SSRC: u32 = 0x5EED;

fn address(script: &mut Script) -> SocketAddr {
    let text = [
        "192.0.2.1:4000",
        "192.0.2.1:4002",
        "198.51.100.7:9",
        "[2001:db8::1]:4000",
        "[::ffff:192.0.2.1]:4000",
        "127.0.0.1:20000", // a port of ours
        "0.0.0.0:0",
    ];
    text[usize::from(script.byte()) % text.len()].parse().expect("an address")
}

fn own(address: SocketAddr) -> bool {
    address.port() == 20000
}

fn key(script: &mut Script) -> MasterKey {
    let seed = script.byte() % 3;
    MasterKey { secret: vec![seed; 30], mki: vec![seed; usize::from(seed)], lifetime: None }
}

fn negotiated(script: &mut Script) -> Negotiated {
    let crypto = (script.byte() % 2 == 0).then(|| Crypto {
        suite: "AES_CM_128_HMAC_SHA1_80".into(),
        send: key(script),
        receive: vec![key(script)],
        window: None,
    });
    Negotiated {
        remote: (script.byte() % 4 > 0).then(|| address(script)),
        remote_rtcp_port: script.short(),
        send: if script.byte() % 2 == 0 { Law::Mu } else { Law::A },
        payload_type: script.byte() & 0x7F,
        receive: vec![(0, Law::Mu), (script.byte(), Law::A)],
        dtmf_payload_type: (script.byte() % 2 == 0).then_some(101),
        receive_dtmf_payload_type: (script.byte() % 2 == 0).then_some(101),
        ptime: u32::from(script.byte()),
        crypto,
    }
}

/// The same from the other side.
fn mirrored(crypto: &Crypto) -> Crypto {
    let (send, receive) = (crypto.receive[0].clone(), vec![crypto.send.clone()]);
    Crypto { suite: crypto.suite.clone(), send, receive, window: None }
}

fn levels(script: &mut Script) -> Levels {
    let flags = script.byte();
    let limit = |flag: u8| (flags & flag != 0).then(|| Duration::from_secs(5));
    Levels {
        transmit: flags & 1 != 0,
        agent_audio: flags & 2 != 0,
        caller_audio: flags & 4 != 0,
        watchdog: limit(8),
        watchdog_initial: limit(16),
    }
}

/// A packet of theirs whose numbers mostly go on.
fn packet(script: &mut Script, sequence: &mut u16, timestamp: &mut u32) -> Vec<u8> {
    let step = script.byte();
    *sequence = sequence.wrapping_add_signed(i16::from(step as i8));
    *timestamp = timestamp.wrapping_add(u32::from(script.byte()) * 8);
    let kind = script.byte();
    let mut packet = vec![0x80 | kind >> 7 << 4 | kind >> 6 & 1 << 5];
    packet.push([0, 8, 13, 101, 0x80][usize::from(kind) % 5] | kind & 0x80);
    packet.extend(sequence.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend([0, 0, 0, kind >> 4 & 1]);
    packet.extend(script.datagram());
    packet
}

fuzz_target!(|bytes: &[u8]| {
    let mut script = Script::new(bytes);
    let mut clock = Clock::default();
    let setup = CarrierSetup {
        ssrc: SSRC,
        sequence: script.short(),
        timestamp: script.word(),
        track: if script.byte() % 2 == 0 { Law::Mu } else { Law::A },
        signalling: Some([192, 0, 2, 1].into()),
        allow: vec!["198.51.100.0/24".parse().expect("a network")],
        cname: "trunkbridge".into(),
    };
    let mut carrier = Carrier::new(setup, clock.now);
    let (mut theirs, mut secure) = (Line::new(), false);
    let (mut sequence, mut timestamp) = (script.short(), script.word());
    let mut out = Vec::new();
    while !script.is_over() {
        match script.byte() % 12 {
            0..=2 => {
                let mut datagram = packet(&mut script, &mut sequence, &mut timestamp);
                let from = address(&mut script);
                if secure && script.byte() % 8 > 0 {
                    theirs.protect_rtp(&mut datagram);
                }
                if let Some(forward) = carrier.receive(&mut datagram, from, &own, clock.now) {
                    assert!(!forward.payload.is_empty() && forward.payload.len() <= 1600);
                    assert!((-127..=0).contains(&forward.level));
                }
                clock.now += Duration::from_millis(20);
            }
            3 => {
                let mut datagram = script.datagram();
                let from = address(&mut script);
                let _ = carrier.receive(&mut datagram, from, &own, clock.now);
            }
            4 => {
                let mut datagram = script.datagram();
                let from = address(&mut script);
                if secure && script.byte() % 2 == 0 {
                    theirs.protect_rtcp(&mut datagram);
                }
                carrier.receive_rtcp(&mut datagram, from, clock.now);
            }
            5 => {
                let agreed = negotiated(&mut script);
                let crypto = agreed.crypto.clone();
                if carrier.connect(agreed, &own, clock.now).is_ok() {
                    secure = crypto.is_some();
                    if let Some(crypto) = crypto {
                        theirs.agree(&mirrored(&crypto), clock.now).expect("agreed");
                    }
                }
            }
            6 => carrier.apply(levels(&mut script), clock.now),
            7 => match script.byte() % 4 {
                0 => {
                    let digits = script.take(12);
                    carrier.send_dtmf(&String::from_utf8_lossy(digits));
                }
                1 => carrier.skip(script.word()),
                2 => carrier.open_window(clock.now),
                _ => clock.step(&mut script),
            },
            8..=10 => {
                let pcm = [i16::from(script.byte()) << 8; 480];
                let audio = script.byte();
                let size = carrier.samples().min(usize::from(audio) * 4);
                let before = carrier.position();
                let audio = (audio % 2 == 0).then_some(&pcm[..size]);
                let to = carrier.send(audio, &mut out, clock.now);
                let Some(_) = to else { continue };
                assert_eq!(out[2..4], before.0.to_be_bytes());
                assert_eq!(out[8..12], SSRC.to_be_bytes());
                assert!(out.len() <= 1500);
                if secure {
                    let length = theirs.open_rtp(&mut out, clock.now).expect("theirs to open");
                    assert!(length <= 12 + 480);
                }
            }
            _ => {
                let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(script.word().into());
                let to = if script.byte() % 8 == 0 {
                    carrier.goodbye(clock.now, wall, &mut out)
                } else {
                    carrier.poll(clock.now, wall, &mut out)
                };
                if to.is_some() && secure {
                    theirs.open_rtcp(&mut out, clock.now).expect("theirs to open");
                }
                carrier.take_notices();
            }
        }
    }
    let stats = carrier.stats();
    assert!(stats.jitter_ms.is_finite() && stats.jitter_ms >= 0.0);
});
