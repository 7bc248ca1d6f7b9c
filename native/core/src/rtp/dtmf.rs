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
mod tests {
    use super::*;

    /// Returns everything *sender* plays, with the stream's timestamp of each.
    fn play(sender: &mut DtmfSender, samples: u16) -> Vec<(u32, Frame)> {
        let mut played = Vec::new();
        let mut timestamp = 0;
        while let Some(frame) = sender.next_frame(timestamp, samples) {
            played.push((timestamp, frame));
            timestamp += u32::from(samples);
        }
        played
    }

    fn events(played: &[(u32, Frame)]) -> Vec<(u32, [u8; 4], bool)> {
        let event = |frame: &(u32, Frame)| match frame.1 {
            Frame::Event { timestamp, payload, marker } => Some((timestamp, payload, marker)),
            Frame::Pause => None,
        };
        played.iter().filter_map(event).collect()
    }

    #[test]
    fn a_digit_is_updates_and_three_end_packets_with_one_timestamp() {
        for ptime in [10, 20, 30, 40, 60] {
            let mut sender = DtmfSender::default();
            sender.send("7");
            let frames = events(&play(&mut sender, ptime * 8));
            let ends: Vec<bool> = frames.iter().map(|frame| frame.1[1] & 0x80 != 0).collect();
            let updates = frames.len() - 3;
            assert!(
                ends[..updates].iter().all(|end| !end) && ends[updates..].iter().all(|end| *end)
            );
            for (index, (timestamp, payload, marker)) in frames.iter().enumerate() {
                assert_eq!((*timestamp, payload[0], *marker), (0, 7, index == 0));
                let duration = u16::from_be_bytes([payload[2], payload[3]]);
                assert_eq!(duration, ptime * 8 * (index.min(updates) as u16 + 1));
            }
        }
    }

    #[test]
    fn digits_are_apart_and_w_waits_half_a_second() {
        let mut sender = DtmfSender::default();
        sender.send("1w2");
        let mut starts: Vec<u32> = events(&play(&mut sender, 160)).iter().map(|e| e.0).collect();
        starts.dedup();
        assert_eq!(starts, [0, 10 * 160 + PAUSE_SAMPLES as u32 + WAIT_SAMPLES as u32]);
        assert!(!sender.busy());
    }

    #[test]
    fn unknown_characters_are_passed_over_and_the_queue_is_bounded() {
        let mut sender = DtmfSender::default();
        sender.send("x, é");
        assert!(play(&mut sender, 160).is_empty());
        sender.send(&"5".repeat(MAX_QUEUED + 50));
        let mut starts: Vec<u32> = events(&play(&mut sender, 160)).iter().map(|e| e.0).collect();
        starts.dedup();
        assert_eq!(starts.len(), MAX_QUEUED);
    }

    #[test]
    fn clearing_stops_in_the_middle() {
        let mut sender = DtmfSender::default();
        sender.send("12");
        sender.next_frame(0, 160);
        sender.clear();
        assert!(!sender.busy());
        assert_eq!(sender.next_frame(160, 160), None);
    }

    #[test]
    fn the_same_timestamp_of_another_source_is_another_key() {
        let mut receiver = DtmfReceiver::default();
        let now = Instant::now();
        for ssrc in [1, 1, 2, 1] {
            receiver.receive(ssrc, 99, &[5, 0x8A, 3, 0x20], now);
        }
        let key = Key { digit: '5', duration_ms: 100 };
        assert_eq!(receiver.keys, [key, key]);
    }

    #[test]
    fn an_event_ends_when_nothing_was_heard_of_it_for_long_enough() {
        let mut receiver = DtmfReceiver::default();
        let now = Instant::now();
        receiver.receive(1, 9, &[5, 10, 0, 160], now);
        receiver.poll(now + LOST_END_AFTER / 2);
        assert!(receiver.keys.is_empty());
        receiver.poll(now + LOST_END_AFTER);
        receiver.poll(now + LOST_END_AFTER * 9);
        assert_eq!(receiver.keys, [Key { digit: '5', duration_ms: 20 }]);
    }

    #[test]
    fn keys_that_nobody_takes_do_not_grow_memory() {
        let mut receiver = DtmfReceiver::default();
        let now = Instant::now();
        for timestamp in 0..5000 {
            receiver.receive(1, timestamp, &[1, 0x80, 0, 160], now);
        }
        assert_eq!((receiver.keys.len(), receiver.finished.len()), (MAX_QUEUED, REMEMBERED));
    }
}
