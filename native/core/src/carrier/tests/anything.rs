//! Whatever comes: nothing panics, and what the room gets obeys its rules.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::rtp::packet::is_rtcp;

/// A small deterministic generator (xorshift64*).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.next() as u8).collect()
    }
}

fn seeds() -> impl Iterator<Item = Chance> {
    (1..=300u64).map(|seed| Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
}

#[test]
fn no_datagram_panics_and_each_one_counts() {
    for mut chance in seeds() {
        let mut line = Line::talking();
        if chance.one_in(4) {
            line.connect(Negotiated { crypto: Some(crypto(1, 2)), ..negotiated() });
        }
        for count in 1..=100 {
            let mut datagram = chance.bytes(80);
            for (index, likely) in [0x80, 8, 0, count].into_iter().enumerate() {
                if let Some(byte) = datagram.get_mut(index)
                    && !chance.one_in(3)
                {
                    *byte = likely;
                }
            }
            if is_rtcp(&datagram) {
                datagram[1] = 8;
            }
            let last = [10, 11, 99][chance.below(3) as usize];
            let from = SocketAddr::from(([192, 0, 2, last], 4000));
            line.carrier.receive(&mut datagram, from, &not_ours, line.now);
            let stats = line.carrier.stats();
            assert_eq!(stats.packets_received + stats.packets_refused, u64::from(count));
            line.now += MS * chance.below(50) as u32;
            line.carrier.poll(line.now, SystemTime::UNIX_EPOCH, &mut line.out);
        }
    }
}

#[test]
fn no_report_panics() {
    for mut chance in seeds() {
        let mut line = Line::talking();
        for _ in 0..50 {
            let mut datagram = chance.bytes(120);
            for (index, byte) in datagram.iter_mut().enumerate().step_by(4).take(6) {
                match index {
                    0 => *byte = 0x80 | *byte & 3,
                    _ => *byte &= 0x83,
                }
            }
            if let Some(kind) = datagram.get_mut(1) {
                *kind = 200 + *kind % 5;
            }
            line.carrier.receive_rtcp(&mut datagram, THEM.into(), line.now);
            line.now += 20 * MS;
            line.carrier.poll(line.now, SystemTime::UNIX_EPOCH, &mut line.out);
        }
    }
}

/// What the room got, with the place that it had in the sender's stream.
#[derive(Debug)]
struct Heard {
    theirs: u64,
    sequence: u64,
    timestamp: u32,
    marker: bool,
}

/// A sender that loses, reorders and repeats, presses keys and is held; no restart.
fn conversation(chance: &mut Chance, network: bool) -> (Vec<Heard>, u64) {
    let mut line = Line::talking();
    let (mut heard, mut lost) = (Vec::new(), 0);
    let first = chance.below(65_536);
    let mut waiting: Vec<(u64, Vec<u8>)> = Vec::new();
    for number in 0..400 {
        let payload_type = if chance.one_in(8) { 96 } else { 8 };
        let size = if payload_type == 96 { 4 } else { 160 * (1 - chance.below(30) / 29) };
        let timestamp = (number * 160) as u32;
        let payload = vec![2; size as usize];
        waiting.push((number, packet(payload_type, (first + number) as u16, timestamp, &payload)));
        if network && chance.one_in(10) {
            waiting.pop();
            lost += 1;
        }
        if network && chance.one_in(10) {
            waiting.extend(waiting.last().cloned());
        }
        line.now += 20 * MS;
        if chance.one_in(40) {
            line.apply(Levels { caller_audio: chance.one_in(2), ..TALKING });
        }
        if network && chance.one_in(4) {
            continue; // it comes with the next one
        }
        waiting.reverse();
        for (theirs, mut datagram) in waiting.drain(..) {
            let forward = line.carrier.receive(&mut datagram, THEM.into(), &not_ours, line.now);
            heard.extend(forward.map(|forward| Heard {
                theirs,
                sequence: forward.sequence,
                timestamp: forward.timestamp,
                marker: forward.marker,
            }));
        }
    }
    (heard, lost)
}

#[test]
fn what_is_withheld_leaves_no_gap_and_a_marker_where_it_was() {
    for mut chance in seeds() {
        let (heard, _) = conversation(&mut chance, false);
        assert!(heard.first().is_none_or(|first| first.sequence < 1 << 15 && first.marker));
        for pair in heard.windows(2) {
            let [before, after] = pair else { continue };
            assert_eq!(after.sequence, before.sequence + 1);
            let passed = after.theirs - before.theirs;
            let step = after.timestamp.wrapping_sub(before.timestamp);
            assert_eq!(u64::from(step), passed * 160);
            assert_eq!(after.marker, passed > 1);
        }
    }
}

#[test]
fn every_number_is_given_once_in_the_order_of_the_sender() {
    for mut chance in seeds() {
        let (heard, lost) = conversation(&mut chance, true);
        let given: BTreeSet<u64> = heard.iter().map(|one| one.sequence).collect();
        assert_eq!(given.len(), heard.len());
        let by_sender: BTreeMap<u64, &Heard> = heard.iter().map(|one| (one.theirs, one)).collect();
        assert_eq!(by_sender.len(), heard.len());
        let ordered: Vec<&Heard> = by_sender.into_values().collect();
        let mut gaps = 0;
        for pair in ordered.windows(2) {
            let [before, after] = pair else { continue };
            assert!(before.sequence < after.sequence, "{before:?} {after:?}");
            gaps += after.sequence - before.sequence - 1;
            let step = after.timestamp.wrapping_sub(before.timestamp);
            assert_eq!(u64::from(step), (after.theirs - before.theirs) * 160);
            assert!(after.sequence - before.sequence <= after.theirs - before.theirs);
        }
        // Gaps are what was lost, and keys that came after their successor.
        assert!(gaps <= lost + 400 / 8 * 2, "{gaps} {lost}");
    }
}

/// Anything at all from one source: jumps, restarts, other SSRCs, any timestamps.
#[test]
fn no_stream_gives_a_number_twice_or_moves_the_highest_back() {
    for mut chance in seeds() {
        let mut line = Line::talking();
        let mut given = BTreeSet::new();
        let (mut sequence, mut timestamp, mut ssrc) = (chance.next(), chance.next(), 1);
        for _ in 0..400 {
            match chance.below(12) {
                0 => sequence = sequence.wrapping_sub(chance.below(80)),
                1 => sequence = sequence.wrapping_add(chance.below(80)),
                2 => sequence = chance.next(),
                3 => timestamp = chance.next(),
                4 => timestamp = timestamp.wrapping_sub(chance.below(4000)),
                5 => ssrc = chance.below(3) as u8,
                6 => line.apply(Levels { caller_audio: !chance.one_in(3), ..TALKING }),
                _ => {}
            }
            let payload = vec![2; [0, 1, 80, 160, 160, 160, 480, 1600][chance.below(8) as usize]];
            let payload_type = [8, 8, 8, 0, 96, 13][chance.below(6) as usize];
            let mut datagram = packet(payload_type, sequence as u16, timestamp as u32, &payload);
            datagram[11] = ssrc;
            line.now += MS * [0, 20, 20, 20, 60, 3000][chance.below(6) as usize];
            if let Some(place) =
                line.carrier.receive(&mut datagram, THEM.into(), &not_ours, line.now)
            {
                assert_eq!(place.payload.len(), payload.len());
                assert!((-127..=0).contains(&place.level));
                assert!(given.insert(place.sequence), "{} was given twice", place.sequence);
                let first = given.first().copied().unwrap_or_default();
                assert!(first < 1 << 15);
                // Nothing can be further than a thousand lost packets for each that came.
                assert!(place.sequence <= first + 1000 * given.len() as u64);
            }
            sequence = sequence.wrapping_add(1);
            timestamp = timestamp.wrapping_add(payload.len() as u64);
        }
    }
}
