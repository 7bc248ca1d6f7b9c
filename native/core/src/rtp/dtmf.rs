//! Telephone-events, both ways (RFC 4733 section 2). Durations run on the 8000 Hz clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::types::RATE;

const KEYS: &[u8; 16] = b"0123456789*#ABCD";
/// A longer event goes on in a new segment (RFC 4733 2.5.1.3).
pub const MAX_DURATION: u16 = 0xFFFF;
/// Senders that only count whole packets end a segment up to 60 ms before that.
const SHORT_SEGMENT: u32 = MAX_DURATION as u32 - RATE * 60 / 1000;
/// Time without an update after which an event counts as ended: over three updates of 60 ms.
pub const LOST_END_AFTER: Duration = Duration::from_millis(200);
const REMEMBERED: usize = 16;

const TONE_SAMPLES: u16 = (RATE * 160 / 1000) as u16;
const PAUSE_SAMPLES: i32 = (RATE * 80 / 1000) as i32;
const WAIT_SAMPLES: i32 = (RATE / 2) as i32;
/// -10 dBm0.
const VOLUME: u8 = 10;
const END_PACKETS: u8 = 3;
/// Digits that wait to be played, and keys that wait to be told.
pub const MAX_QUEUED: usize = 128;

/// A key that was pressed and let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub digit: char,
    pub duration_ms: u32,
}

#[derive(Debug)]
struct Event {
    ssrc: u32,
    timestamp: u32,
    code: u8,
    duration: u16,
    updated_at: Instant,
    /// Samples in segments before this one.
    before: u64,
}

impl Event {
    fn id(&self) -> (u32, u32, u8) {
        (self.ssrc, self.timestamp, self.code)
    }

    fn key(&self) -> Key {
        let samples = self.before + u64::from(self.duration);
        let milliseconds = samples * 1000 / u64::from(RATE);
        Key {
            digit: KEYS.get(usize::from(self.code)).map_or('?', |digit| char::from(*digit)),
            duration_ms: u32::try_from(milliseconds).unwrap_or(u32::MAX),
        }
    }
}

/// Reports each key once, by (SSRC, timestamp, key), whatever packets are lost.
///
/// An event whose end packets are all lost ends when another begins or when
/// nothing was heard of it for [`LOST_END_AFTER`].
#[derive(Debug, Default)]
pub struct DtmfReceiver {
    /// Keys that ended; the oldest goes when [`MAX_QUEUED`] wait.
    pub keys: VecDeque<Key>,
    current: Option<Event>,
    finished: VecDeque<(u32, u32, u8)>,
}

impl DtmfReceiver {
    /// Takes one telephone-event packet; a finished key is appended to `keys`.
    pub fn receive(&mut self, ssrc: u32, timestamp: u32, payload: &[u8], now: Instant) {
        let [code, flags, high, low, ..] = *payload else { return };
        if usize::from(code) >= KEYS.len() || self.finished.contains(&(ssrc, timestamp, code)) {
            return;
        }
        let duration = u16::from_be_bytes([high, low]);
        let event = self.find(ssrc, timestamp, code, now);
        event.duration = event.duration.max(duration);
        event.updated_at = now;
        if flags & 0x80 != 0 {
            self.finish();
        }
    }

    /// Ends an event of which nothing has been heard for too long.
    pub fn poll(&mut self, now: Instant) {
        let over =
            |event: &Event| now.saturating_duration_since(event.updated_at) >= LOST_END_AFTER;
        if self.current.as_ref().is_some_and(over) {
            self.finish();
        }
    }

    /// Returns the event a packet belongs to: the present one, its next segment, or a new one.
    fn find(&mut self, ssrc: u32, timestamp: u32, code: u8, now: Instant) -> &mut Event {
        let mut present = self.current.take();
        if let Some(current) = &mut present {
            let passed = timestamp.wrapping_sub(current.timestamp);
            let same = (current.ssrc, current.code) == (ssrc, code);
            // RFC 4733 2.5.1.3: the RTP timestamp of the next segment is that of the first
            // plus the duration that segment had reached.
            if same && (SHORT_SEGMENT..=u32::from(MAX_DURATION)).contains(&passed) {
                remember(&mut self.finished, current.id());
                current.timestamp = timestamp;
                current.before += u64::from(passed);
                current.duration = 0;
            } else if !same || passed != 0 {
                self.current = present.take();
                self.finish();
            }
        }
        let new = || Event { ssrc, timestamp, code, duration: 0, updated_at: now, before: 0 };
        self.current.insert(present.unwrap_or_else(new))
    }

