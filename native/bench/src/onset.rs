//! When a burst begins in a stream of packets: marker bursts measure a delay through codecs.

use crate::clock::SECOND;

/// Above this a sample is loud (of 32768); speech codecs ring far below it.
const LOUD: u16 = 2500;
/// Samples at 8 kHz that must have been quiet before a burst counts: 200 ms.
const QUIET: usize = 1600;

/// Listens to one stream at 8 kHz.
#[derive(Default)]
pub struct Onset {
    quiet: usize,
    /// When bursts began: the time of the packet's arrival and the burst's place in it, ns.
    pub heard: Vec<u64>,
}

impl Onset {
    /// Take the samples of a packet that came at `at` (ns).
    pub fn listen(&mut self, samples: impl Iterator<Item = i16>, at: u64) {
        for (place, sample) in samples.enumerate() {
            if sample.unsigned_abs() < LOUD {
                self.quiet += 1;
                continue;
            }
            if self.quiet >= QUIET {
                self.heard.push(at + place as u64 * SECOND / 8000);
            }
            self.quiet = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_heard_once_and_where_it_begins() {
        let mut onset = Onset::default();
        onset.listen((0..1600).map(|_| 10), 0);
        onset.listen((0..160).map(|n| if n < 80 { 0 } else { 9000 }), SECOND);
        onset.listen((0..160).map(|_| -9000), SECOND + 20_000_000);
        assert_eq!(onset.heard, [SECOND + 10_000_000]);
    }
}
