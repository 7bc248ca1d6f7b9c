//! One track: its jitter buffer, and what is played of it at each tick.
//!
//! Positions are samples of 8 kHz on the track's [`Timeline`], times are microseconds. A packet
//! is *ready* when one of the fastest would have waited for the target by then. What was left
//! over at a tick of all that was ready by then is the delay that could be given back; below 0,
//! the delay that is missing.

use super::arrivals::{Arrivals, MAX_TARGET};
use super::pace::Pace;
use super::packets::{CAPACITY, MAX_PAYLOAD, Packet, Packets};
use super::queue::Queue;
use super::stretch::{self, FADE, Level};
use super::timeline::Timeline;
use super::voice::Voice;
use super::{Counters, PlayoutStats, RoomCodec};
use crate::opus::{self, MAX_SAMPLES};
use crate::rtp::red::Block;

/// Samples of 20 ms.
const FRAME: i64 = 160;
/// Concealed when nothing comes, fading from `FADE_FROM` on; then the track waits.
const MAX_DRY: i64 = 800;
const FADE_FROM: i64 = 320;
/// The same while the sender said that it pauses: its comfort noise.
const MAX_COMFORT: i64 = 16_000;
/// Audio that may wait; more is shed down to the target.
const MAX_DEPTH: i64 = 1600;
/// A gap that is none: rounding of timestamps.
const ROUNDING: i64 = 20;
/// Microseconds of a sample.
const SAMPLE: i64 = 125;
/// Audio is given back where it would still come that much earlier than needed, and added where
/// it comes less than that before it is needed, microseconds.
const SURE: i64 = 1750;
const LIKELY: i64 = 750;
/// Time from when a block is ready to the tick, microseconds: just less than a turn of the media
/// thread, which plays before it receives.
const MARGIN: i64 = 2000;
/// A better slot is taken when it is that much later, or that much earlier.
const SLOT_LATER: i64 = 1500;
const SLOT_EARLIER: i64 = 4000;
/// Samples to wait for a quiet moment, then for a moment in regular speech, then for none.
const PATIENCE: i64 = 24_000;
/// Excess for which no quiet moment is waited for.
const URGENT: i64 = 480;
/// Shares of lost packets at which FEC is waited for, and no longer.
const FEC_ON: f32 = 0.01;
const FEC_OFF: f32 = 0.002;
/// Packets without FEC, after one with it, for which it counts as usual: pauses have none.
const FEC_USUAL: u32 = 100;
/// Packets before one that carries copies, where their place is looked for.
const MAX_BEHIND: u64 = 16;
/// Frames of silence, equal packets, after which their like is not decoded.
const SILENT_FRAMES: u32 = 5;
/// An amplitude that G.711 does not carry.
const INAUDIBLE: u16 = 4;
/// Time after which a track without packets does not vote for the slot.
const GONE: i64 = 500_000;

pub struct Track {
    ssrc: u32,
    codec: RoomCodec,
    voice: Voice,
    packets: Packets,
    timeline: Timeline,
    arrivals: Arrivals,
    queue: Queue,
    pace: Pace,
    level: Level,
    playing: bool,
    /// The decoder knows nothing, or something else than what comes next.
    stale: bool,
    /// Packets were left out: what would have gone on is cross-faded with what comes.
    splice: bool,
    /// Sequence number to be played next.
    next: u64,
    /// The last packet, if it was from long ago.
    stray: Option<u64>,
    /// Where the last sample decoded ended.
    expected: i64,
    /// Samples concealed beyond `expected` because nothing was there.
    dry: i64,
    /// What was concealed had faded: what comes is faded in.
    faded: bool,
    /// Samples of a packet.
    frame: i64,
    /// When a packet last came, and when one was last loud.
    heard: i64,
    loud: i64,
    /// The sender pauses (DTX).
    pausing: bool,
    /// Share of packets that were lost, of the last some hundred.
    loss: f32,
    /// Packets for which FEC still counts as usual.
    fec_seen: u32,
    fec_wanted: bool,
    /// Frames of silence in a row, and the packet of the last.
    silent: u32,
    silent_packet: Vec<u8>,
    /// A tick that stands well, and the period of the clock.
    anchor: Option<(i64, i64)>,
}

