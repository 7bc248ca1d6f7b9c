//! The decoder of one track, with its concealment.

use super::RoomCodec;
use super::plc::Plc;
use crate::g711;
use crate::opus::{self, Decoder, MAX_SAMPLES};
use crate::types::Law;

pub enum Voice {
    Opus(Decoder),
    G711(Law, Box<Plc>),
}

impl Voice {
    pub fn new(codec: RoomCodec) -> Voice {
        match codec {
            RoomCodec::Opus => Voice::Opus(Decoder::new()),
            RoomCodec::G711(law) => Voice::G711(law, Box::new(Plc::new())),
        }
    }

    pub fn decode(&mut self, payload: &[u8], out: &mut [i16; MAX_SAMPLES]) -> usize {
        match self {
            Voice::Opus(decoder) => decoder.decode(payload, out),
            Voice::G711(law, plc) => {
                let n = g711::decode(*law, payload, out);
                plc.heard(&mut out[..n]);
                n
            }
        }
    }

    /// Forget what was decoded: what comes next does not follow it.
    pub fn reset(&mut self) {
        match self {
            Voice::Opus(decoder) => decoder.reset(),
            Voice::G711(_, plc) => **plc = Plc::new(),
        }
    }

    /// Whether *payload* carries a copy of the packet before it.
    pub fn has_fec(&self, payload: &[u8]) -> bool {
        matches!(self, Voice::Opus(_)) && opus::has_fec(payload)
    }

    /// Conceal *samples* before *next*; return how many, and whether they came from FEC.
    pub fn conceal(
        &mut self,
        samples: usize,
        next: Option<&[u8]>,
        out: &mut [i16; MAX_SAMPLES],
    ) -> (usize, bool) {
        match (self, next) {
            (Voice::Opus(decoder), Some(next)) if opus::has_fec(next) => {
                (decoder.recover(next, samples, out), true)
            }
            (Voice::Opus(decoder), _) => (decoder.conceal(samples, out), false),
            (Voice::G711(_, plc), _) => {
                let samples = samples.min(MAX_SAMPLES);
                plc.fill(&mut out[..samples]);
                (samples, false)
            }
        }
    }
}
