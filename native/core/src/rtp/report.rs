//! When and what to report by RTCP, and what their reports tell (RFC 3550 6.4).

use std::time::{Duration, Instant, SystemTime};

use crate::rtp::reception::Reception;
use crate::rtp::rtcp::{self, Report, ReportBlock, RtcpPacket, SenderInfo};
use crate::rtp::stream::Stream;

/// Time between reports (RFC 3550 6.2: the recommended fixed minimum).
pub const INTERVAL: Duration = Duration::from_secs(5);

/// Makes the reports of one call and reads those of the far end.
#[derive(Debug)]
pub struct Reporter {
    pub round_trip: Option<Duration>,
    /// Fraction of what we sent that they lost lately, in 1/256.
    pub their_loss: Option<u8>,
    /// They said BYE.
    pub goodbye: bool,
    cname: String,
    interval: Duration,
    next_at: Option<Instant>,
    /// Packets we had sent at the report before the last, and at the last.
    told: (u64, u64),
    /// Middle of their last SR's NTP time, and when it came.
    last_report: Option<(u32, Instant)>,
    /// Where NTP time stood when we first reported: it runs evenly from there, also when
    /// the wall clock is set.
    clock: Option<(Instant, u64)>,
}

impl Reporter {
    pub fn new(ssrc: u32, cname: String) -> Reporter {
        // RFC 3550 6.2: the interval is varied over [0.5, 1.5] so that parties do not fall
        // into step; a share taken from the random SSRC keeps this core free of chance.
        let share = ssrc & 0xFF;
        Reporter {
            round_trip: None,
            their_loss: None,
            goodbye: false,
            cname,
            interval: INTERVAL * (384 + share) / 512, // 0.75 to 1.25 of it
            next_at: None,
            told: (0, 0),
            last_report: None,
            clock: None,
        }
    }

    /// Tells whether a report is to be sent now; the first after half an interval.
    #[inline]
    pub fn due(&mut self, now: Instant) -> bool {
        let next_at = *self.next_at.get_or_insert(now + self.interval / 2);
        if now < next_at {
            return false;
        }
        self.next_at = Some(now + self.interval);
        true
    }

    /// Writes our report, with a block about their present SSRC if there is one.
    pub fn build(
        &mut self,
        stream: &Stream,
        reception: &mut Reception,
        now: Instant,
        wall: SystemTime,
        out: &mut Vec<u8>,
    ) {
        let report = self.report(stream, reception, now, wall);
        rtcp::build(&report, &self.cname, out);
    }

    /// Writes our last report, with a BYE: our stream ends.
    pub fn build_last(
        &mut self,
        stream: &Stream,
        reception: &mut Reception,
        now: Instant,
        wall: SystemTime,
        out: &mut Vec<u8>,
    ) {
        let report = self.report(stream, reception, now, wall);
        rtcp::build_last(&report, &self.cname, out);
    }

    fn report(
        &mut self,
        stream: &Stream,
        reception: &mut Reception,
        now: Instant,
        wall: SystemTime,
    ) -> Report {
        self.clock.get_or_insert_with(|| (now, rtcp::ntp(wall)));
        Report {
            ssrc: stream.ssrc,
            sender: self.sender(stream, now),
            block: self.block(reception, now),
        }
    }

    /// Returns NTP time at *now*; nothing before our first report.
    fn ntp(&self, now: Instant) -> Option<u64> {
        let (then, ntp) = self.clock?;
        Some(ntp.wrapping_add(rtcp::fixed_point(now.saturating_duration_since(then))))
    }

    /// Returns what we sent, nothing when that is nothing new.
    ///
    /// RFC 3550 6.4: the SR is issued if a site has sent any data packets during the
    /// interval since issuing the last report or the previous one, otherwise the RR is.
    fn sender(&mut self, stream: &Stream, now: Instant) -> Option<SenderInfo> {
        let (older, last) = self.told;
        self.told = (last, stream.packets);
        if stream.packets == older {
            return None;
        }
        Some(SenderInfo {
            ntp: self.ntp(now)?,
            timestamp: stream.timestamp,
            packets: stream.packets as u32, // modulo 2^32, as the field is
            octets: stream.octets as u32,
        })
    }

    fn block(&self, reception: &mut Reception, now: Instant) -> Option<ReportBlock> {
        let ssrc = reception.ssrc?;
        // RFC 3550 6.4.1: if no SR packet has been received yet, the DLSR field is set to zero.
        let (last_report, delay) = match self.last_report {
            Some((middle, at)) if middle != 0 => {
                (middle, rtcp::middle(rtcp::fixed_point(now.saturating_duration_since(at))))
            }
            _ => (0, 0),
        };
        Some(ReportBlock {
            ssrc,
            fraction_lost: reception.fraction_lost(),
            cumulative_lost: reception.cumulative_lost(),
            highest_sequence: reception.highest as u32,
            jitter: reception.jitter as u32,
            last_report,
            delay,
        })
    }

