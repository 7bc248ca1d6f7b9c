//! What one source sends us: sequence validity, loss and jitter (RFC 3550 A.1, A.3, A.8).

use std::time::Instant;

use crate::rtp::packet::timestamp_distance;
use crate::types::RATE;

/// A larger step of the sequence number is a restart of the sender, once confirmed.
pub const MAX_JUMP: i32 = 1000;
/// A step further back is a restart as well: nothing is that late (RFC 3550 A.1).
pub const MAX_MISORDER: i32 = 100;
const FIRST_CYCLE: u64 = 1 << 16;
/// One second: a clock that was set, not jitter.
const MAX_TRANSIT_STEP: u32 = RATE;

/// Samples of [`RATE`] that fit between two moments.
#[inline]
pub fn samples_between(earlier: Instant, later: Instant) -> u64 {
    let passed = later.saturating_duration_since(earlier);
    passed.as_secs() * u64::from(RATE)
        + u64::from(passed.subsec_nanos()) * u64::from(RATE) / 1_000_000_000
}

/// Tracks the present SSRC; totals survive a change of SSRC and a restart.
#[derive(Debug)]
pub struct Reception {
    pub ssrc: Option<u32>,
    /// Changes when the numbering starts over.
    pub epoch: u32,
    /// The highest extended sequence number.
    pub highest: u64,
    pub duplicates: u64,
    /// In timestamp units.
    pub jitter: f64,
    started: Instant,
    expected_before: u64,
    unique_before: u64,
    unique: u64,
    received: u64,
    base: u64,
    seen: u64,
    jumped_to: Option<u16>,
    /// The SSRC before the present one.
    left: Option<u32>,
    transit: Option<u32>,
    prior_expected: u64,
    prior_received: u64,
}

impl Reception {
    /// *now* is where arrival times count from.
    pub fn new(now: Instant) -> Reception {
        Reception {
            ssrc: None,
            epoch: 0,
            highest: 0,
            duplicates: 0,
            jitter: 0.0,
            started: now,
            expected_before: 0,
            unique_before: 0,
            unique: 0,
            received: 0,
            base: 1,
            seen: 0,
            jumped_to: None,
            left: None,
            transit: None,
            prior_expected: 0,
            prior_received: 0,
        }
    }

    /// Accounts for a packet; returns its extended sequence number, or nothing for one
    /// to be dropped (a duplicate, or the first of a jump).
    #[inline]
    pub fn update(&mut self, ssrc: u32, sequence: u16) -> Option<u64> {
        if self.ssrc != Some(ssrc) {
            return self.change(ssrc, sequence);
        }
        let step = i32::from(sequence.wrapping_sub(self.highest as u16) as i16);
        if step == 1 {
            // Nearly always.
            self.highest += 1;
            self.seen = self.seen << 1 | 1;
            self.received += 1;
            self.unique += 1;
            self.jumped_to = None;
            return Some(self.highest);
        }
        self.out_of_turn(ssrc, sequence, step)
    }

    fn out_of_turn(&mut self, ssrc: u32, sequence: u16, step: i32) -> Option<u64> {
        let confirmed = self.jumped_to == Some(sequence);
        if !(-MAX_MISORDER..=MAX_JUMP).contains(&step) || confirmed {
            // RFC 3550 A.1: two sequential packets: assume the other side restarted.
            if confirmed {
                return Some(self.restart(ssrc, sequence));
            }
            self.jumped_to = Some(sequence.wrapping_add(1));
            return None;
        }
        self.jumped_to = None;
        if step > 0 {
            Some(self.ahead(step as u64))
        } else {
            self.behind(u64::from(step.unsigned_abs()))
        }
    }

    /// Follows a new SSRC at once, but back to the one before only for two in a row.
    ///
    /// A straggler of the old source, or two sources at once, must not void
    /// what was received with every packet.
    fn change(&mut self, ssrc: u32, sequence: u16) -> Option<u64> {
        if self.left == Some(ssrc) && self.jumped_to != Some(sequence) {
            self.jumped_to = Some(sequence.wrapping_add(1));
            return None;
        }
        self.left = self.ssrc;
        Some(self.restart(ssrc, sequence))
    }

    fn ahead(&mut self, step: u64) -> u64 {
        self.highest += step;
        self.seen = if step < 64 { self.seen << step | 1 } else { 1 };
        self.received += 1;
        self.unique += 1;
        self.highest
    }

    /// A reordered packet, a duplicate, or one too old to tell (taken for a duplicate).
    fn behind(&mut self, back: u64) -> Option<u64> {
        self.received += 1;
        let extended = self.highest - back; // back is at most MAX_MISORDER, highest over 65535
        if back >= 64 || self.seen >> back & 1 != 0 || extended < self.base {
            self.duplicates += 1;
            return None;
        }
        self.seen |= 1 << back;
        self.unique += 1;
        Some(extended)
    }

    /// Starts a new numbering; no loss is counted across it.
    fn restart(&mut self, ssrc: u32, sequence: u16) -> u64 {
        self.expected_before += self.expected();
        self.unique_before += self.unique;
        self.ssrc = Some(ssrc);
        self.epoch = self.epoch.wrapping_add(1);
        self.highest = FIRST_CYCLE + u64::from(sequence);
        self.base = self.highest;
        self.seen = 1;
        (self.received, self.unique) = (1, 1);
        self.jumped_to = None;
        self.transit = None;
        (self.prior_expected, self.prior_received) = (0, 0);
        self.highest
    }

