//! What they send: their keys, also over a change of them, and the SSRCs under each.

use std::time::{Duration, Instant};

use super::keys::Keys;
use super::stream::{Stream, Window, guess};
use super::suite::Suite;
use super::{MAX_LIFETIME, Unsupported};
use crate::types::MasterKey;

/// SSRCs of the far end that are remembered with their replay windows, for each key.
pub const MAX_SSRCS: usize = 32;
/// Time in which packets under the key before are still taken (RFC 4568 7.1.4).
pub const KEPT_AFTER_REKEY: Duration = Duration::from_secs(5);
/// Packets of the replay window, when nothing was asked for. RFC 3711 3.3.2 wants 64.
const DEFAULT_WINDOW: usize = 128;
const MAX_WINDOW: usize = 0x7FFF;
const RTCP_WINDOW: usize = 128;

/// Opens what they send, under the keys of their last SDP.
pub struct Receiver {
    /// Packets that did not pass; they are nobody's, so nothing else may be learnt from them.
    pub failures: u64,
    current: Ring,
    /// The keys before, until then: packets were under way.
    before: Option<(Ring, Instant)>,
    /// A packet as it came, while it may take more than one try: an AEAD leaves nothing of
    /// what is not authentic.
    kept: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Kind {
    Rtp,
    Rtcp,
}

impl Receiver {
    pub fn new(
        suite: Suite,
        keys: &[MasterKey],
        window: Option<usize>,
    ) -> Result<Receiver, Unsupported> {
        let current = Ring::new(suite, keys, window)?;
        Ok(Receiver { failures: 0, current, before: None, kept: Vec::new() })
    }

    /// Take other keys of theirs; the same again changes nothing.
    pub fn rekey(
        &mut self,
        suite: Suite,
        keys: &[MasterKey],
        window: Option<usize>,
        now: Instant,
    ) -> Result<(), Unsupported> {
        if self.current.is(suite, keys) {
            return Ok(());
        }
        // Keys that come back within that time know their replays.
        let returning = self.before.take_if(|(ring, until)| now < *until && ring.is(suite, keys));
        let mut next = match returning {
            Some((ring, _)) => ring,
            None => Ring::new(suite, keys, window)?,
        };
        next.go_on_from(self.current.position());
        let before = std::mem::replace(&mut self.current, next);
        self.before = Some((before, now + KEPT_AFTER_REKEY));
        Ok(())
    }

    pub fn rtp(&mut self, data: &mut [u8], now: Instant) -> Option<usize> {
        self.open(Kind::Rtp, data, now)
    }

    pub fn rtcp(&mut self, data: &mut [u8], now: Instant) -> Option<usize> {
        self.open(Kind::Rtcp, data, now)
    }

    fn open(&mut self, kind: Kind, data: &mut [u8], now: Instant) -> Option<usize> {
        self.before.take_if(|(_, until)| now >= *until);
        self.kept.clear();
        if self.before.is_some() || self.current.is_undecided() {
            self.kept.extend_from_slice(data);
        }
        let mut length = self.current.open(kind, data, &self.kept);
        if let (None, Some((before, _))) = (length, &mut self.before) {
            data.copy_from_slice(&self.kept);
            length = before.open(kind, data, &self.kept);
        }
        if length.is_none() {
            self.failures = self.failures.saturating_add(1);
        }
        length
    }
}

/// The keys of one `a=crypto` line of theirs.
struct Ring {
    suite: Suite,
    window: usize,
    mki: usize,
    contexts: Vec<Context>,
}

/// One key of theirs.
struct Context {
    key: MasterKey,
    keys: Keys,
    /// RTP packets that may still pass, and that have.
    left: u64,
    used: u64,
    /// At most [`MAX_SSRCS`]; the RTP heard last is `present`.
    streams: Vec<Stream>,
    present: Option<u32>,
    heard: u64,
    /// Where an SSRC stood under the keys before, until it is heard under this one.
    ///
    /// Peers differ on whether the roll-over counter goes on (RFC 3711 3.3.1) or starts again
    /// (RFC 4568 7.1.4, an address that changed): the first packet that passes decides.
    before: Option<Position>,
}

/// An SSRC and an extended sequence number of its.
type Position = (u32, u64);

impl Ring {
    fn new(suite: Suite, keys: &[MasterKey], window: Option<usize>) -> Result<Ring, Unsupported> {
        let contexts: Option<Vec<Context>> =
            keys.iter().map(|key| Context::new(suite, key)).collect();
        Ok(Ring {
            suite,
            window: window.unwrap_or(0).clamp(DEFAULT_WINDOW, MAX_WINDOW),
            mki: keys.first().map_or(0, |key| key.mki.len()),
            contexts: contexts.ok_or(Unsupported("SRTP key"))?,
        })
    }

    fn is(&self, suite: Suite, keys: &[MasterKey]) -> bool {
        self.suite == suite && self.contexts.iter().map(|context| &context.key).eq(keys)
    }

    /// Return where the SSRC heard last stands.
    fn position(&self) -> Option<Position> {
        let context = self.contexts.iter().max_by_key(|context| context.used)?;
        match context.present {
            Some(ssrc) => Some((ssrc, context.highest(ssrc)?)),
            None => context.before, // not heard yet
        }
    }