    /// Takes one RTCP datagram; false when it is none.
    pub fn receive(&mut self, data: &[u8], ours: u32, now: Instant) -> bool {
        let Ok(packets) = rtcp::parse(data) else { return false };
        for packet in packets {
            match packet {
                RtcpPacket::Goodbye => self.goodbye = true,
                RtcpPacket::Report { sender, blocks, .. } => self.take(sender, &blocks, ours, now),
            }
        }
        true
    }

    fn take(
        &mut self,
        sender: Option<SenderInfo>,
        blocks: &[ReportBlock],
        ours: u32,
        now: Instant,
    ) {
        if let Some(sender) = sender {
            self.last_report = Some((rtcp::middle(sender.ntp), now));
        }
        for block in blocks.iter().filter(|block| block.ssrc == ours) {
            self.their_loss = Some(block.fraction_lost);
            let trip = self.ntp(now).and_then(|ntp| rtcp::round_trip(block, ntp));
            self.round_trip = trip.or(self.round_trip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    struct End {
        stream: Stream,
        reception: Reception,
        reporter: Reporter,
    }

    fn end(ssrc: u32, now: Instant) -> End {
        End {
            stream: Stream::new(ssrc, 0, 0),
            reception: Reception::new(now),
            reporter: Reporter::new(ssrc, "x".to_owned()),
        }
    }

    impl End {
        fn build(&mut self, now: Instant, wall: SystemTime) -> Vec<u8> {
            let mut out = Vec::new();
            self.reporter.build(&self.stream, &mut self.reception, now, wall, &mut out);
            out
        }

        fn receive(&mut self, data: &[u8], now: Instant) {
            assert!(self.reporter.receive(data, self.stream.ssrc, now));
        }
    }

    #[test]
    fn two_ends_learn_loss_and_round_trip_from_each_other() {
        let now = Instant::now();
        let (mut near, mut far) = (end(1, now), end(2, now));
        let mut out = Vec::new();
        for sequence in 0..10 {
            near.stream.packet(8, 160, &mut out, |_| ());
            if !(3..5).contains(&sequence) {
                far.reception.update(1, sequence);
            }
        }
        // Their clocks have nothing to do with each other.
        let (wall, other) = (SystemTime::now(), SystemTime::UNIX_EPOCH);
        far.receive(&near.build(now, wall), now + 30 * MS);
        near.receive(&far.build(now + 2030 * MS, other), now + 2060 * MS);
        assert_eq!(near.reporter.their_loss, Some(51)); // 2 of 10, in 1/256
        let trip = near.reporter.round_trip.expect("a round trip");
        assert!(trip.abs_diff(60 * MS) < MS, "{trip:?}");
        assert_eq!(far.reporter.round_trip, None);
    }

    #[test]
    fn reports_are_about_five_seconds_apart_and_vary_by_ssrc() {
        let mut firsts = Vec::new();
        for ssrc in [0x00, 0x55, 0xFF] {
            let start = Instant::now();
            let mut reporter = end(ssrc, start).reporter;
            let due: Vec<u32> =
                (0..600).filter(|step| reporter.due(start + 100 * MS * *step)).collect();
            assert!((15..40).contains(&due[0]), "{due:?}");
            let fits = |pair: &[u32]| (37..65).contains(&(pair[1] - pair[0]));
            assert!(due.windows(2).all(fits), "{due:?}");
            firsts.push(due[0]);
        }
        firsts.dedup();
        assert_eq!(firsts.len(), 3);
    }

    #[test]
    fn goodbye_and_rubbish_are_told_apart() {
        let now = Instant::now();
        let mut subject = end(1, now);
        assert!(!subject.reporter.receive(&[0x80, 200], 1, now));
        assert!(!subject.reporter.goodbye);
        subject.receive(&[0x80, 203, 0, 0], now);
        assert!(subject.reporter.goodbye);
    }

    #[test]
    fn a_round_trip_that_no_report_of_ours_began_is_not_believed() {
        let now = Instant::now();
        let mut subject = end(1, now);
        let mut report = vec![0x81, 201, 0, 7, 0, 0, 0, 9, 0, 0, 0, 1];
        report.extend_from_slice(&[0; 12]);
        report.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        subject.receive(&report, now);
        assert_eq!(subject.reporter.round_trip, None);
    }
}
