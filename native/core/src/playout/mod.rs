//! The room's tracks on their way to the carrier: jitter buffers, decoders, the mix.
//!
//! [`Mixer`] takes the packets of all tracks of one call as they arrive and gives out 16-bit PCM
//! at 8 kHz whenever the carrier's clock asks. Pure: `now` is an argument, nothing is read or
//! sent. What a track does is in [`track`]; how long it waits is decided in [`arrivals`].

mod arrivals;
mod pace;
mod packets;
mod plc;
mod queue;
mod stretch;
mod timeline;
mod track;
mod voice;

use std::time::{Duration, Instant};

use crate::rtp::red::Red;
use crate::types::Law;
use track::Track;

/// Tracks of one call that are kept; the one least recently heard goes for another.
pub const MAX_TRACKS: usize = 32;
/// More than any extended sequence number.
const MAX_SEQUENCE: u64 = 1 << 62;
/// Samples mixed at once: the longest packet towards a carrier, 60 ms.
const BLOCK: usize = 480;

/// What a track of the room is encoded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomCodec {
    /// Any Opus (RFC 7587): timestamps of 48 kHz.
    Opus,
    /// G.711, the track of another phone: timestamps of 8 kHz.
    G711(Law),
}

/// Counters of all tracks since the start, and how the dominant track stands now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PlayoutStats {
    /// Packets that arrived, also those that came while the gate was closed.
    pub packets: u64,
    /// Packets that had not come when they were to be played, and packets before others.
    pub lost: u64,
    /// Packets that came after their time; dropped.
    pub late: u64,
    /// Packets that are none: junk, too large, twice the same.
    pub invalid: u64,
    /// Audio made up for what was not there, ms (without `fec_ms`).
    pub concealed_ms: u64,
    /// Audio recovered from the FEC of a later packet, or a copy in it, ms.
    pub fec_ms: u64,
    /// Audio thrown away because too much of it waited, or to shorten the delay, ms.
    pub shed_ms: u64,
    /// Audio added to lengthen the delay, ms.
    pub stretched_ms: u64,
    /// Audio that was not decoded because it is known to be silence, ms.
    pub skipped_ms: u64,
    /// Delay that the arrivals of the dominant track ask for, ms.
    pub target_ms: f32,
    /// Audio of the dominant track that waits, ms.
    pub depth_ms: f32,
    /// Mean time between the arrival of a packet and the tick that took it, ms.
    pub wait_mean_ms: f32,
    pub wait_max_ms: f32,
    /// Interarrival jitter of the dominant track (RFC 3550 6.4.1), ms.
    pub jitter_ms: f32,
}

/// What is counted, in samples of 8 kHz where not packets.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    packets: u64,
    lost: u64,
    late: u64,
    invalid: u64,
    concealed: u64,
    fec: u64,
    shed: u64,
    stretched: u64,
    skipped: u64,
    taken: u64,
    waited_us: u64,
    wait_max_us: u64,
}

/// All the room's tracks of one call.
pub struct Mixer {
    /// Times are microseconds since then.
    origin: Instant,
    tracks: Vec<Track>,
    counters: Counters,
}

impl Mixer {
    pub fn new(now: Instant) -> Mixer {
        Mixer { origin: now, tracks: Vec::new(), counters: Counters::default() }
    }

    /// Take a packet of the track *ssrc*.
    ///
    /// *sequence* is the extended sequence number (RFC 3550 A.1), *timestamp* that of the
    /// packet. A first packet of an *ssrc* or of another codec starts its track.
    pub fn push(
        &mut self,
        ssrc: u32,
        sequence: u64,
        timestamp: u32,
        codec: RoomCodec,
        payload: &[u8],
        now: Instant,
    ) {
        let now = self.since(now);
        self.counters.packets += 1;
        if sequence > MAX_SEQUENCE {
            self.counters.invalid += 1;
            return;
        }
        let at = match self.tracks.iter().position(|t| t.ssrc() == ssrc) {
            Some(at) if self.tracks[at].codec() == codec => at,
            Some(at) => {
                self.tracks[at] = Track::new(ssrc, codec, now);
                at
            }
            None => {
                if self.tracks.len() >= MAX_TRACKS {
                    self.forget_one();
                }
                self.tracks.push(Track::new(ssrc, codec, now));
                self.tracks.len() - 1
            }
        };
        self.tracks[at].push(sequence, timestamp, payload, now, &mut self.counters);
    }

