//! The words that the parts share: what was agreed with the carrier, and what may flow.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Samples a second of everything on the carrier's side.
pub const RATE: u32 = 8000;

/// A G.711 law. The payload types are static (RFC 3551 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Law {
    /// PCMU, payload type 0.
    Mu,
    /// PCMA, payload type 8.
    A,
}

/// What may flow now: a pure function of the call's state, applied whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Levels {
    /// RTP leaves us towards the carrier, silence when there is nothing to say.
    pub transmit: bool,
    /// The room's audio goes out; else it is discarded, never kept.
    pub agent_audio: bool,
    /// The carrier's audio enters the room.
    pub caller_audio: bool,
    /// Time without RTP before it is told; `None`: suspended.
    pub watchdog: Option<Duration>,
    /// The same while none has come yet; `None`: as `watchdog`.
    pub watchdog_initial: Option<Duration>,
}

impl Levels {
    /// Nothing flows.
    pub const CLOSED: Levels = Levels {
        transmit: false,
        agent_audio: false,
        caller_audio: false,
        watchdog: None,
        watchdog_initial: None,
    };
}

/// What offer/answer settled, from our point of view (`sdp.negotiated.Negotiated`).
#[derive(Clone, Debug)]
pub struct Negotiated {
    /// Where our RTP goes; `None`: nowhere (all ports 0, a name that is no address).
    pub remote: Option<SocketAddr>,
    /// Where our RTCP goes as signalled; 0: nowhere.
    pub remote_rtcp_port: u16,
    /// What we send, and its payload type in *their* description.
    pub send: Law,
    pub payload_type: u8,
    /// Payload types of *our* description that we take.
    pub receive: Vec<(u8, Law)>,
    pub dtmf_payload_type: Option<u8>,
    pub receive_dtmf_payload_type: Option<u8>,
    /// Packet time that we send, milliseconds; taken into 10 to 60.
    pub ptime: u32,
    /// `None`: plain RTP.
    pub crypto: Option<Crypto>,
}

/// The keys of SDES SRTP (RFC 4568), one suite for both directions.
#[derive(Clone)]
pub struct Crypto {
    pub suite: String,
    pub send: MasterKey,
    pub receive: Vec<MasterKey>,
    /// Packets of replay protection that were asked for.
    pub window: Option<usize>,
}

/// Master key and salt, concatenated, with its identifier and how many packets it may protect.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    pub secret: Vec<u8>,
    /// How packets name it; empty: they do not.
    pub mki: Vec<u8>,
    pub lifetime: Option<u64>,
}

// Keys never reach a log.
impl std::fmt::Debug for Crypto {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crypto").field("suite", &self.suite).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MasterKey").finish_non_exhaustive()
    }
}

/// What the carrier's side is made of: stays the same for a call.
#[derive(Clone, Debug)]
pub struct CarrierSetup {
    /// Identity of our stream (RFC 3550 5.1); goes on over every change.
    pub ssrc: u32,
    pub sequence: u16,
    pub timestamp: u32,
    /// The law of the track in the room.
    pub track: Law,
    /// The peer of the SIP dialog: its network may send media.
    pub signalling: Option<IpAddr>,
    /// Networks that may send media besides.
    pub allow: Vec<ipnet::IpNet>,
    pub cname: String,
}

/// What the carrier's side has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CarrierNotice {
    /// No RTP came for the watchdog's time; `ever`: some had come before.
    TimedOut { ever: bool },
    /// A telephone-event ended, or its end was lost.
    Key { digit: char, duration_ms: u32 },
    /// SRTP packets that did not pass: told once in a call.
    NotAuthentic,
}
