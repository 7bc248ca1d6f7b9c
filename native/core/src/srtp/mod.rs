//! SRTP of the carrier's side, keys by SDES (RFC 3711, RFC 4568, RFC 7714).
//!
//! No crate does this as a carrier needs it: master key identifiers, key lifetimes, keys that
//! change in mid-call, and packets transformed in place. The primitives are aws-lc's.

mod keys;
mod receiver;
mod stream;
mod suite;

use std::fmt;
use std::time::Instant;

use crate::types::{Crypto, MasterKey};
use keys::Keys;
use receiver::Receiver;
use suite::Suite;

pub use receiver::{KEPT_AFTER_REKEY, MAX_SSRCS};

/// RTP packets under one master key (RFC 3711 9.2).
pub const MAX_LIFETIME: u64 = 1 << 48;
/// Master keys of one line (`sdp.crypto.MAX_KEYS`).
pub const MAX_KEYS: usize = 8;
/// Bytes of a key's name in a packet (RFC 4568 6.1).
pub const MAX_MKI_BYTES: usize = 128;
/// Keys of ours that are remembered with what they have served; one for each suite is usual.
const MAX_SENDERS: usize = 8;
/// Values of the SRTCP index (RFC 3711 3.4).
const RTCP_INDICES: u32 = 1 << 31;

/// What was agreed is nothing that we can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsupported(pub &'static str);

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Unsupported {}

/// Both directions of one call's SRTP. It lives as long as the call.
///
/// Our stream is one SSRC whose indices only go forward, whatever the keys do: no index is
/// used twice, so no key stream is, not even by a key that comes back.
#[derive(Default)]
pub struct Line {
    senders: Vec<Sender>,
    /// Index into `senders`; `None`: nothing was agreed yet.
    sender: Option<usize>,
    /// RFC 3711 3.3.1: after a re-keying occurs, the roll-over counter always maintains its
    /// sequence of values, i.e., it MUST NOT be reset to zero.
    sent: Option<u64>,
    /// RFC 3711 3.2.1: after a re-key, the SRTCP index MUST NOT be reset to zero.
    /// This is the last that was used; the first is 1, as everybody has it.
    sent_rtcp: u32,
    receiver: Option<Receiver>,
}

impl Line {
    pub fn new() -> Line {
        Line::default()
    }

    /// Take what was agreed, or leave everything as it is. Keys that stay leave their contexts
    /// alone.
    pub fn agree(&mut self, crypto: &Crypto, now: Instant) -> Result<(), Unsupported> {
        let suite = Suite::named(&crypto.suite).ok_or(Unsupported("SRTP suite"))?;
        check(suite, std::slice::from_ref(&crypto.send))?;
        check(suite, &crypto.receive)?;
        let sender = self.sender_of(suite, &crypto.send)?;
        match &mut self.receiver {
            Some(receiver) => receiver.rekey(suite, &crypto.receive, crypto.window, now)?,
            None => self.receiver = Some(Receiver::new(suite, &crypto.receive, crypto.window)?),
        }
        self.sender = Some(sender);
        Ok(())
    }

    fn sender_of(&mut self, suite: Suite, key: &MasterKey) -> Result<usize, Unsupported> {
        let known = self.senders.iter().position(|one| one.suite == suite && one.key == *key);
        if let Some(index) = known {
            return Ok(index);
        }
        if self.senders.len() >= MAX_SENDERS {
            return Err(Unsupported("too many keys of ours"));
        }
        let keys = Keys::derive(suite, &key.secret).ok_or(Unsupported("SRTP key"))?;
        let left = key.lifetime.unwrap_or(MAX_LIFETIME);
        self.senders.push(Sender { suite, key: key.clone(), keys, left });
        Ok(self.senders.len() - 1)
    }

    /// Packets so far that did not pass: not authentic, come again, or under a worn-out key.
    pub fn failures(&self) -> u64 {
        self.receiver.as_ref().map_or(0, |receiver| receiver.failures)
    }

    /// Open the RTP packet in `data` in place; its plain length, `None` when it is not theirs.
    /// What did not pass is nobody's, and its bytes are undefined.
    pub fn open_rtp(&mut self, data: &mut [u8], now: Instant) -> Option<usize> {
        self.receiver.as_mut()?.rtp(data, now)
    }

    /// The same for compound RTCP.
    pub fn open_rtcp(&mut self, data: &mut [u8], now: Instant) -> Option<usize> {
        self.receiver.as_mut()?.rtcp(data, now)
    }

    /// Protect our RTP packet in place. False: it must not leave, and `packet` is empty, so
    /// that it cannot.
    pub fn protect_rtp(&mut self, packet: &mut Vec<u8>) -> bool {
        let done = self.try_rtp(packet).is_some();
        if !done {
            packet.clear();
        }
        done
    }

    fn try_rtp(&mut self, packet: &mut Vec<u8>) -> Option<()> {
        let sender = self.senders.get_mut(self.sender?)?;
        let sequence = u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]);
        let index = match self.sent {
            None => u64::from(sequence),
            Some(last) => last + u64::from(sequence.wrapping_sub(last as u16)),
        };
        if sender.left == 0 || self.sent == Some(index) || index >= MAX_LIFETIME {
            return None;
        }
        // Before anything can fail: an index is never tried twice.
        self.sent = Some(index);
        sender.left -= 1;
        sender.keys.seal_rtp(packet, index, &sender.key.mki)
    }

    /// Protect our compound RTCP in place, as `protect_rtp`.
    pub fn protect_rtcp(&mut self, packet: &mut Vec<u8>) -> bool {
        let done = self.try_rtcp(packet).is_some();
        if !done {
            packet.clear();
        }
        done
    }

    fn try_rtcp(&mut self, packet: &mut Vec<u8>) -> Option<()> {
        let sender = self.senders.get_mut(self.sender?)?;
        let index = self.sent_rtcp + 1;
        if index >= RTCP_INDICES {
            return None;
        }
        self.sent_rtcp = index;
        sender.keys.seal_rtcp(packet, index, &sender.key.mki)
    }
}

/// One key of ours.
struct Sender {
    suite: Suite,
    key: MasterKey,
    keys: Keys,
    /// RTP packets that it may still protect.
    left: u64,
}

fn check(suite: Suite, keys: &[MasterKey]) -> Result<(), Unsupported> {
    let first = keys.first().ok_or(Unsupported("no SRTP key"))?;
    if keys.len() > MAX_KEYS {
        return Err(Unsupported("too many SRTP keys"));
    }
    if keys.iter().any(|key| key.secret.len() != suite.secret_len()) {
        return Err(Unsupported("length of an SRTP key"));
    }
    // RFC 4568 6.1: if more than one master key is given, all of them MUST have an MKI, and of
    // the same length; else a packet's end could not be told.
    let length = first.mki.len();
    let named = keys.len() == 1 || length > 0;
    if length > MAX_MKI_BYTES || !named || keys.iter().any(|key| key.mki.len() != length) {
        return Err(Unsupported("identifiers of SRTP keys"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