impl Track {
    pub fn new(ssrc: u32, codec: RoomCodec, now: i64) -> Track {
        Track {
            ssrc,
            codec,
            voice: Voice::new(codec),
            packets: Packets::new(),
            timeline: Timeline::new(codec),
            arrivals: Arrivals::new(),
            queue: Queue::new(),
            pace: Pace::new(),
            level: Level::new(),
            playing: false,
            stale: false,
            splice: false,
            next: 0,
            stray: None,
            expected: 0,
            dry: 0,
            faded: false,
            frame: FRAME,
            heard: now,
            loud: 0,
            pausing: false,
            loss: 0.0,
            fec_seen: 0,
            fec_wanted: false,
            silent: 0,
            silent_packet: Vec::new(),
            anchor: None,
        }
    }

    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    pub fn codec(&self) -> RoomCodec {
        self.codec
    }

    /// When a packet of it last came.
    pub fn heard(&self) -> i64 {
        self.heard
    }

    /// When it was last loud, to tell which track matters most.
    pub fn loud(&self) -> i64 {
        self.loud
    }

    // Packets in.

    pub fn push(
        &mut self,
        sequence: u64,
        timestamp: u32,
        payload: &[u8],
        now: i64,
        count: &mut Counters,
    ) {
        self.heard = now;
        let Some(samples) = self.duration(payload) else {
            count.invalid += 1;
            return;
        };
        if self.is_stray(sequence) {
            count.late += 1;
            return;
        }
        let newest = self.timeline.newest();
        if !self.timeline.started() || sequence.abs_diff(newest) >= CAPACITY {
            self.restart(sequence, timestamp, now);
        }
        let at = self.timeline.place(sequence, timestamp, samples, now);
        if samples > 0 {
            self.arrivals.arrive(now, at * SAMPLE);
            self.frame = samples;
            let seen = self.voice.has_fec(payload);
            self.fec_seen = if seen { FEC_USUAL } else { self.fec_seen.saturating_sub(1) };
        }
        if sequence < self.next {
            count.late += 1;
            self.arrivals.late();
            return;
        }
        let concealed = self.playing && !self.pausing && at + ROUNDING < self.expected + self.dry;
        if concealed && sequence == self.next {
            self.arrivals.late();
        }
        if let Some(known) = self.packets.get_mut(sequence) {
            match std::mem::take(&mut known.copied) {
                true => {} // it was late, not lost
                false => count.invalid += 1,
            }
            return;
        }
        self.packets.insert(Packet::new(sequence, at, samples, now), payload);
        self.shed(count);
    }

    /// Take a copy of an earlier packet that came with packet *sequence*, if it is missing.
    pub fn push_copy(&mut self, sequence: u64, copy: &Block, now: i64) {
        let Some(samples @ 1..) = self.duration(copy.payload) else { return };
        self.fec_seen = FEC_USUAL;
        let Some(carrier) = self.packets.get(sequence) else { return };
        let at = carrier.timestamp - self.timeline.samples(copy.offset);
        let Some(missing) = self.hole_at(sequence, at, samples) else { return };
        let packet = Packet { copied: true, ..Packet::new(missing, at, samples, now) };
        self.packets.insert(packet, copy.payload);
    }

    /// The sequence number that is missing before packet *sequence* where *samples* from *at* on
    /// belong; `None`: nothing is. A sender leaves out of its copies what it has not got itself:
    /// the time tells which one it is, not the place in the packet.
    fn hole_at(&self, sequence: u64, at: i64, samples: i64) -> Option<u64> {
        let mut after = (sequence, self.packets.get(sequence)?.timestamp);
        let mut before = None;
        for behind in 1..=MAX_BEHIND {
            let earlier = sequence.checked_sub(behind)?;
            if earlier < self.next {
                let ended = if self.playing { self.expected } else { i64::MIN };
                before = Some((self.next.checked_sub(1)?, ended));
                break;
            }
            match self.packets.get(earlier) {
                Some(p) if p.timestamp > at + ROUNDING => after = (earlier, p.timestamp),
                Some(p) => {
                    before = Some((earlier, p.timestamp + p.samples));
                    break;
                }
                None => {}
            }
        }
        let before = before?;
        let fits = at >= before.1.saturating_sub(ROUNDING) && at + samples <= after.1 + ROUNDING;
        if !fits || after.0 <= before.0 + 1 {
            return None;
        }
        let behind = ((after.1 - at + samples / 2) / samples).max(1) as u64;
        Some(after.0.saturating_sub(behind).max(before.0 + 1))
    }

