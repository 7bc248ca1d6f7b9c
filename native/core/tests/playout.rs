//! The mixer as a call sees it: packets in, blocks of PCM out, on a clock of the test's.

use std::time::{Duration, Instant};

use trunkbridge_core::playout::{Mixer, RoomCodec};
use trunkbridge_core::types::Law;

const MU: RoomCodec = RoomCodec::G711(Law::Mu);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn what_a_track_says_comes_out_and_nothing_else() {
    let start = Instant::now();
    let mut mixer = Mixer::new(start);
    let mut out = [0i16; 160];
    assert!(!mixer.pull(&mut out, start));
    let mut said = 0;
    for n in 0..50u64 {
        let at = start + ms(20 * n);
        mixer.push(7, n, 160 * n as u32, MU, &[0x80; 160], at);
        if mixer.pull(&mut out, at + ms(6)) {
            said += 1;
            assert!(out.iter().all(|s| *s > 32000));
        }
    }
    assert!(said >= 49);
    assert_eq!(mixer.stats().lost, 0);
}

#[test]
fn two_tracks_are_added_and_cannot_overflow() {
    let start = Instant::now();
    let mut mixer = Mixer::new(start);
    let mut out = [0i16; 160];
    for n in 0..5u64 {
        let at = start + ms(20 * n);
        mixer.push(1, n, 160 * n as u32, MU, &[0x80; 160], at);
        mixer.push(2, n, 160 * n as u32, MU, &[0x80; 160], at);
        mixer.pull(&mut out, at + ms(10));
    }
    assert_eq!(out[80], i16::MAX);
}

#[test]
fn nothing_is_kept_while_the_gate_is_closed() {
    let start = Instant::now();
    let mut mixer = Mixer::new(start);
    let mut out = [0i16; 160];
    for n in 0..20u64 {
        let at = start + ms(20 * n);
        mixer.push(1, n, 160 * n as u32, MU, &[0x80; 160], at);
        mixer.discard(at + ms(10));
    }
    assert!(!mixer.pull(&mut out, start + ms(450)));
    assert_eq!(mixer.stats().packets, 20);
}
