//! From the carrier to the room: what counts, and what of it is passed on.

use std::net::SocketAddr;
use std::time::Instant;

use super::codecs::Kind;
use super::{Carrier, Forward};
use crate::g711;
use crate::rtp::forward::Arrival;
use crate::rtp::latch::{Own, canonical};
use crate::rtp::packet::{Header, is_rtcp, parse};
use crate::types::{CarrierNotice, RATE};

/// A packet with more audio (200 ms) is refused.
pub const MAX_PAYLOAD: usize = 200 * RATE as usize / 1000;
/// Packets of SRTP that did not pass, after which it is told: once in a call.
pub const UNAUTHENTIC_SAID_AT: u64 = 50;

impl Carrier {
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
            self.tell(CarrierNotice::NotAuthentic);
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
}