    /// Whether a packet is from long ago; two in a row are a sender that began anew.
    fn is_stray(&mut self, sequence: u64) -> bool {
        let old = sequence.saturating_add(CAPACITY) <= self.timeline.newest();
        let before = std::mem::replace(&mut self.stray, old.then_some(sequence));
        old && before.is_none_or(|before| before.saturating_add(1) != sequence)
    }

    /// Samples of a packet; `None`: it is none.
    fn duration(&self, payload: &[u8]) -> Option<i64> {
        match self.codec {
            _ if payload.is_empty() => Some(0),
            _ if payload.len() > MAX_PAYLOAD => None,
            RoomCodec::Opus => opus::samples(payload).map(|n| n as i64),
            RoomCodec::G711(_) => Some(payload.len() as i64).filter(|n| *n <= MAX_SAMPLES as i64),
        }
    }

    /// A first packet, or one of a sender that began anew.
    fn restart(&mut self, sequence: u64, timestamp: u32, now: i64) {
        self.stale = self.timeline.started();
        self.timeline.restart(sequence, timestamp, now);
        let at = self.timeline.newest_at();
        self.arrivals.restart(now, now - at * SAMPLE);
        self.packets.clear();
        self.playing = false;
        self.next = sequence;
        self.dry = 0;
        self.silent = 0;
    }

    /// Too much waits: drop the oldest down to the target.
    fn shed(&mut self, count: &mut Counters) {
        let keep = self.target() / SAMPLE + self.frame;
        if self.waiting() <= MAX_DEPTH.max(keep + self.frame) {
            return;
        }
        while self.waiting() > keep {
            let Some(packet) = self.packets.take_first(self.next) else { return };
            self.next = packet.sequence + 1;
            self.expected = packet.timestamp + packet.samples;
            self.dry = 0;
            self.splice = true;
            count.shed += packet.samples as u64;
            self.packets.recycle(packet.payload);
        }
        self.pace.changed(0);
    }

    /// The gate is closed: drop all that waits.
    pub fn discard(&mut self) {
        if !self.timeline.started() {
            return;
        }
        if self.next <= self.timeline.newest() {
            self.packets.clear();
            self.next = self.timeline.newest() + 1;
        }
        self.queue.clear();
        self.playing = false;
        self.stale = true;
    }

    // Blocks out.

    /// Add the next samples to *sum*; false: there is nothing to hear of it.
    pub fn play(&mut self, sum: &mut [i32], now: i64, count: &mut Counters) -> bool {
        if !self.playing && self.packets.is_empty() && self.queue.len() == 0 {
            return false;
        }
        let block = sum.len();
        if self.playing && self.pace.excess > 0 {
            self.shorten(block, now, count);
        }
        while self.queue.len() < block && self.step(block, now, count) {}
        if self.playing && self.pace.lack > 0 && self.dry == 0 {
            self.lengthen(count);
        }
        let mut heard = false;
        for (to, from) in sum.iter_mut().zip(self.queue.as_slice()) {
            *to += i32::from(*from);
            heard |= *from != 0;
        }
        self.queue.consume(block);
        if self.playing && self.dry == 0 {
            self.watch(block, now);
        }
        heard
    }

    /// Decode or conceal one piece; false: nothing more at this tick.
    fn step(&mut self, block: usize, now: i64, count: &mut Counters) -> bool {
        if !self.playing && !self.begin(block, now, count) {
            return false;
        }
        let Some(first) = self.packets.first_from(self.next) else {
            return self.run_dry(count);
        };
        let (sequence, timestamp, samples) = (first.sequence, first.timestamp, first.samples);
        let missing = sequence - self.next;
        let gap = timestamp - self.expected - self.dry;
        if first.copied && missing == 0 && gap < -ROUNDING {
            return self.play_or_drop_copy(sequence, -gap, block, now, count);
        }
        if samples > 0 && missing > 0 {
            let span = gap.min(missing as i64 * self.frame - self.dry);
            if span > ROUNDING {
                // What lies between is lost; a longer gap than that is a pause.
                self.fill_hole(sequence, span, count);
                return true;
            }
            if missing == 1 && self.is_worth_waiting(block, now) {
                self.recover(sequence, timestamp, count);
            }
        }
        if samples > 0 && gap > ROUNDING && !self.is_ready(timestamp, block, now) {
            return self.run_dry_in_pause(count);
        }
        self.lose(missing, count);
        self.decode(sequence, now, count);
        true
    }