    fn finish(&mut self) {
        let Some(current) = self.current.take() else { return };
        remember(&mut self.finished, current.id());
        if self.keys.len() >= MAX_QUEUED {
            self.keys.pop_front();
        }
        self.keys.push_back(current.key());
    }
}

fn remember(finished: &mut VecDeque<(u32, u32, u8)>, id: (u32, u32, u8)) {
    if finished.len() >= REMEMBERED {
        finished.pop_front();
    }
    finished.push_back(id);
}

/// What goes out in place of audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// One event packet to send.
    Event { timestamp: u32, payload: [u8; 4], marker: bool },
    /// Silence to send between digits.
    Pause,
}

/// Plays queued digits one packet time at a time.
#[derive(Debug, Default)]
pub struct DtmfSender {
    queue: VecDeque<char>,
    /// The event being sent.
    code: Option<u8>,
    start: u32,
    duration: u16,
    ends: u8,
    pause: i32,
}

impl DtmfSender {
    /// Queues *digits* (`0-9*#A-D`, `w` half a second); others are passed over.
    ///
    /// More than [`MAX_QUEUED`] waiting are dropped.
    pub fn send(&mut self, digits: &str) {
        for digit in digits.chars().flat_map(char::to_uppercase) {
            if (code_of(digit).is_some() || digit == 'W') && self.queue.len() < MAX_QUEUED {
                self.queue.push_back(digit);
            }
        }
    }

    /// Drops everything: the line was closed.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.code = None;
        self.pause = 0;
    }

    /// Whether something is being played or waits.
    #[inline]
    pub fn busy(&self) -> bool {
        self.code.is_some() || self.pause > 0 || !self.queue.is_empty()
    }

    /// Returns what goes out for the *samples* from *timestamp* on; nothing: audio.
    pub fn next_frame(&mut self, timestamp: u32, samples: u16) -> Option<Frame> {
        if let Some(code) = self.code.or_else(|| self.begin(timestamp)) {
            return Some(self.event(code, samples));
        }
        if self.pause <= 0 && self.queue.is_empty() {
            return None;
        }
        self.pause -= i32::from(samples);
        Some(Frame::Pause)
    }

    /// Starts the next digit when the pause is over.
    fn begin(&mut self, timestamp: u32) -> Option<u8> {
        if self.pause > 0 {
            return None;
        }
        let digit = self.queue.pop_front()?;
        let Some(code) = code_of(digit) else {
            self.pause = WAIT_SAMPLES;
            return None;
        };
        self.code = Some(code);
        (self.start, self.duration, self.ends) = (timestamp, 0, 0);
        Some(code)
    }

    fn event(&mut self, code: u8, samples: u16) -> Frame {
        let marker = self.duration == 0;
        if self.ends == 0 {
            self.duration = self.duration.saturating_add(samples);
        }
        let ending = self.duration >= TONE_SAMPLES;
        let [high, low] = self.duration.to_be_bytes();
        let payload = [code, VOLUME | if ending { 0x80 } else { 0 }, high, low];
        if ending {
            // RFC 4733 2.5.1.4: the final packet for each event SHOULD be sent a total of
            // three times.
            self.ends += 1;
            if self.ends == END_PACKETS {
                self.code = None;
                self.pause = PAUSE_SAMPLES;
            }
        }
        Frame::Event { timestamp: self.start, payload, marker }
    }
}

fn code_of(digit: char) -> Option<u8> {
    KEYS.iter().position(|key| char::from(*key) == digit).map(|code| code as u8)
}

#[cfg(test)]
mod tests;
