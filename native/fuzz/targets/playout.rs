//! The room's tracks: any packets at any time, and the mix is silence or sound of that length.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use trunkbridge_core::playout::{Mixer, RoomCodec};
use trunkbridge_core::types::Law;
use trunkbridge_fuzz::{Clock, Script};

fuzz_target!(|bytes: &[u8]| {
    let mut script = Script::new(bytes);
    let mut clock = Clock::default();
    let mut mixer = Mixer::new(clock.now);
    // Extended sequence numbers, as str0m counts them: far from both ends of 64 bits.
    let (mut sequence, mut timestamp, mut ssrc) = (1 << 40, script.word(), 1);
    let mut codec = RoomCodec::Opus;
    let mut out = [0i16; 480];
    while !script.is_over() {
        match script.byte() % 10 {
            0..=3 => {
                let step = script.byte();
                sequence = u64::wrapping_add_signed(sequence, i64::from(step as i8));
                timestamp = timestamp.wrapping_add_signed(i32::from(step as i8) * 160);
                let payload = script.datagram();
                match script.byte() % 2 {
                    0 => mixer.push(ssrc, sequence, timestamp, codec, &payload, clock.now),
                    _ => mixer.push_red(ssrc, sequence, timestamp, codec, 111, &payload, clock.now),
                }
            }
            4 | 5 => {
                let size = [80, 160, 240, 480][usize::from(script.byte()) % 4];
                let said = mixer.pull(&mut out[..size], clock.now);
                assert!(said || out[..size].iter().all(|sample| *sample == 0));
                clock.now += Duration::from_micros(size as u64 * 125);
            }
            6 => clock.step(&mut script),
            7 => {
                ssrc = u32::from(script.byte());
                codec = match script.byte() % 3 {
                    0 => RoomCodec::Opus,
                    1 => RoomCodec::G711(Law::Mu),
                    _ => RoomCodec::G711(Law::A),
                };
            }
            8 => match script.byte() % 4 {
                0 => mixer.remove(ssrc),
                1 => mixer.discard(clock.now),
                _ => {
                    let period = Duration::from_millis(u64::from(script.byte()));
                    let slot = mixer.slot(clock.now, period);
                    assert!(slot.is_none_or(|slot| slot < period));
                }
            },
            _ => {
                sequence = 1 << 40 | u64::from(script.word());
                timestamp = script.word();
            }
        }
    }
    let stats = mixer.stats();
    assert!(stats.depth_ms.is_finite() && stats.wait_mean_ms.is_finite());
});