    /// Start with the first packet that waits, when its block is ready.
    fn begin(&mut self, block: usize, now: i64, count: &mut Counters) -> bool {
        let Some(first) = self.packets.first_from(self.next) else { return false };
        let (sequence, timestamp) = (first.sequence, first.timestamp);
        if !self.is_ready(timestamp, block, now) {
            return false;
        }
        if self.stale {
            self.voice.reset();
            self.stale = false;
        }
        self.lose(sequence - self.next, count);
        self.next = sequence;
        self.expected = timestamp;
        self.dry = 0;
        self.playing = true;
        self.pace.again();
        true
    }

    /// Whether a block that starts at *timestamp* has waited for its last packet.
    fn is_ready(&self, timestamp: i64, block: usize, now: i64) -> bool {
        let last = timestamp + (block as i64 - 1) / self.frame * self.frame;
        now >= self.arrivals.base() + last * SAMPLE + self.target()
    }

    fn lose(&mut self, packets: u64, count: &mut Counters) {
        count.lost += packets;
        for _ in 0..packets.min(100) {
            self.loss += (1.0 - self.loss) / 128.0;
        }
        if self.loss > FEC_ON {
            self.fec_wanted = true;
        }
    }

    fn keep(&mut self) {
        self.loss -= self.loss / 128.0;
        if self.loss < FEC_OFF {
            self.fec_wanted = false;
        }
    }

    fn decode(&mut self, sequence: u64, now: i64, count: &mut Counters) {
        let Some(packet) = self.packets.take(sequence) else { return };
        self.next = sequence + 1;
        let waited = (now - packet.arrived).max(0) as u64;
        count.taken += 1;
        count.waited_us += waited;
        count.wait_max_us = count.wait_max_us.max(waited);
        if packet.copied {
            self.lose(1, count);
            count.fec += packet.samples as u64;
        } else {
            self.keep();
        }
        if packet.samples > 0 {
            self.sound(&packet, now, count);
            self.expected = packet.timestamp + packet.samples;
            self.dry = 0;
        }
        self.packets.recycle(packet.payload);
    }

    fn sound(&mut self, packet: &Packet, now: i64, count: &mut Counters) {
        let mut pcm = [0; MAX_SAMPLES];
        if self.silent >= SILENT_FRAMES && self.silent_packet == packet.payload {
            count.skipped += packet.samples as u64;
            self.queue.push(&pcm[..packet.samples as usize]);
            return;
        }
        let mut before = [0; MAX_SAMPLES];
        let spliced = std::mem::take(&mut self.splice);
        if spliced {
            self.voice.conceal(FADE, None, &mut before);
        }
        let n = self.voice.decode(&packet.payload, &mut pcm);
        let pcm = &mut pcm[..n];
        if spliced && self.codec == RoomCodec::Opus {
            stretch::take_over(&before[..FADE], pcm);
        }
        if std::mem::take(&mut self.faded) {
            stretch::take_over(&[0; FADE], pcm);
        }
        self.pausing = self.codec == RoomCodec::Opus && opus::is_dtx(&packet.payload);
        if self.level.count(pcm) > 200.0 {
            self.loud = now;
        }
        self.count_silence(pcm, &packet.payload);
        self.queue.push(pcm);
    }

    fn count_silence(&mut self, pcm: &[i16], payload: &[u8]) {
        if pcm.iter().any(|s| s.unsigned_abs() >= INAUDIBLE) {
            self.silent = 0;
        } else if self.silent_packet == payload {
            self.silent += 1;
        } else {
            self.silent = 1;
            self.silent_packet.clear();
            self.silent_packet.extend_from_slice(payload);
        }
    }

    /// Conceal a piece of the *span* lost before the packet *sequence*.
    fn fill_hole(&mut self, sequence: u64, span: i64, count: &mut Counters) {
        let mut pcm = [0; MAX_SAMPLES];
        let next = self.packets.get(sequence).filter(|p| span <= p.samples + ROUNDING);
        // FEC holds a whole packet; what is made up is made up in pieces.
        let piece = if next.is_some() { MAX_SAMPLES as i64 } else { FRAME };
        let wanted = span.min(piece) as usize;
        let (n, fec) = self.voice.conceal(wanted, next.map(|p| p.payload.as_slice()), &mut pcm);
        self.queue.push(&pcm[..n]);
        self.dry += n as i64;
        self.silent = 0;
        match fec {
            true => count.fec += n as u64,
            false => count.concealed += n as u64,
        }
    }

