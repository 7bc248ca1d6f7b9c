//! SRTP: what comes passes only when it is genuine, and once, whatever the keys do.
#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use trunkbridge_core::srtp::Line;
use trunkbridge_core::types::{Crypto, MasterKey};
use trunkbridge_fuzz::{Clock, Script};

const SUITES: [(&str, usize); 4] = [
    ("AES_CM_128_HMAC_SHA1_80", 30),
    ("AES_CM_128_HMAC_SHA1_32", 30),
    ("AEAD_AES_128_GCM", 28),
    ("AEAD_AES_256_GCM", 44),
];

/// A key that stays the same for its seed, its name, and the suite that it belongs to.
fn key(suite: usize, seed: u8, mki: usize) -> MasterKey {
    let salt = seed ^ (mki as u8) << 5;
    let secret = (0..SUITES[suite].1).map(|at| (at as u8).wrapping_mul(7) ^ salt).collect();
    MasterKey { secret, mki: vec![seed; mki], lifetime: (seed == 9).then_some(3) }
}

fn agree(line: &mut Line, suite: usize, send: MasterKey, receive: MasterKey, clock: &Clock) {
    let window = Some(usize::from(send.secret[0]) * 9);
    let crypto = Crypto { suite: SUITES[suite].0.into(), send, receive: vec![receive], window };
    // Also refused: more keys than anybody has.
    let _ = line.agree(&crypto, clock.now);
}

fn packet(sequence: u16, ssrc: u8, control: bool) -> Vec<u8> {
    let mut packet = if control { vec![0x80, 200, 0, 6] } else { vec![0x80, 8] };
    if !control {
        packet.extend(sequence.to_be_bytes());
        packet.extend([0, 0, 0, 0]);
    }
    packet.extend([0, 0, 0, ssrc]);
    packet.extend([sequence as u8; 24]);
    packet
}

fuzz_target!(|bytes: &[u8]| {
    let mut script = Script::new(bytes);
    let mut clock = Clock::default();
    let (mut ours, mut theirs) = (Line::new(), Line::new());
    let (mut suite, mut mki, mut sequence, mut ssrc) = (0, 0, script.short(), 7);
    // What was protected, as it was, until it has passed.
    let mut fresh: HashMap<(bool, Vec<u8>), Vec<u8>> = HashMap::new();
    let mut past: Vec<(bool, Vec<u8>)> = Vec::new();
    while !script.is_over() {
        let mut delivered = None;
        match script.byte() % 8 {
            0 | 1 => {
                let control = script.byte() % 4 == 0;
                sequence = sequence.wrapping_add(u16::from(script.byte()));
                let plain = packet(sequence, ssrc, control);
                let mut sent = plain.clone();
                let kept = if control {
                    theirs.protect_rtcp(&mut sent)
                } else {
                    theirs.protect_rtp(&mut sent)
                };
                if !kept {
                    assert!(sent.is_empty());
                    continue;
                }
                let earlier = fresh.insert((control, sent.clone()), plain);
                assert!(earlier.is_none(), "a key stream was used twice");
                past.push((control, sent.clone()));
                delivered = Some((control, sent));
            }
            2 if !past.is_empty() => {
                let back = usize::from(script.byte()) % past.len();
                delivered = past.get(past.len() - 1 - back).cloned();
            }
            3 if !past.is_empty() => {
                let (control, mut sent) = past[usize::from(script.byte()) % past.len()].clone();
                let at = usize::from(script.byte()) % sent.len();
                sent[at] ^= script.byte();
                sent.truncate(sent.len() - usize::from(script.byte()) % 8);
                delivered = Some((control, sent));
            }
            4 => delivered = Some((script.byte() % 2 == 0, script.datagram())),
            5 => {
                suite = usize::from(script.byte()) % SUITES.len();
                mki = usize::from(script.byte()) % 5;
                let (one, two) = (script.byte() % 10, 10 + script.byte() % 10);
                agree(&mut ours, suite, key(suite, one, mki), key(suite, two, mki), &clock);
                if script.byte() % 8 != 0 {
                    agree(&mut theirs, suite, key(suite, two, mki), key(suite, one, mki), &clock);
                }
            }
            6 => ssrc = script.byte(),
            _ => clock.step(&mut script),
        }
        let Some((control, datagram)) = delivered else { continue };
        let mut data = datagram.clone();
        let length = if control {
            ours.open_rtcp(&mut data, clock.now)
        } else {
            ours.open_rtp(&mut data, clock.now)
        };
        if let Some(length) = length {
            // Their keys come back after a while, and so may a packet of then; see `Receiver`.
            let plain = fresh.get(&(control, datagram)).expect("genuine");
            assert_eq!(&data[..length], plain);
        }
    }
    let _ = (suite, mki);
});
