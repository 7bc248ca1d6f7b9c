//! Numbers of the stream that we send into the room: the carrier's packets, and silence of our
//! own between them, in one unbroken sequence.

use crate::types::RATE;
use std::time::Instant;

/// Packets behind the newest one that are still told apart.
const WINDOW: u64 = 64;

/// A jump that receivers would take for packets from before (RFC 3550 A.1, RFC 3711 3.3.1).
const MAX_JUMP: u64 = 1 << 14;

/// Samples that timestamps advance at least from packet to packet.
const MIN_STEP: u32 = 80;

/// Maps sequence numbers and timestamps onto those of one SSRC under one key.
///
/// It never gives a number twice: with AES-GCM that would give the key away (RFC 7714 9.1).
#[derive(Debug)]
pub struct Numbering {
    first: u64,
    last: Option<Last>,
    /// What is added to the carrier's numbers; `None`: settled by its next packet.
    shift: Option<Shift>,
    /// Numbers below are given, or were passed over for good.
    floor: u64,
    /// Bit n: number `last.sequence - n` is given.
    given: u64,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    sequence: u64,
    timestamp: u32,
    at: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Shift {
    sequence: u64,
    timestamp: u32,
}

/// The numbers of one packet. `resumed`: what is before it was not the carrier's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbered {
    pub sequence: u64,
    pub timestamp: u32,
    pub resumed: bool,
}

impl Numbering {
    /// *first* should be below 2**15: no packet lost at the start leaves the two ends with
    /// different rollover counters (RFC 3711 3.3.1).
    pub fn new(first: u16) -> Self {
        let first = u64::from(first);
        Numbering { first, last: None, shift: None, floor: first, given: 0 }
    }

    /// Numbers for a packet of the carrier; `None`: it comes too late, or twice.
    pub fn carrier(&mut self, sequence: u64, timestamp: u32, now: Instant) -> Option<Numbered> {
        let kept = self.shift.map(|shift| Numbered {
            sequence: sequence.wrapping_add(shift.sequence),
            timestamp: timestamp.wrapping_add(shift.timestamp),
            resumed: false,
        });
        let numbered = match kept {
            Some(numbered) if !self.jumps(numbered.sequence) => numbered,
            _ => {
                let numbered = self.next(timestamp, now);
                self.shift = Some(Shift {
                    sequence: numbered.sequence.wrapping_sub(sequence),
                    timestamp: numbered.timestamp.wrapping_sub(timestamp),
                });
                self.floor = numbered.sequence;
                numbered
            }
        };
        self.give(numbered, now).then_some(numbered)
    }

    /// Numbers for a packet of ours.
    pub fn own(&mut self, now: Instant) -> Numbered {
        let numbered = self.next(0, now);
        self.shift = None;
        self.floor = numbered.sequence;
        self.give(numbered, now);
        numbered
    }

    /// The number after the last, its timestamp by the clock on the wall.
    fn next(&self, first_timestamp: u32, now: Instant) -> Numbered {
        let Some(last) = self.last else {
            return Numbered { sequence: self.first, timestamp: first_timestamp, resumed: true };
        };
        let passed = now.saturating_duration_since(last.at).as_micros() * u128::from(RATE);
        let step = u32::try_from(passed / 1_000_000).unwrap_or(u32::MAX).max(MIN_STEP);
        Numbered {
            sequence: last.sequence + 1,
            timestamp: last.timestamp.wrapping_add(step),
            resumed: true,
        }
    }

    fn jumps(&self, sequence: u64) -> bool {
        self.last.is_some_and(|last| {
            sequence > last.sequence + MAX_JUMP || sequence.saturating_add(MAX_JUMP) < last.sequence
        })
    }

