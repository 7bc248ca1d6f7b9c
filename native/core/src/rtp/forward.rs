//! Their numbering mapped onto one unbroken stream towards the room.
//!
//! The room gets packets as they came, so its jitter buffer must see what the network did and
//! nothing else: packets lost on the wire stay gaps and reordered ones keep their number, but
//! what is withheld on purpose (closed gate, telephone-events, comfort noise, keep-alives)
//! leaves none, and a new SSRC or a restart goes on one packet after the old one.

use std::time::Instant;

use crate::rtp::packet::timestamp_distance;
use crate::rtp::reception::samples_between;
use crate::types::RATE;

/// A step of the timestamp that is further from the time that passed (one second) is a clock
/// that was set or stood still, not jitter.
const TOLERANCE: i64 = RATE as i64;
/// The same (100 ms) over a stretch in which nothing was passed on: nobody hears a shift.
const TOLERANCE_AFTER_STRETCH: i64 = RATE as i64 / 10;
/// So many packets withheld in a row make a stretch: a key, but no keep-alive between voices.
const STRETCH: u32 = 4;
/// How far back withheld packets are known; nothing that comes later is passed on.
const HISTORY: u64 = 64;
/// The first number that we give is below it: RFC 3711 3.3.1, a receiver that loses the first
/// packets must not meet the roll-over before it knows the counter.
const FIRST_BELOW: u64 = 1 << 15;

/// The number, timestamp and marker of a packet that is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub sequence: u64,
    pub timestamp: u32,
    pub marker: bool,
}

/// One packet of theirs as it came; `sequence` is extended (see `Reception`).
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub epoch: u32,
    pub sequence: u64,
    pub timestamp: u32,
    pub marker: bool,
    /// Of audio; not 0.
    pub samples: u32,
    pub at: Instant,
}

/// A stretch of their numbering with one relation to ours.
#[derive(Debug)]
struct Segment {
    epoch: u32,
    /// Their first and highest number in it.
    first: u64,
    highest: u64,
    /// Theirs less ours at `highest`, modulo 2^64.
    shift: u64,
    /// Ours less theirs, of timestamps.
    offset: u32,
    /// Bit n: number `highest - n` was withheld.
    withheld: u64,
}

/// The packet furthest on that was passed.
#[derive(Clone, Copy, Debug)]
struct Last {
    place: Place,
    arrival: Arrival,
}

/// Places packets; every number is given once.
#[derive(Debug, Default)]
pub struct Forwarding {
    segment: Option<Segment>,
    last: Option<Last>,
    /// The gate closed: the next packet begins a segment.
    interrupted: bool,
    /// Packets withheld since the last that passed: the next one gets the marker.
    gap: u32,
}

impl Forwarding {
    /// Withholds whatever came, until the next packet that is placed.
    #[inline]
    pub fn interrupt(&mut self) {
        self.interrupted = true;
    }

    /// Withholds one packet of the stream: its number is closed up.
    pub fn withhold(&mut self, epoch: u32, sequence: u64) {
        if self.interrupted {
            return;
        }
        // One that comes late has been taken for lost: those after it have their numbers.
        if let Some(segment) = &mut self.segment
            && segment.epoch == epoch
            && sequence > segment.highest
        {
            segment.advance(sequence);
            segment.withheld |= 1;
            segment.shift = segment.shift.wrapping_add(1);
            self.gap = self.gap.saturating_add(1);
        }
    }

    /// Places a packet of audio; nothing for one from before the present stretch.
    #[inline]
    pub fn place(&mut self, arrival: Arrival) -> Option<Place> {
        let (Some(segment), Some(last)) = (&mut self.segment, &self.last) else {
            return Some(self.begin(arrival));
        };
        if self.interrupted || segment.epoch != arrival.epoch {
            return Some(self.begin(arrival));
        }
        if arrival.sequence <= segment.highest {
            let place = segment.place_behind(&arrival)?;
            // Only what was withheld may be ahead of it: then it is the furthest that was passed.
            if place.sequence > last.place.sequence {
                self.last = Some(Last { place, arrival });
            }
            return Some(place);
        }
        if !follows(&last.arrival, &arrival, self.gap >= STRETCH) {
            return Some(self.begin(arrival));
        }
        segment.advance(arrival.sequence);
        let place = Place {
            sequence: arrival.sequence.wrapping_sub(segment.shift),
            timestamp: arrival.timestamp.wrapping_add(segment.offset),
            marker: arrival.marker || self.gap > 0,
        };
        self.gap = 0;
        self.last = Some(Last { place, arrival });
        Some(place)
    }

    /// Begins a segment one packet after the last one.
    #[cold]
    fn begin(&mut self, arrival: Arrival) -> Place {
        let place = match &self.last {
            None => Place {
                sequence: arrival.sequence % FIRST_BELOW,
                timestamp: arrival.timestamp,
                marker: true,
            },
            Some(last) => Place {
                sequence: last.place.sequence + 1,
                timestamp: self.timestamp_after(last, &arrival),
                marker: true,
            },
        };
        self.segment = Some(Segment {
            epoch: arrival.epoch,
            first: arrival.sequence,
            highest: arrival.sequence,
            shift: arrival.sequence.wrapping_sub(place.sequence),
            offset: place.timestamp.wrapping_sub(arrival.timestamp),
            withheld: 0,
        });
        self.last = Some(Last { place, arrival });
        (self.interrupted, self.gap) = (false, 0);
        place
    }

    /// Returns our timestamp of *arrival*: by their clock if it went on, else by the time that
    /// passed, in whole packets so that jitter leaves no hole.
    fn timestamp_after(&self, last: &Last, arrival: &Arrival) -> u32 {
        let segment = self.segment.as_ref().filter(|segment| segment.epoch == arrival.epoch);
        if let Some(segment) = segment
            && follows(&last.arrival, arrival, true)
        {
            return arrival.timestamp.wrapping_add(segment.offset);
        }
        let packet = u64::from(last.arrival.samples.max(1));
        let passed = samples_between(last.arrival.at, arrival.at);
        let packets = ((passed + packet / 2) / packet).max(1);
        last.place.timestamp.wrapping_add((packets * packet) as u32)
    }
}

impl Segment {
    #[inline]
    fn advance(&mut self, sequence: u64) {
        let step = sequence - self.highest;
        self.withheld = if step < HISTORY { self.withheld << step } else { 0 };
        self.highest = sequence;
    }

    /// Places a reordered packet where it would have stood.
    #[cold]
    fn place_behind(&self, arrival: &Arrival) -> Option<Place> {
        let back = self.highest - arrival.sequence;
        if arrival.sequence < self.first || back + 1 >= HISTORY {
            return None;
        }
        let after = self.withheld & ((1 << (back + 1)) - 1);
        let sequence = arrival.sequence.wrapping_sub(self.shift) + u64::from(after.count_ones());
        Some(Place {
            sequence,
            timestamp: arrival.timestamp.wrapping_add(self.offset),
            marker: arrival.marker,
        })
    }
}

/// Tells whether the timestamps went on with the time from *before* to *after*.
#[inline]
fn follows(before: &Arrival, after: &Arrival, stretch: bool) -> bool {
    let step = i64::from(timestamp_distance(after.timestamp, before.timestamp));
    let passed = samples_between(before.at, after.at) as i64;
    let tolerance = if stretch { TOLERANCE_AFTER_STRETCH } else { TOLERANCE };
    step > 0 && (step - passed).abs() <= tolerance
}
