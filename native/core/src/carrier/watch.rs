//! What the clock brings about besides packets: keys that end, silence of the wire, reports.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use super::Carrier;
use crate::rtp::latch::{canonical, same};
use crate::types::CarrierNotice;

impl Carrier {
    /// Looks after keys and the silence of the wire; writes a report when one is due.
    pub fn poll(
        &mut self,
        now: Instant,
        wall: SystemTime,
        out: &mut Vec<u8>,
    ) -> Option<SocketAddr> {
        self.keys.poll(now);
        while let Some(key) = self.keys.keys.pop_front() {
            let notice = CarrierNotice::Key { digit: key.digit, duration_ms: key.duration_ms };
            self.tell(notice);
        }
        self.watch(now);
        // RFC 3264 5.1: RTCP is still sent and received for sendonly, recvonly, and inactive
        // streams.
        if !self.answered || !self.reporter.due(now) {
            return None;
        }
        self.reporter.build(&self.stream, &mut self.reception, now, wall, out);
        self.protect_report(out)
    }

    fn watch(&mut self, now: Instant) {
        let initial = self.levels.watchdog_initial.filter(|limit| *limit > Duration::ZERO);
        let limit = match self.last_at {
            None => self.levels.watchdog.map(|limit| initial.unwrap_or(limit)),
            Some(_) => self.levels.watchdog,
        };
        let Some(limit) = limit.filter(|_| !self.timed_out) else { return };
        let since = self.last_at.map_or(self.watched_from, |at| at.max(self.watched_from));
        if now.saturating_duration_since(since) >= limit {
            self.timed_out = true;
            self.tell(CarrierNotice::TimedOut { ever: self.last_at.is_some() });
        }
    }

    /// Writes our last report, with a BYE.
    pub fn goodbye(
        &mut self,
        now: Instant,
        wall: SystemTime,
        out: &mut Vec<u8>,
    ) -> Option<SocketAddr> {
        // RFC 3550 6.3.7: a participant which never sent an RTP or RTCP packet MUST NOT send
        // a BYE packet when it leaves the group.
        if self.stream.packets == 0 {
            return None;
        }
        self.reporter.build_last(&self.stream, &mut self.reception, now, wall, out);
        self.protect_report(out)
    }

    /// Makes the report in *out* ready to leave; returns where it goes.
    fn protect_report(&mut self, out: &mut Vec<u8>) -> Option<SocketAddr> {
        let to = self.rtcp_target()?;
        (!self.secure || self.secured.protect_rtcp(out)).then_some(to)
    }

    /// Returns where reports go: as signalled, or where theirs come from when latched.
    fn rtcp_target(&self) -> Option<SocketAddr> {
        let target = self.latch.target()?;
        let negotiated = self.negotiated.as_ref()?;
        if negotiated.remote_rtcp_port == 0 {
            return None; // also a zero address, to which nothing is sent (RFC 3264 8.4)
        }
        let signalled = negotiated.remote.map(canonical);
        if signalled.is_some_and(|signalled| same(signalled, target)) {
            let mut to = target;
            to.set_port(negotiated.remote_rtcp_port);
            return Some(to);
        }
        self.rtcp_source.filter(|source| source.ip() == target.ip())
    }
}