    /// Take a packet of the track *ssrc* with copies of those before it (RFC 2198), all of
    /// *payload_type*, which is *codec*.
    #[allow(clippy::too_many_arguments)]
    pub fn push_red(
        &mut self,
        ssrc: u32,
        sequence: u64,
        timestamp: u32,
        codec: RoomCodec,
        payload_type: u8,
        payload: &[u8],
        now: Instant,
    ) {
        if payload.is_empty() {
            return self.push(ssrc, sequence, timestamp, codec, payload, now);
        }
        let Some(red) = Red::parse(payload, payload_type) else {
            self.counters.packets += 1;
            self.counters.invalid += 1;
            return;
        };
        self.push(ssrc, sequence, timestamp, codec, red.primary, now);
        let now = self.since(now);
        let Some(track) = self.tracks.iter_mut().find(|t| t.ssrc() == ssrc) else { return };
        for block in red.blocks() {
            track.push_copy(sequence, block, now);
        }
    }

    /// Write the next *out* of the mix; false: there is nothing to say (*out* is silence then).
    ///
    /// Call it once per packet towards the carrier with the samples of that packet.
    pub fn pull(&mut self, out: &mut [i16], now: Instant) -> bool {
        let now = self.since(now);
        let mut said = false;
        for block in out.chunks_mut(BLOCK) {
            said |= self.pull_block(block, now);
        }
        said
    }

    fn pull_block(&mut self, out: &mut [i16], now: i64) -> bool {
        let mut sum = [0i32; BLOCK];
        let sum = &mut sum[..out.len()];
        let mut said = false;
        for track in &mut self.tracks {
            said |= track.play(sum, now, &mut self.counters);
        }
        for (to, from) in out.iter_mut().zip(sum.iter()) {
            *to = (*from).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        }
        said
    }

    /// Drop all that waits: the gate is closed. Call it each tick in place of `pull`; packets
    /// are not decoded then, while the statistics of arrival go on.
    pub fn discard(&mut self, _now: Instant) {
        for track in &mut self.tracks {
            track.discard();
        }
    }

    /// The track *ssrc* has ended.
    pub fn remove(&mut self, ssrc: u32) {
        self.tracks.retain(|t| t.ssrc() != ssrc);
    }

    /// How many tracks there are.
    pub fn tracks(&self) -> usize {
        self.tracks.len()
    }

    /// Time from *now*, in `[0, period)`, until the tick at which the next packet of the
    /// dominant track has just waited for its buffer and not longer; `None`: not known yet.
    pub fn slot(&self, now: Instant, period: Duration) -> Option<Duration> {
        let now = self.since(now);
        let period = i64::try_from(period.as_micros()).ok().filter(|p| *p > 0)?;
        let ready = self.dominant()?.slot(now, period)?;
        Some(Duration::from_micros((ready - now).rem_euclid(period) as u64))
    }

    /// Time from *now* until the next packet of the dominant track has waited for its buffer,
    /// microseconds; less than 0: it has waited longer already. `None`: nothing is playing.
    pub fn ready_in(&self, now: Instant, period: Duration) -> Option<i64> {
        let now = self.since(now);
        let period = i64::try_from(period.as_micros()).ok().filter(|p| *p > 0)?;
        Some(self.dominant().filter(|track| track.playing())?.ready(period) - now)
    }

    pub fn stats(&self) -> PlayoutStats {
        let count = &self.counters;
        let mut stats = PlayoutStats {
            packets: count.packets,
            lost: count.lost,
            late: count.late,
            invalid: count.invalid,
            concealed_ms: count.concealed / 8,
            fec_ms: count.fec / 8,
            shed_ms: count.shed / 8,
            stretched_ms: count.stretched / 8,
            skipped_ms: count.skipped / 8,
            wait_mean_ms: count.waited_us as f32 / 1000.0 / count.taken.max(1) as f32,
            wait_max_ms: count.wait_max_us as f32 / 1000.0,
            ..PlayoutStats::default()
        };
        if let Some(track) = self.dominant() {
            track.describe(&mut stats);
        }
        stats
    }

    /// The track that was last loud, or else last came.
    fn dominant(&self) -> Option<&Track> {
        self.tracks.iter().max_by_key(|t| (t.loud(), t.heard()))
    }

    fn forget_one(&mut self) {
        if let Some((at, _)) = self.tracks.iter().enumerate().min_by_key(|(_, t)| t.heard()) {
            self.tracks.swap_remove(at);
        }
    }

    fn since(&self, now: Instant) -> i64 {
        now.saturating_duration_since(self.origin).as_micros() as i64
    }
}
