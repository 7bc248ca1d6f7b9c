//! The carrier's side of a call: plain or secured RTP, without sockets.
//!
//! The counterpart of `bridge.media.carrier` and `rtp.receiver`. What differs: nothing is
//! decoded or buffered on the way to the room, packets pass as they came (see
//! [`crate::rtp::forward`]).

mod codecs;

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use crate::g711;
use crate::rtp::dtmf::{DtmfReceiver, DtmfSender, Frame};
use crate::rtp::forward::{Arrival, Forwarding};
use crate::rtp::latch::{Latch, Own, canonical, same};
use crate::rtp::packet::{Header, is_rtcp, parse};
use crate::rtp::reception::Reception;
use crate::rtp::report::Reporter;
use crate::rtp::stream::Stream;
use crate::srtp::{Line, Unsupported};
use crate::types::{CarrierNotice, CarrierSetup, Law, Levels, Negotiated, RATE};

use codecs::{Codecs, Kind};

/// A packet with more audio (200 ms) is refused.
pub const MAX_PAYLOAD: usize = 200 * RATE as usize / 1000;
/// Packets of SRTP that did not pass, after which it is told: once in a call.
pub const UNAUTHENTIC_SAID_AT: u64 = 50;
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

    // What the call tells us.

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

    // What the network tells us.

    /// Takes a datagram of the RTP socket; returns what the room gets of it.
    #[inline]
    pub fn receive<'a>(
        &'a mut self,
        datagram: &'a mut [u8],
        from: SocketAddr,
        own: Own<'_>,
        now: Instant,
    ) -> Option<Forward<'a>> {
        self.negotiated.as_ref()?;
        if is_rtcp(datagram) {
            self.receive_rtcp(datagram, from, now);
            return None;
        }
        let datagram = self.open(datagram, now)?;
        let known = parse(datagram).ok().and_then(|header| {
            let kind = self.codecs.kind(header.payload_type);
            let fits = !matches!(kind, Kind::Audio(_)) || header.payload.len() <= MAX_PAYLOAD;
            (kind != Kind::Unknown && fits).then_some((header, kind))
        });
        let Some((header, kind)) = known
            .filter(|(header, _)| self.latch.accept(from, header.ssrc, header.sequence, own, now))
        else {
            self.refused += 1;
            return None;
        };
        self.accepted += 1;
        self.last_at = Some(now);
        let sequence = self.reception.update(header.ssrc, header.sequence)?;
        let payload = datagram.get_mut(header.payload.clone())?;
        self.take(&header, kind, sequence, payload, now)
    }

    /// Returns the RTP packet in *datagram*. What is not authentic is nobody's: it latches
    /// nothing, and is no sign of life.
    #[inline]
    fn open<'a>(&mut self, datagram: &'a mut [u8], now: Instant) -> Option<&'a mut [u8]> {
        if !self.secure {
            return Some(datagram);
        }
        let opened = self.secured.open_rtp(datagram, now);
        if opened.is_none() {
            self.refused += 1;
            self.unauthentic();
        }
        datagram.get_mut(..opened?)
    }

    fn unauthentic(&mut self) {
        if !self.unauthentic_said && self.secured.failures() >= UNAUTHENTIC_SAID_AT {
            self.unauthentic_said = true;
            self.notices.push(CarrierNotice::NotAuthentic);
        }
    }

    /// Takes a packet that counts and came once.
    #[inline]
    fn take<'a>(
        &'a mut self,
        header: &Header,
        kind: Kind,
        sequence: u64,
        payload: &'a mut [u8],
        now: Instant,
    ) -> Option<Forward<'a>> {
        let law = match kind {
            Kind::Audio(law) => {
                self.reception.arrived(header.timestamp, now);
                Some(law).filter(|_| !payload.is_empty())
            }
            Kind::Event => {
                self.keys.receive(header.ssrc, header.timestamp, payload, now);
                None
            }
            Kind::ComfortNoise | Kind::Unknown => None,
        };
        if !self.levels.caller_audio {
            self.forwarding.interrupt();
            return None;
        }
        let Some(law) = law else {
            self.forwarding.withhold(self.reception.epoch, sequence);
            return None;
        };
        let place = self.forwarding.place(Arrival {
            epoch: self.reception.epoch,
            sequence,
            timestamp: header.timestamp,
            marker: header.marker,
            samples: payload.len() as u32,
            at: now,
        })?;
        g711::translate(law, self.track, payload);
        self.forwarded += 1;
        Some(Forward {
            sequence: place.sequence,
            timestamp: place.timestamp,
            marker: place.marker,
            level: g711::level(self.track, payload),
            payload,
        })
    }

    /// Takes a datagram of the RTCP socket.
    pub fn receive_rtcp(&mut self, datagram: &mut [u8], from: SocketAddr, now: Instant) {
        let from = canonical(from);
        if self.negotiated.is_none() || self.latch.target().is_none_or(|to| to.ip() != from.ip()) {
            return;
        }
        let size =
            if self.secure { self.secured.open_rtcp(datagram, now) } else { Some(datagram.len()) };
        let Some(packets) = size.and_then(|size| datagram.get(..size)) else {
            self.unauthentic();
            return;
        };
        if self.reporter.receive(packets, self.stream.ssrc, now) {
            self.rtcp_source = Some(from);
        }
    }

    // What the clock tells us.

    /// Samples of one packet that we send.
    pub fn samples(&self) -> usize {
        self.samples as usize
    }

    /// Whether the room's audio may go out; else it is discarded, never kept.
    pub fn wants_audio(&self) -> bool {
        self.may_send() && self.levels.agent_audio
    }

    fn may_send(&self) -> bool {
        self.levels.transmit && self.negotiated.is_some() && self.latch.target().is_some()
    }

    /// Writes the next packet of the steady clock: an event, *pcm* (one packet's), or silence.
    ///
    /// Nothing when nothing may leave; time passes all the same.
    pub fn send(
        &mut self,
        pcm: Option<&[i16]>,
        out: &mut Vec<u8>,
        _now: Instant,
    ) -> Option<SocketAddr> {
        let to = self.latch.target().filter(|_| self.levels.transmit);
        let (Some(to), Some(negotiated)) = (to, &self.negotiated) else {
            self.stream.skip(self.samples);
            return None;
        };
        let (samples, law) = (self.samples, negotiated.send);
        let audio = pcm.filter(|_| self.levels.agent_audio);
        match next_key(&mut self.dtmf, negotiated, self.stream.timestamp, samples) {
            Some((payload_type, Frame::Event { timestamp, payload, marker })) => {
                self.stream.event(payload_type, &payload, timestamp, marker, samples, out);
            }
            frame => {
                let audio = audio.filter(|_| frame.is_none());
                self.stream.packet(negotiated.payload_type, samples, out, |out| {
                    fill(law, audio.unwrap_or_default(), samples as usize, out);
                });
            }
        }
        (!self.secure || self.secured.protect_rtp(out)).then_some(to)
    }

    /// Takes note that *packets* were not sent in time: the timestamp advances over them.
    pub fn skip(&mut self, packets: u32) {
        self.stream.skip(packets.wrapping_mul(self.samples));
    }

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
            self.notices.push(notice);
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
            self.notices.push(CarrierNotice::TimedOut { ever: self.last_at.is_some() });
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

/// Returns what goes out in place of audio, with the payload type of events.
fn next_key(
    dtmf: &mut DtmfSender,
    negotiated: &Negotiated,
    timestamp: u32,
    samples: u32,
) -> Option<(u8, Frame)> {
    let payload_type = negotiated.dtmf_payload_type.filter(|_| dtmf.busy())?;
    Some((payload_type, dtmf.next_frame(timestamp, samples as u16)?))
}

/// Appends *samples* of *pcm* in *law* to *out*, silence where it ends.
fn fill(law: Law, pcm: &[i16], samples: usize, out: &mut Vec<u8>) {
    let end = out.len() + samples;
    g711::encode(law, pcm.get(..samples).unwrap_or(pcm), out);
    out.resize(end, g711::silence_byte(law));
}