    /// Takes the arrival at *now* of an audio packet into the jitter.
    ///
    /// RFC 3550 A.8. Not for telephone-events, whose timestamps stand still.
    #[inline]
    pub fn arrived(&mut self, timestamp: u32, now: Instant) {
        let transit = (samples_between(self.started, now) as u32).wrapping_sub(timestamp);
        if let Some(before) = self.transit.replace(transit) {
            let step = timestamp_distance(transit, before).unsigned_abs();
            if step < MAX_TRANSIT_STEP {
                self.jitter += (f64::from(step) - self.jitter) / 16.0;
            }
        }
    }

    /// Packets the present numbering should have had so far.
    pub fn expected(&self) -> u64 {
        if self.ssrc.is_some() { self.highest - self.base + 1 } else { 0 }
    }

    /// Different packets received over all numberings.
    pub fn received(&self) -> u64 {
        self.unique_before + self.unique
    }

    /// Packets lost on the wire over all numberings; duplicates do not make up for them.
    pub fn lost(&self) -> u64 {
        (self.expected_before + self.expected()).saturating_sub(self.received())
    }

    /// The present SSRC's loss as a report block has it: may be negative (RFC 3550 A.3).
    pub fn cumulative_lost(&self) -> i32 {
        let lost = self.expected() as i64 - self.received as i64;
        lost.clamp(-0x80_0000, 0x7F_FFFF) as i32
    }

    /// Returns the loss since the last call in 1/256 (RFC 3550 A.3).
    pub fn fraction_lost(&mut self) -> u8 {
        let expected = self.expected() as i64 - self.prior_expected as i64;
        let received = self.received as i64 - self.prior_received as i64;
        self.prior_expected = self.expected();
        self.prior_received = self.received;
        let lost = expected - received;
        if expected <= 0 || lost <= 0 { 0 } else { ((lost << 8) / expected).min(255) as u8 }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn received(sequences: &[u16], reception: &mut Reception) -> Vec<Option<u64>> {
        sequences.iter().map(|sequence| reception.update(1, *sequence)).collect()
    }

    fn reception() -> Reception {
        Reception::new(Instant::now())
    }

    #[test]
    fn sequence_numbers_are_extended_over_the_wrap_in_both_directions() {
        let told = received(&[65534, 0, 65535, 1], &mut reception());
        let first = told[0].expect("the first counts");
        assert_eq!(told, [0, 2, 1, 3].map(|step| Some(first + step)));
    }

    #[test]
    fn only_what_never_came_is_lost() {
        let mut subject = reception();
        received(&[10, 11, 13, 13, 12, 12, 17, 18], &mut subject);
        assert_eq!((subject.lost(), subject.duplicates, subject.received()), (3, 2, 6));
    }

    #[test]
    fn the_report_counts_duplicates_as_rfc_3550_does() {
        let mut subject = reception();
        received(&[10, 11, 11, 11], &mut subject);
        assert_eq!((subject.cumulative_lost(), subject.lost()), (-2, 0));
    }

    #[test]
    fn a_change_of_ssrc_starts_over_and_keeps_the_totals() {
        let mut subject = reception();
        received(&[1, 3], &mut subject);
        let epoch = subject.epoch;
        subject.update(2, 40_000);
        subject.update(2, 40_002);
        assert_eq!(subject.epoch, epoch + 1);
        assert_eq!((subject.lost(), subject.received(), subject.expected()), (2, 4, 3));
    }

    #[test]
    fn a_straggler_of_the_source_before_changes_nothing_and_its_return_does() {
        let mut subject = reception();
        subject.update(1, 10);
        subject.update(2, 500);
        let epoch = subject.epoch;
        assert_eq!(subject.update(1, 11), None);
        assert!(subject.update(2, 501).is_some());
        assert_eq!(subject.update(1, 12), None);
        assert_eq!(subject.epoch, epoch);
        assert!(subject.update(1, 13).is_some());
        assert_eq!(subject.epoch, epoch + 1);
    }

    #[test]
    fn a_jump_is_a_restart_once_two_packets_agree() {
        for jump in [MAX_JUMP + 1, 30_000, -MAX_JUMP - 1, -MAX_MISORDER - 1] {
            let mut subject = reception();
            let at = |step: i32| (5000 + jump + step) as u16;
            assert!(subject.update(1, 5000).is_some());
            assert_eq!(subject.update(1, at(0)), None);
            assert_eq!(subject.epoch, 1);
            assert!(subject.update(1, at(1)).is_some());
            assert_eq!((subject.epoch, subject.lost()), (2, 0));
        }
    }

    #[test]
    fn a_step_of_a_thousand_is_loss() {
        let mut subject = reception();
        received(&[0, MAX_JUMP as u16], &mut subject);
        assert_eq!(subject.lost(), MAX_JUMP as u64 - 1);
    }

    #[test]
    fn fraction_lost_is_that_since_the_last_report() {
        let mut subject = reception();
        received(&[0, 1, 2, 7], &mut subject);
        assert_eq!(subject.fraction_lost(), 128);
        received(&[8, 9], &mut subject);
        assert_eq!((subject.fraction_lost(), subject.fraction_lost()), (0, 0));
    }

    #[test]
    fn jitter_settles_at_the_mean_deviation_and_ignores_a_set_clock() {
        let start = Instant::now();
        let mut subject = Reception::new(start);
        for index in 0..2000u32 {
            let late = if index % 2 == 1 { 5 } else { 0 };
            let at = start + Duration::from_millis(u64::from(index * 20 + late));
            subject.arrived(index * 160, at);
        }
        assert!((subject.jitter - 40.0).abs() < 1.0, "{}", subject.jitter);
        subject.arrived(2000 * 160 + 1_000_000, start + Duration::from_secs(40));
        assert!(subject.jitter < 41.0);
    }
}