    /// Whether a packet that was concealed already should be played from FEC all the same: the
    /// delay it takes is missing anyway.
    fn is_worth_waiting(&self, block: usize, now: i64) -> bool {
        let left = self.spare(now, self.target()) - block as i64;
        self.waits_for_fec() && left <= -self.frame / 2
    }

    /// A copy came when what it is of was concealed at least in part, *again* samples of it: play
    /// it like FEC, or leave it.
    fn play_or_drop_copy(
        &mut self,
        sequence: u64,
        again: i64,
        block: usize,
        now: i64,
        count: &mut Counters,
    ) -> bool {
        if self.is_worth_waiting(block, now) {
            self.decode(sequence, now, count);
            count.stretched += again as u64;
            self.pace.changed(again);
        } else if let Some(packet) = self.packets.take(sequence) {
            self.packets.recycle(packet.payload);
        }
        true
    }

    /// Whether losses are so frequent, and FEC so usual, that a packet more of delay pays.
    fn waits_for_fec(&self) -> bool {
        self.fec_wanted && self.fec_seen > 0
    }

    fn recover(&mut self, sequence: u64, timestamp: i64, count: &mut Counters) {
        let mut pcm = [0; MAX_SAMPLES];
        let Some(next) = self.packets.get(sequence) else { return };
        let lost = (timestamp - self.expected).clamp(0, self.frame) as usize;
        let (n, fec) = self.voice.conceal(lost, Some(&next.payload), &mut pcm);
        if fec {
            self.queue.push(&pcm[..n]);
            count.fec += n as u64;
            count.stretched += self.dry as u64;
            self.pace.changed(self.dry);
        }
    }

    /// Nothing is there: conceal for a while, then wait.
    fn run_dry(&mut self, count: &mut Counters) -> bool {
        if self.pausing {
            return self.run_dry_in_pause(count);
        }
        if self.dry >= MAX_DRY || self.silent > 0 {
            self.playing = false;
            return false;
        }
        let mut pcm = [0; MAX_SAMPLES];
        let (n, _) = self.voice.conceal(FRAME as usize, None, &mut pcm);
        for (i, sample) in pcm[..n].iter_mut().enumerate() {
            let left = MAX_DRY - self.dry - i as i64;
            if left < MAX_DRY - FADE_FROM {
                *sample = (i64::from(*sample) * left.max(0) / (MAX_DRY - FADE_FROM)) as i16;
            }
        }
        self.queue.push(&pcm[..n]);
        self.dry += n as i64;
        self.faded = self.dry > FADE_FROM;
        count.concealed += n as u64;
        true
    }

    /// The sender pauses: its comfort noise while there is some to hear, else silence.
    fn run_dry_in_pause(&mut self, _count: &mut Counters) -> bool {
        if !self.pausing || self.dry >= MAX_COMFORT {
            self.playing = false;
            return false;
        }
        let mut pcm = [0; MAX_SAMPLES];
        let (n, _) = self.voice.conceal(FRAME as usize, None, &mut pcm);
        if pcm[..n].iter().all(|s| s.unsigned_abs() < INAUDIBLE) {
            self.playing = false;
            return false;
        }
        self.queue.push(&pcm[..n]);
        self.dry += n as i64;
        true
    }

    // Delay.

    /// Microseconds that a packet of the fastest is to wait.
    fn target(&self) -> i64 {
        let fec = if self.waits_for_fec() { self.frame * SAMPLE } else { 0 };
        (self.arrivals.target() + fec).min(MAX_TARGET)
    }

    /// Samples beyond the next to be played of all that is ready at *now* with *target*.
    fn spare(&self, now: i64, target: i64) -> i64 {
        let newest = self.timeline.newest_at();
        let ready = (now - self.arrivals.base() - target).div_euclid(SAMPLE);
        let last = newest + (ready - newest).div_euclid(self.frame) * self.frame;
        last + self.frame - (self.expected + self.dry - self.queue.len() as i64)
    }

