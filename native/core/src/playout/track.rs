//! One track: its jitter buffer, and what is played of it at each tick.

use super::arrivals::Arrivals;
use super::packets::{CAPACITY, MAX_PAYLOAD, Packet, Packets};
use super::queue::Queue;
use super::voice::Voice;
use super::{Counters, PlayoutStats, RoomCodec};
use crate::opus::{self, MAX_SAMPLES};

/// Samples of 20 ms.
const FRAME: i64 = 160;
/// Concealed when nothing comes: then the track waits for the next packet.
const MAX_AHEAD: i64 = 800;
/// Audio that may wait, samples; more is shed down to the target.
const MAX_DEPTH: i64 = 1600;
/// Microseconds of a sample.
const SAMPLE: i64 = 125;
/// A tick may come that much early, microseconds.
const EARLY: i64 = 1000;

pub struct Track {
    ssrc: u32,
    codec: RoomCodec,
    voice: Voice,
    packets: Packets,
    arrivals: Arrivals,
    queue: Queue,
    playing: bool,
    /// Sequence number to be played next.
    next: u64,
    newest: u64,
    /// Timestamp and wrapped timestamp of the newest packet, to unwrap the next.
    newest_at: i64,
    newest_raw: u32,
    /// Timestamp after the last sample decoded.
    expected: i64,
    /// Samples concealed beyond `expected` because nothing was there.
    ahead: i64,
    /// Samples of a packet.
    frame: i64,
    heard: i64,
    started: bool,
}

impl Track {
    pub fn new(ssrc: u32, codec: RoomCodec, now: i64) -> Track {
        Track {
            ssrc,
            codec,
            voice: Voice::new(codec),
            packets: Packets::new(),
            arrivals: Arrivals::new(),
            queue: Queue::new(),
            playing: false,
            next: 0,
            newest: 0,
            newest_at: 0,
            newest_raw: 0,
            expected: 0,
            ahead: 0,
            frame: FRAME,
            heard: now,
            started: false,
        }
    }

    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    pub fn codec(&self) -> RoomCodec {
        self.codec
    }

    /// When a packet of it last came, microseconds.
    pub fn heard(&self) -> i64 {
        self.heard
    }

    pub fn push(
        &mut self,
        sequence: u64,
        timestamp: u32,
        payload: &[u8],
        now: i64,
        count: &mut Counters,
    ) {
        self.heard = now;
        let samples = match self.codec {
            _ if payload.is_empty() => Some(0),
            _ if payload.len() > MAX_PAYLOAD => None,
            RoomCodec::Opus => opus::samples(payload).map(|n| n as i64),
            RoomCodec::G711(_) => Some(payload.len() as i64).filter(|n| *n <= MAX_SAMPLES as i64),
        };
        let Some(samples) = samples else {
            count.invalid += 1;
            return;
        };
        if !self.started || sequence.abs_diff(self.newest) >= CAPACITY {
            self.restart(sequence, timestamp);
        }
        let at = self.newest_at + self.in_samples(timestamp.wrapping_sub(self.newest_raw) as i32);
        if sequence >= self.newest {
            self.newest = sequence;
            self.newest_at = at;
            self.newest_raw = timestamp;
        }
        if samples > 0 {
            self.arrivals.arrive(now, at * SAMPLE);
            self.frame = samples;
        }
        if sequence < self.next {
            count.late += 1;
            self.arrivals.late();
            return;
        }
        if self.packets.get(sequence).is_some() {
            count.invalid += 1;
            return;
        }
        let packet = Packet { sequence, timestamp: at, samples, arrived: now, payload: Vec::new() };
        self.packets.insert(packet, payload);
        self.shed(count);
    }

    fn restart(&mut self, sequence: u64, timestamp: u32) {
        self.packets.clear();
        self.playing = false;
        self.started = true;
        self.next = sequence;
        self.newest = sequence;
        self.newest_raw = timestamp;
        self.ahead = 0;
    }

    fn in_samples(&self, units: i32) -> i64 {
        match self.codec {
            RoomCodec::Opus => i64::from(units) / 6,
            RoomCodec::G711(_) => i64::from(units),
        }
    }

    /// Add the next samples to *sum*; false: there are none.
    pub fn play(&mut self, sum: &mut [i32], now: i64, count: &mut Counters) -> bool {
        while self.queue.len() < sum.len() {
            if !self.step(sum.len(), now, count) {
                break;
            }
        }
        let n = self.queue.len().min(sum.len());
        for (to, from) in sum.iter_mut().zip(self.queue.as_slice()) {
            *to += i32::from(*from);
        }
        self.queue.consume(n);
        n > 0
    }