    fn give(&mut self, numbered: Numbered, now: Instant) -> bool {
        let Numbered { sequence, timestamp, .. } = numbered;
        if sequence < self.floor {
            return false;
        }
        match self.last {
            Some(last) if sequence <= last.sequence => {
                let behind = last.sequence - sequence;
                if behind >= WINDOW || self.given & (1 << behind) != 0 {
                    return false;
                }
                self.given |= 1 << behind;
            }
            last => {
                let step = last.map_or(WINDOW, |last| sequence - last.sequence);
                self.given = if step < WINDOW { self.given << step | 1 } else { 1 };
                self.last = Some(Last { sequence, timestamp, at: now });
            }
        }
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(milliseconds: u64) -> Instant {
        use std::sync::OnceLock;
        static START: OnceLock<Instant> = OnceLock::new();
        *START.get_or_init(Instant::now) + Duration::from_millis(milliseconds)
    }

    #[test]
    fn what_was_lost_on_the_wire_stays_a_gap() {
        let mut numbering = Numbering::new(100);
        let first = numbering.carrier(7_000_000, 160, at(0)).unwrap();
        let third = numbering.carrier(7_000_002, 480, at(40)).unwrap();
        assert_eq!((first.sequence, third.sequence), (100, 102));
        assert_eq!(third.timestamp - first.timestamp, 320);
        assert!(first.resumed && !third.resumed);
    }

    #[test]
    fn a_packet_that_comes_late_fills_its_gap_and_no_number_is_given_twice() {
        let mut numbering = Numbering::new(0);
        numbering.carrier(10, 0, at(0)).unwrap();
        numbering.carrier(12, 320, at(40)).unwrap();
        assert_eq!(numbering.carrier(11, 160, at(41)).unwrap().sequence, 1);
        assert_eq!(numbering.carrier(11, 160, at(42)), None);
        assert_eq!(numbering.carrier(12, 320, at(43)), None);
    }

    #[test]
    fn our_silence_goes_between_and_the_carrier_goes_on_after_it() {
        let mut numbering = Numbering::new(5);
        let silence = numbering.own(at(0));
        let talk = numbering.carrier(900, 77, at(1000)).unwrap();
        assert_eq!((silence.sequence, talk.sequence), (5, 6));
        assert_eq!(talk.timestamp.wrapping_sub(silence.timestamp), 8000);
        assert!(talk.resumed);
        let again = numbering.own(at(1020));
        let more = numbering.carrier(901, 77 + 160, at(1040)).unwrap();
        assert_eq!((again.sequence, more.sequence), (7, 8));
        assert_eq!(more.timestamp.wrapping_sub(talk.timestamp), 320);
    }

    #[test]
    fn a_packet_from_before_our_silence_is_not_sent_any_more() {
        let mut numbering = Numbering::new(0);
        numbering.carrier(10, 0, at(0)).unwrap();
        numbering.carrier(12, 320, at(40)).unwrap();
        numbering.own(at(60));
        numbering.carrier(13, 480, at(80)).unwrap();
        assert_eq!(numbering.carrier(11, 160, at(81)), None);
    }

    #[test]
    fn a_jump_is_closed_so_that_rollover_counters_stay_together() {
        let mut numbering = Numbering::new(0);
        numbering.carrier(10, 0, at(0)).unwrap();
        let far = numbering.carrier(1 << 40, 9, at(20)).unwrap();
        assert_eq!((far.sequence, far.resumed), (1, true));
        assert_eq!(numbering.carrier((1 << 40) + 1, 169, at(40)).unwrap().sequence, 2);
    }

    #[test]
    fn numbers_are_unique_whatever_comes() {
        let mut numbering = Numbering::new(1000);
        let mut seen = std::collections::HashSet::new();
        let mut random = 12345u64;
        for n in 0..20_000u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let given = match random >> 60 {
                0 => Some(numbering.own(at(n))),
                1 => numbering.carrier(random, n as u32, at(n)),
                _ => numbering.carrier((n + (random >> 40) % 8).saturating_sub(4), 0, at(n)),
            };
            if let Some(given) = given {
                assert!(seen.insert(given.sequence), "{} was given twice", given.sequence);
            }
        }
    }
}
