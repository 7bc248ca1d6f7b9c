//! The carrier's side of a call: plain or secured RTP, without sockets.
//!
//! The counterpart of `bridge.media.carrier` and `rtp.receiver`. What differs: nothing is
//! decoded or buffered on the way to the room, packets pass as they came (see
//! [`crate::rtp::forward`]).

mod codecs;
mod receive;
mod send;
mod watch;

use std::net::SocketAddr;
use std::time::Instant;

use crate::rtp::dtmf::{DtmfReceiver, DtmfSender};
use crate::rtp::forward::Forwarding;
use crate::rtp::latch::{Latch, Own};
use crate::rtp::reception::Reception;
use crate::rtp::report::Reporter;
use crate::rtp::stream::Stream;
use crate::srtp::{Line, Unsupported};
use crate::types::{CarrierNotice, CarrierSetup, Law, Levels, Negotiated, RATE};

use codecs::Codecs;

pub use receive::{MAX_PAYLOAD, UNAUTHENTIC_SAID_AT};

const MAX_NOTICES: usize = 256;
const PER_MS: u32 = RATE / 1000;
const USUAL_SAMPLES: u32 = 20 * PER_MS;

/// A packet for the room.
#[derive(Debug)]
pub struct Forward<'a> {
    /// Unbroken but for what was lost on the wire; the first is below 2^15.
    pub sequence: u64,
    pub timestamp: u32,
    pub marker: bool,
    /// RFC 6464: -127 (silence) to 0 dBov.
    pub level: i8,
    /// In the track's law.
    pub payload: &'a [u8],
}

/// Counters of one call's carrier side (`bridge.media.seam.MediaStats`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CarrierStats {
    pub packets_received: u64,
    pub packets_sent: u64,
    pub packets_lost: u64,
    pub packets_refused: u64,
    pub jitter_ms: f64,
    pub round_trip_ms: Option<f64>,
    /// SRTP that did not pass; RTP among it counts as refused too.
    pub packets_unauthentic: u64,
    /// Packets that the room got.
    pub packets_forwarded: u64,
}

/// The carrier's side of one call.
pub struct Carrier {
    track: Law,
    latch: Latch,
    codecs: Codecs,
    reception: Reception,
    forwarding: Forwarding,
    stream: Stream,
    reporter: Reporter,
    keys: DtmfReceiver,
    dtmf: DtmfSender,
    negotiated: Option<Negotiated>,
    levels: Levels,
    /// Transmit has been open before.
    answered: bool,
    watched_from: Instant,
    timed_out: bool,
    /// Of one packet that we send.
    samples: u32,
    rtcp_source: Option<SocketAddr>,
    secured: Line,
    /// SRTP is agreed on.
    secure: bool,
    unauthentic_said: bool,
    accepted: u64,
    refused: u64,
    forwarded: u64,
    /// When the last valid packet came.
    last_at: Option<Instant>,
    notices: Vec<CarrierNotice>,
}

impl Carrier {
    pub fn new(setup: CarrierSetup, now: Instant) -> Carrier {
        Carrier {
            track: setup.track,
            latch: Latch::new(setup.signalling, setup.allow),
            codecs: Codecs::default(),
            reception: Reception::new(now),
            forwarding: Forwarding::default(),
            stream: Stream::new(setup.ssrc, setup.sequence, setup.timestamp),
            reporter: Reporter::new(setup.ssrc, setup.cname),
            keys: DtmfReceiver::default(),
            dtmf: DtmfSender::default(),
            negotiated: None,
            levels: Levels::CLOSED,
            answered: false,
            watched_from: now,
            timed_out: false,
            samples: USUAL_SAMPLES,
            rtcp_source: None,
            secured: Line::new(),
            secure: false,
            unauthentic_said: false,
            accepted: 0,
            refused: 0,
            forwarded: 0,
            last_at: None,
            notices: Vec::new(),
        }
    }

    /// Takes what was negotiated, or leaves everything as it is when its keys are none that we
    /// can use. The stream's identity goes on (RFC 3264 8.3).
    pub fn connect(
        &mut self,
        negotiated: Negotiated,
        own: Own<'_>,
        now: Instant,
    ) -> Result<(), Unsupported> {
        if let Some(crypto) = &negotiated.crypto {
            self.secured.agree(crypto, now)?;
        }
        self.secure = negotiated.crypto.is_some();
        self.latch.expect(negotiated.remote, own, now);
        self.codecs = Codecs::new(&negotiated.receive, negotiated.receive_dtmf_payload_type);
        self.samples = negotiated.ptime.clamp(10, 60) * PER_MS;
        self.negotiated = Some(negotiated);
        Ok(())
    }

    /// Opens or closes what may flow, at once.
    pub fn apply(&mut self, levels: Levels, now: Instant) {
        let before = std::mem::replace(&mut self.levels, levels);
        if levels.transmit && !self.answered {
            self.answered = true;
            self.open_window(now); // the answer after early media
        }
        if !levels.transmit {
            self.dtmf.clear();
        }
        if before.watchdog.is_none() {
            self.watched_from = now; // a limit that only changes counts from the last RTP
        }
        if levels.watchdog != before.watchdog {
            self.timed_out = false;
        }
    }

    /// Opens the latch's window, as the answer does.
    pub fn open_window(&mut self, now: Instant) {
        self.latch.open(now);
    }

    /// Queues *digits*; dropped when nothing may go out or they take no telephone-events.
    pub fn send_dtmf(&mut self, digits: &str) {
        let takes = |negotiated: &Negotiated| negotiated.dtmf_payload_type.is_some();
        if self.levels.transmit && self.negotiated.as_ref().is_some_and(takes) {
            self.dtmf.send(digits);
        }
    }

    /// Keeps *notice* until it is taken; the oldest goes when nobody takes any.
    fn tell(&mut self, notice: CarrierNotice) {
        if self.notices.len() >= MAX_NOTICES {
            self.notices.remove(0);
        }
        self.notices.push(notice);
    }

    /// Returns what has happened since the last time.
    #[inline]
    pub fn take_notices(&mut self) -> Vec<CarrierNotice> {
        std::mem::take(&mut self.notices)
    }

    /// Where our packets go now.
    pub fn target(&self) -> Option<SocketAddr> {
        self.latch.target()
    }

    pub fn stats(&self) -> CarrierStats {
        CarrierStats {
            packets_received: self.accepted,
            packets_sent: self.stream.packets,
            packets_lost: self.reception.lost(),
            packets_refused: self.refused,
            jitter_ms: self.reception.jitter * 1000.0 / f64::from(RATE),
            round_trip_ms: self.reporter.round_trip.map(|trip| trip.as_secs_f64() * 1000.0),
            packets_unauthentic: self.secured.failures(),
            packets_forwarded: self.forwarded,
        }
    }

    /// Returns sequence and timestamp of the next packet, and how many were sent.
    pub fn position(&self) -> (u16, u32, u64) {
        (self.stream.sequence, self.stream.timestamp, self.stream.packets)
    }
}

#[cfg(test)]
mod tests;
