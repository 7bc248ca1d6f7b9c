//! What each payload type of our description means.

use crate::types::Law;

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Unknown,
    Audio(Law),
    Event,
    /// RFC 3389, and the type that gateways used before it; never passed on.
    ComfortNoise,
}

/// The kinds of all 128 payload types.
#[derive(Debug)]
pub struct Codecs([Kind; 128]);

impl Default for Codecs {
    fn default() -> Codecs {
        Codecs([Kind::Unknown; 128])
    }
}

impl Codecs {
    /// Audio wins over a telephone-event of the same number, and that over comfort noise.
    pub fn new(audio: &[(u8, Law)], event: Option<u8>) -> Codecs {
        let mut codecs = Codecs::default();
        for comfort_noise in [13, 19] {
            codecs.set(comfort_noise, Kind::ComfortNoise);
        }
        if let Some(event) = event {
            codecs.set(event, Kind::Event);
        }
        for (payload_type, law) in audio {
            codecs.set(*payload_type, Kind::Audio(*law));
        }
        codecs
    }

    fn set(&mut self, payload_type: u8, kind: Kind) {
        if let Some(entry) = self.0.get_mut(usize::from(payload_type)) {
            *entry = kind;
        }
    }

    /// *payload_type* is below 128 in every packet.
    #[inline]
    pub fn kind(&self, payload_type: u8) -> Kind {
        self.0[usize::from(payload_type & 0x7F)]
    }
}