    fn watch(&mut self, block: usize, now: i64) {
        if now - self.timeline.newest_arrived() > GONE {
            return self.pace.again();
        }
        let target = self.target();
        let (sure, likely) = (self.spare(now, target + SURE), self.spare(now, target + LIKELY));
        let ended = self.pace.watch(block as i64, sure, likely);
        if ended || self.anchor.is_none() || !self.arrivals.settled() {
            self.anchor_slot(block as i64 * SAMPLE);
        }
    }

    /// Take audio out that delays without need, where it is not heard.
    fn shorten(&mut self, block: usize, now: i64, count: &mut Counters) {
        let excess = self.pace.excess;
        let wanted = block + excess.min(FRAME) as usize + FADE;
        while self.queue.len() < wanted {
            match self.packets.get(self.next) {
                Some(p) if (p.timestamp - self.expected - self.dry).abs() <= ROUNDING => {
                    let sequence = p.sequence;
                    self.decode(sequence, now, count);
                }
                _ => return,
            }
        }
        let n = excess.min(FRAME) as usize;
        let pcm = self.queue.as_slice();
        let waited = self.pace.waited;
        let n = match self.level.is_quiet(&pcm[..n + FADE]) {
            true => Some(n),
            false if excess < URGENT && waited < PATIENCE => None,
            false => stretch::period(pcm, n).or((waited > 2 * PATIENCE).then_some(n)),
        };
        if let Some(n) = n
            && self.queue.cut(n)
        {
            count.shed += n as u64;
            self.pace.changed(-(n as i64));
        }
    }

    /// Add audio where the delay is too short, where it is not heard.
    fn lengthen(&mut self, count: &mut Counters) {
        let n = (self.queue.len() as i64 - FADE as i64).min(self.pace.lack);
        let Ok(n @ 1..) = usize::try_from(n) else { return };
        let pcm = self.queue.as_slice();
        let n = match self.level.is_quiet(&pcm[..n + FADE]) {
            true => Some(n),
            false if self.pace.waited < PATIENCE => None,
            false => stretch::period(pcm, pcm.len() - FADE),
        };
        if let Some(n) = n
            && self.queue.repeat(n)
        {
            count.stretched += n as u64;
            self.pace.changed(n as i64);
        }
    }

    /// Samples that wait, decoded and not.
    fn waiting(&self) -> i64 {
        let queued = self.queue.len() as i64;
        match self.packets.first_from(self.next) {
            Some(first) => self.timeline.newest_at() - first.timestamp + self.frame + queued,
            None => queued,
        }
    }

    /// Audio of it is being handed out, without a pause since the last tick.
    pub fn playing(&self) -> bool {
        self.playing
    }

    // The clock's phase.

    /// When the next block of *period* has waited for its last packet, and the margin.
    pub fn ready(&self, period: i64) -> i64 {
        let newest = self.timeline.newest_at();
        let begin = match self.playing {
            true => self.expected + self.dry - self.queue.len() as i64,
            false => newest,
        };
        let end = begin + period / SAMPLE;
        // The packet that holds the block's last sample, on the grid of the newest.
        let last = newest + (end - 1 - newest).div_euclid(self.frame) * self.frame;
        self.arrivals.base() + last * SAMPLE + self.target() + MARGIN
    }

    fn anchor_slot(&mut self, period: i64) {
        let ready = self.ready(period);
        if let Some((anchor, of)) = self.anchor
            && of == period
        {
            let later = (ready - anchor + period / 2).rem_euclid(period) - period / 2;
            if later < SLOT_LATER && later > -SLOT_EARLIER {
                return;
            }
        }
        self.anchor = Some((ready, period));
    }

    /// A moment at which a tick of *period* stands well; `None`: not known.
    pub fn slot(&self, now: i64, period: i64) -> Option<i64> {
        match self.anchor {
            _ if !self.arrivals.known() || now - self.heard > GONE => None,
            Some((anchor, of)) if of == period => Some(anchor),
            _ => Some(self.ready(period)),
        }
    }

    pub fn describe(&self, stats: &mut PlayoutStats) {
        stats.target_ms = self.target() as f32 / 1000.0;
        stats.depth_ms = self.waiting() as f32 / 8.0;
        stats.jitter_ms = self.arrivals.jitter() / 1000.0;
    }
}