    /// Decode or conceal one piece; false: nothing more at this tick.
    fn step(&mut self, block: usize, now: i64, count: &mut Counters) -> bool {
        if !self.playing && !self.begin(block, now) {
            return false;
        }
        let Some(first) = self.packets.first_from(self.next) else {
            return self.run_dry(count);
        };
        let (sequence, timestamp, samples) = (first.sequence, first.timestamp, first.samples);
        let missing = sequence - self.next;
        let gap = timestamp - self.expected - self.ahead;
        if missing > 0 && samples > 0 && gap >= FRAME / 8 {
            // What lies between is lost; a longer gap than that is a pause.
            let span = gap.min(missing as i64 * self.frame);
            return self.fill_hole(sequence, span, count);
        }
        count.lost += missing;
        if missing == 0 && gap > FRAME / 8 && !self.is_ready(timestamp, block, now) {
            self.playing = false;
            return false;
        }
        self.decode(sequence, now, count);
        true
    }

    fn begin(&mut self, block: usize, now: i64) -> bool {
        let Some(first) = self.packets.first_from(self.next) else { return false };
        if !self.is_ready(first.timestamp, block, now) {
            return false;
        }
        self.next = first.sequence;
        self.expected = first.timestamp;
        self.ahead = 0;
        self.playing = true;
        true
    }

    /// Whether a block that starts at *timestamp* has waited for its last packet.
    fn is_ready(&self, timestamp: i64, block: usize, now: i64) -> bool {
        let last = timestamp + (block as i64 - 1) / self.frame.max(1) * self.frame;
        now + EARLY >= self.arrivals.base() + last * SAMPLE + self.arrivals.target()
    }

    fn decode(&mut self, sequence: u64, now: i64, count: &mut Counters) {
        let Some(packet) = self.packets.take(sequence) else { return };
        self.next = sequence + 1;
        self.ahead = 0;
        let waited = (now - packet.arrived).max(0) as u64;
        count.taken += 1;
        count.waited_us += waited;
        count.wait_max_us = count.wait_max_us.max(waited);
        if packet.samples > 0 {
            let mut pcm = [0; MAX_SAMPLES];
            let n = self.voice.decode(&packet.payload, &mut pcm);
            self.queue.push(&pcm[..n]);
            self.expected = packet.timestamp + packet.samples;
        }
        self.packets.recycle(packet.payload);
    }

    fn fill_hole(&mut self, sequence: u64, span: i64, count: &mut Counters) -> bool {
        let mut pcm = [0; MAX_SAMPLES];
        let next = self.packets.get(sequence).filter(|p| span <= p.samples);
        let wanted = span.min(FRAME) as usize;
        let (n, fec) = self.voice.conceal(wanted, next.map(|p| p.payload.as_slice()), &mut pcm);
        self.queue.push(&pcm[..n]);
        self.expected += n as i64;
        if fec {
            count.fec += n as u64;
        } else {
            count.concealed += n as u64;
        }
        true
    }

    /// Nothing is there: conceal for a while, then wait.
    fn run_dry(&mut self, count: &mut Counters) -> bool {
        if self.ahead >= MAX_AHEAD {
            self.playing = false;
            return false;
        }
        let mut pcm = [0; MAX_SAMPLES];
        let (n, _) = self.voice.conceal(FRAME as usize, None, &mut pcm);
        self.queue.push(&pcm[..n]);
        self.ahead += n as i64;
        count.concealed += n as u64;
        true
    }

    /// Too much waits: drop the oldest down to the target.
    fn shed(&mut self, count: &mut Counters) {
        if self.waiting() <= MAX_DEPTH {
            return;
        }
        let keep = self.arrivals.target() / SAMPLE + self.frame;
        while self.waiting() > keep {
            let Some(first) = self.packets.first_from(self.next).map(|p| p.sequence) else {
                return;
            };
            let Some(packet) = self.packets.take(first) else { return };
            self.next = first + 1;
            self.expected = packet.timestamp + packet.samples;
            count.shed += packet.samples as u64;
            self.packets.recycle(packet.payload);
        }
    }

    /// Samples that wait, decoded and not.
    fn waiting(&self) -> i64 {
        let Some(first) = self.packets.first_from(self.next) else {
            return self.queue.len() as i64;
        };
        self.newest_at - first.timestamp + self.frame + self.queue.len() as i64
    }

    pub fn discard(&mut self, _now: i64) {
        self.packets.clear();
        self.queue.clear();
        self.playing = false;
        self.next = self.newest + 1;
    }

    /// Audio of it is being handed out, without a pause since the last tick.
    pub fn playing(&self) -> bool {
        self.playing
    }

    /// When the next block of *period* has waited for its last packet; both microseconds.
    pub fn ready(&self, period: i64) -> Option<i64> {
        if !self.arrivals.known() {
            return None;
        }
        let frame = self.frame.max(1);
        let end = match self.playing {
            true => self.expected - self.queue.len() as i64 + period / SAMPLE,
            false => self.newest_at + frame + period / SAMPLE,
        };
        // The packet that holds the block's last sample, on the grid of the newest.
        let last = self.newest_at + (end - 1 - self.newest_at).div_euclid(frame) * frame;
        Some(self.arrivals.base() + last * SAMPLE + self.arrivals.target())
    }

    pub fn describe(&self, stats: &mut PlayoutStats) {
        stats.target_ms = self.arrivals.target() as f32 / 1000.0;
        stats.depth_ms = self.waiting() as f32 / 8.0;
        stats.jitter_ms = self.arrivals.jitter() / 1000.0;
    }
}