    /// Note where an SSRC stood under the keys before.
    fn go_on_from(&mut self, position: Option<Position>) {
        let Some((ssrc, _)) = position else { return };
        for context in &mut self.contexts {
            if context.highest(ssrc).is_none() {
                context.before = position;
            }
        }
    }

    fn is_undecided(&self) -> bool {
        self.contexts.iter().any(|context| context.before.is_some())
    }

    /// Open `data`; `kept` is a copy of it when there may be another try.
    fn open(&mut self, kind: Kind, data: &mut [u8], kept: &[u8]) -> Option<usize> {
        let (window, mki) = (self.window, self.mki);
        let context = match self.contexts.as_mut_slice() {
            [only] if mki == 0 => only,
            // RFC 3711 8.1: the identifier in the packet tells the key.
            contexts => contexts.iter_mut().find(|context| context.is_named(kind, data))?,
        };
        if context.left == 0 {
            return None;
        }
        match kind {
            Kind::Rtp => context.rtp(data, kept, window),
            Kind::Rtcp => context.rtcp(data, window),
        }
    }
}

impl Context {
    fn new(suite: Suite, key: &MasterKey) -> Option<Context> {
        Some(Context {
            key: key.clone(),
            keys: Keys::derive(suite, &key.secret)?,
            left: key.lifetime.unwrap_or(MAX_LIFETIME),
            used: 0,
            streams: Vec::new(),
            present: None,
            heard: 0,
            before: None,
        })
    }

    fn is_named(&self, kind: Kind, data: &[u8]) -> bool {
        let mki = self.key.mki.len();
        let found = match kind {
            Kind::Rtp => self.keys.rtp_mki(data, mki),
            Kind::Rtcp => self.keys.rtcp_mki(data, mki),
        };
        found == Some(self.key.mki.as_slice())
    }

    fn rtp(&mut self, data: &mut [u8], kept: &[u8], window: usize) -> Option<usize> {
        let sequence = u16::from_be_bytes(*data.get(2..)?.first_chunk()?);
        let ssrc = u32::from_be_bytes(*data.get(8..)?.first_chunk()?);
        let mki = self.key.mki.len();
        let highest = self.highest(ssrc);
        let mut index = guess(highest, sequence);
        if !self.is_new(ssrc, index) {
            return None;
        }
        let mut length = self.keys.open_rtp(data, index, mki);
        if let (None, None, Some((known, last))) = (length, highest, self.before) {
            let goes_on = guess(Some(last), sequence);
            if known == ssrc && goes_on != index && kept.len() == data.len() {
                data.copy_from_slice(kept);
                index = goes_on;
                length = self.keys.open_rtp(data, index, mki);
            }
        }
        let length = length?;
        self.left -= 1;
        self.used += 1;
        self.before.take_if(|(known, _)| *known == ssrc);
        self.stream(ssrc, window).rtp.accept(index);
        self.present = Some(ssrc);
        Some(length)
    }

    fn highest(&self, ssrc: u32) -> Option<u64> {
        self.streams.iter().find(|stream| stream.ssrc == ssrc)?.rtp.highest()
    }

    fn is_new(&self, ssrc: u32, index: u64) -> bool {
        let known = self.streams.iter().find(|stream| stream.ssrc == ssrc);
        known.is_none_or(|stream| stream.rtp.is_new(index))
    }

    fn rtcp(&mut self, data: &mut [u8], window: usize) -> Option<usize> {
        let ssrc = u32::from_be_bytes(*data.get(4..)?.first_chunk()?);
        let index = self.keys.rtcp_index(data, self.key.mki.len())?;
        let known = self.streams.iter().find(|stream| stream.ssrc == ssrc);
        if known.is_some_and(|stream| !stream.rtcp.is_new(u64::from(index))) {
            return None;
        }
        let length = self.keys.open_rtcp(data, index, self.key.mki.len())?;
        self.stream(ssrc, window).rtcp.accept(u64::from(index));
        Some(length)
    }

    /// Return the stream of `ssrc`, from which something authentic came. The one that was
    /// silent longest is forgotten when there are too many.
    fn stream(&mut self, ssrc: u32, window: usize) -> &mut Stream {
        self.heard += 1;
        let at = match self.streams.iter().position(|stream| stream.ssrc == ssrc) {
            Some(at) => at,
            None => self.place(ssrc, window),
        };
        let stream = &mut self.streams[at];
        stream.heard = self.heard;
        stream
    }

    fn place(&mut self, ssrc: u32, window: usize) -> usize {
        let (rtp, rtcp) = (Window::new(window), Window::new(RTCP_WINDOW));
        let stream = Stream { ssrc, heard: self.heard, rtp, rtcp };
        let silent = (0..self.streams.len())
            .filter(|&at| Some(self.streams[at].ssrc) != self.present)
            .min_by_key(|&at| self.streams[at].heard);
        match silent {
            Some(at) if self.streams.len() >= MAX_SSRCS => {
                self.streams[at] = stream;
                at
            }
            _ => {
                self.streams.push(stream);
                self.streams.len() - 1
            }
        }
    }
}
