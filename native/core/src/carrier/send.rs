//! To the carrier: a packet for each beat of the clock.

use std::net::SocketAddr;
use std::time::Instant;

use super::Carrier;
use crate::g711;
use crate::rtp::dtmf::{DtmfSender, Frame};
use crate::types::{Law, Negotiated};

impl Carrier {
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
