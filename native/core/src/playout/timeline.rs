//! The time of a track: RTP timestamps unwrapped, and made to go on where a sender's clock jumps.

use super::RoomCodec;

/// Samples by which a timestamp and the time since the packet before may differ: more is a jump.
/// A longer delay of the network could not be played anyway.
const JUMP: i64 = 2000;

pub struct Timeline {
    /// Units of the RTP clock in a sample of 8 kHz.
    units: i64,
    started: bool,
    sequence: u64,
    raw: u32,
    /// Of the newest packet: unwrapped, in units.
    position: i64,
    arrived: i64,
    samples: i64,
}

impl Timeline {
    pub fn new(codec: RoomCodec) -> Timeline {
        let units = match codec {
            RoomCodec::Opus => 6,
            RoomCodec::G711(_) => 1,
        };
        Timeline { units, started: false, sequence: 0, raw: 0, position: 0, arrived: 0, samples: 0 }
    }

    pub fn started(&self) -> bool {
        self.started
    }

    /// Sequence number of the newest packet.
    pub fn newest(&self) -> u64 {
        self.sequence
    }

    /// Where the newest packet starts, samples.
    pub fn newest_at(&self) -> i64 {
        self.position.div_euclid(self.units)
    }

    /// When it came, microseconds.
    pub fn newest_arrived(&self) -> i64 {
        self.arrived
    }

    /// *units* of the RTP clock in samples.
    pub fn samples(&self, units: u32) -> i64 {
        i64::from(units) / self.units
    }

    /// Start anew with a packet: nothing before it counts.
    pub fn restart(&mut self, sequence: u64, timestamp: u32, now: i64) {
        self.started = true;
        self.sequence = sequence;
        self.raw = timestamp;
        self.arrived = now;
        self.samples = 0;
    }

    /// Return where a packet of *samples* starts, in samples.
    pub fn place(&mut self, sequence: u64, timestamp: u32, samples: i64, now: i64) -> i64 {
        let step = i64::from(timestamp.wrapping_sub(self.raw) as i32);
        if sequence <= self.sequence {
            // What was sent before does not come after, whatever its clock says: it was another,
            // or the packet was made so.
            let back = (self.sequence - sequence) as i64 * samples.max(1) * self.units;
            let step = if step > 0 { -back } else { step };
            return (self.position + step).div_euclid(self.units);
        }
        let passed = (now - self.arrived) / 125;
        let stepped = step.div_euclid(self.units);
        let jumped = (stepped - passed).abs() > JUMP || stepped < self.samples / 2;
        self.position += match jumped && samples > 0 {
            // Another clock from here on: this packet is where the time says.
            true => passed.max(self.samples) * self.units,
            false => step,
        };
        self.sequence = sequence;
        self.raw = timestamp;
        self.arrived = now;
        self.samples = samples;
        self.newest_at()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_wraps_and_a_pause_is_a_pause() {
        let mut line = Timeline::new(RoomCodec::Opus);
        line.restart(1, u32::MAX - 479, 0);
        let first = line.place(1, u32::MAX - 479, 160, 0);
        assert_eq!(line.place(2, 480, 160, 20_000) - first, 160);
        assert_eq!(line.place(3, 480 + 48_000, 160, 1_020_000) - first, 160 + 8000);
    }

    #[test]
    fn a_late_packet_is_never_placed_after_the_newest() {
        let mut line = Timeline::new(RoomCodec::Opus);
        line.restart(1, 5, 0);
        let first = line.place(1, 5, 160, 0);
        // The clock jumps back, and the packet before the jump comes after it.
        assert_eq!(line.place(3, 4_000_000_000, 160, 40_000) - first, 320);
        assert_eq!(line.place(2, 965, 160, 41_000) - first, 160);
        assert_eq!(line.newest_at() - first, 320);
    }

    #[test]
    fn a_clock_that_jumps_goes_on_with_the_time() {
        let mut line = Timeline::new(RoomCodec::Opus);
        line.restart(1, 5, 0);
        let first = line.place(1, 5, 160, 0);
        assert_eq!(line.place(2, 4_000_000_000, 160, 20_000) - first, 160);
        assert_eq!(line.place(3, 4_000_000_960, 160, 40_000) - first, 320);
        // A source that was not fed, and whose timestamps stood still meanwhile.
        assert_eq!(line.place(4, 4_000_001_920, 160, 3_040_000) - first, 320 + 24_000);
    }
}
