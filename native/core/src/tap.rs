//! Both directions of a call's audio for a recorder, bounded.
//!
//! The media thread writes with a [`Tap`] (a copy into a ring, never a wait; what finds no room is
//! counted), another thread reads two tracks of 8 kHz PCM16 with a [`Reader`], aligned on the time
//! since the tap was put in. A packet of the caller stands where its timestamp says, also when it
//! came up to 200 ms late; gaps are silence.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::g711;
use crate::types::Law;

/// Octets of the ring: about four seconds of both directions.
const RING: usize = 128 * 1024;
/// Octets before the payload of an entry: kind, law, length, timestamp, microseconds.
const HEADER: usize = 16;
/// Samples of one entry, at most: 120 ms.
const MAX_SAMPLES: usize = 960;
/// Samples for which a track is held back, so that late packets find their place, 200 ms.
const HELD_BACK: i64 = 1600;
/// Samples of one read, at most: 10 s.
const MAX_READ: i64 = 80_000;
/// Samples by which timestamps and arrivals may differ before the place is reckoned anew.
const JUMP: i64 = 4000;
/// The same for what went out: it follows a clock that may stand still.
const SLIP: i64 = 480;

const CALLER: u8 = 0;
const SENT: u8 = 1;

/// Make both ends; the tracks begin at *now*.
pub fn tap(now: Instant) -> (Tap, Reader) {
    let (producer, consumer) = rtrb::RingBuffer::new(RING);
    let dropped = Arc::new(AtomicU64::new(0));
    let tap = Tap { origin: now, producer, dropped: Arc::clone(&dropped) };
    (tap, Reader::new(consumer, dropped))
}

/// The media thread's end.
pub struct Tap {
    origin: Instant,
    producer: rtrb::Producer<u8>,
    dropped: Arc<AtomicU64>,
}

impl Tap {
    /// A packet of the caller: *payload* in *law* with its RTP *timestamp* (8 kHz).
    pub fn caller(&mut self, timestamp: u32, law: Law, payload: &[u8], now: Instant) {
        let samples = payload.len();
        let law = u8::from(law == Law::A);
        self.write([CALLER, law], timestamp, samples, now, |to| to.copy_from_slice(payload));
    }

    /// What went out to the caller at this tick. Ticks that send silence need not be told.
    pub fn sent(&mut self, pcm: &[i16], now: Instant) {
        self.write([SENT, 0], 0, pcm.len() * 2, now, |to| {
            for (to, sample) in to.chunks_exact_mut(2).zip(pcm) {
                to.copy_from_slice(&sample.to_le_bytes());
            }
        });
    }

    /// Whether nobody reads any more.
    pub fn is_abandoned(&self) -> bool {
        self.producer.is_abandoned()
    }

    fn write(
        &mut self,
        kind: [u8; 2],
        timestamp: u32,
        octets: usize,
        now: Instant,
        fill: impl FnOnce(&mut [u8]),
    ) {
        let mut entry = [0; HEADER + 2 * MAX_SAMPLES];
        let samples = octets / (usize::from(kind[0]) + 1);
        if samples == 0 || samples > MAX_SAMPLES {
            self.dropped.fetch_add(samples as u64, Ordering::Relaxed);
            return;
        }
        let at = now.saturating_duration_since(self.origin).as_micros() as u64;
        entry[..2].copy_from_slice(&kind);
        entry[2..4].copy_from_slice(&(octets as u16).to_le_bytes());
        entry[4..8].copy_from_slice(&timestamp.to_le_bytes());
        entry[8..16].copy_from_slice(&at.to_le_bytes());
        fill(&mut entry[HEADER..HEADER + octets]);
        if self.producer.push_entire_slice(&entry[..HEADER + octets]).is_err() {
            self.dropped.fetch_add(samples as u64, Ordering::Relaxed);
        }
    }
}

/// A piece of both tracks: as many samples of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    pub caller: Vec<i16>,
    pub sent: Vec<i16>,
    /// Samples, of both directions and since the start, that found no room or no place.
    pub dropped: u64,
}

/// The recorder's end.
pub struct Reader {
    consumer: rtrb::Consumer<u8>,
    dropped: Arc<AtomicU64>,
    /// Samples read already: where the tracks that are kept begin.
    from: i64,
    /// The newest moment that anything is known of, samples.
    newest: i64,
    caller: Track,
    sent: Track,
    /// Where the next packet of the caller stands: sample less timestamp.
    offset: Option<(i64, u32)>,
}

impl Reader {
    fn new(consumer: rtrb::Consumer<u8>, dropped: Arc<AtomicU64>) -> Reader {
        let (caller, sent) = (Track::default(), Track::default());
        Reader { consumer, dropped, from: 0, newest: 0, caller, sent, offset: None }
    }

    /// Take what is complete: up to 200 ms before the newest, 10 s at most. Empty: nothing yet.
    pub fn read(&mut self) -> Piece {
        self.take_in();
        self.give_out(self.newest - HELD_BACK)
    }

    /// Take the rest, in pieces of 10 s at most until one is empty: nothing more will be written.
    pub fn finish(&mut self) -> Piece {
        self.take_in();
        let kept = self.caller.samples.len().max(self.sent.samples.len()) as i64;
        self.give_out(self.newest.max(self.from + kept))
    }

    fn take_in(&mut self) {
        let mut entry = [0u8; HEADER + 2 * MAX_SAMPLES];
        while let Ok(head) = self.consumer.read_chunk(HEADER) {
            let (one, two) = head.as_slices();
            entry[..one.len()].copy_from_slice(one);
            entry[one.len()..HEADER].copy_from_slice(two);
            let octets = usize::from(u16::from_le_bytes([entry[2], entry[3]])).min(2 * MAX_SAMPLES);
            let at = arrived(&entry);
            if at - self.from > MAX_READ {
                // The silence before it is read first.
                self.newest = self.newest.max(at);
                return;
            }
            // An entry is written whole, so its payload is there.
            if self.consumer.pop_entire_slice(&mut entry[..HEADER + octets]).is_err() {
                return;
            }
            self.place(&entry, octets, at);
        }
    }

    fn place(&mut self, entry: &[u8; HEADER + 2 * MAX_SAMPLES], octets: usize, at: i64) {
        let (head, rest) = entry.split_at(HEADER);
        let payload = &rest[..octets];
        let timestamp = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        self.newest = self.newest.max(at);
        let mut pcm = [0i16; MAX_SAMPLES];
        let lost = match head[0] {
            CALLER => {
                let law = if head[1] == 1 { Law::A } else { Law::Mu };
                let n = g711::decode(law, payload, &mut pcm);
                let at = self.caller_at(timestamp, at);
                self.caller.put(self.from, at, &pcm[..n])
            }
            _ => {
                for (to, from) in pcm.iter_mut().zip(payload.chunks_exact(2)) {
                    *to = i16::from_le_bytes([from[0], from[1]]);
                }
                // Ticks come a little early or late; the track is as steady as what was sent.
                let end = self.sent.end.unwrap_or(at);
                let at = if (at - end).abs() <= SLIP { end } else { at };
                self.sent.put(self.from, at, &pcm[..octets / 2])
            }
        };
        if lost > 0 {
            self.dropped.fetch_add(lost, Ordering::Relaxed);
        }
    }

    /// Where a packet of the caller stands that arrived at *at*.
    fn caller_at(&mut self, timestamp: u32, at: i64) -> i64 {
        if let Some((place, known)) = self.offset {
            let placed = place + i64::from(timestamp.wrapping_sub(known) as i32);
            if (placed - at).abs() <= JUMP {
                self.offset = Some((placed, timestamp));
                return placed;
            }
        }
        self.offset = Some((at, timestamp));
        at
    }

    fn give_out(&mut self, until: i64) -> Piece {
        let n = (until - self.from).clamp(0, MAX_READ) as usize;
        self.from += n as i64;
        let (caller, sent) = (self.caller.take(n), self.sent.take(n));
        Piece { caller, sent, dropped: self.dropped.load(Ordering::Relaxed) }
    }
}

/// When an entry was written, samples.
fn arrived(entry: &[u8; HEADER + 2 * MAX_SAMPLES]) -> i64 {
    let mut micros = [0; 8];
    micros.copy_from_slice(&entry[8..HEADER]);
    (u64::from_le_bytes(micros) / 125) as i64
}

/// What is kept of one direction.
#[derive(Default)]
struct Track {
    samples: Vec<i16>,
    /// Where the last piece ended.
    end: Option<i64>,
}

impl Track {
    /// Put *pcm* at *at*, the track beginning at *from*; return how much has no place any more.
    fn put(&mut self, from: i64, at: i64, pcm: &[i16]) -> u64 {
        self.end = Some(at + pcm.len() as i64);
        let missed = (from - at).clamp(0, pcm.len() as i64) as usize;
        let begin = (at - from).max(0) as usize;
        // The reader holds no more than what it may give, and what is as far ahead as a jump.
        if begin as i64 > MAX_READ + 2 * JUMP {
            self.end = None;
            return pcm.len() as u64;
        }
        let end = begin + pcm.len() - missed;
        if self.samples.len() < end {
            self.samples.resize(end, 0);
        }
        self.samples[begin..end].copy_from_slice(&pcm[missed..]);
        missed as u64
    }

    fn take(&mut self, n: usize) -> Vec<i16> {
        let mut taken: Vec<i16> = self.samples.drain(..n.min(self.samples.len())).collect();
        taken.resize(n, 0);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn loud(piece: &[i16]) -> usize {
        piece.iter().filter(|s| s.abs() > 100).count()
    }

    #[test]
    fn both_directions_stand_side_by_side() {
        let start = Instant::now();
        let (mut tap, mut reader) = tap(start);
        for n in 0..50u64 {
            tap.caller(160 * n as u32, Law::Mu, &[0x80; 160], start + ms(20 * n + n % 7));
            if n >= 25 {
                tap.sent(&[1000; 160], start + ms(20 * n + n % 3));
            }
        }
        let first = reader.read();
        let rest = reader.finish();
        let caller = [first.caller, rest.caller].concat();
        let sent = [first.sent, rest.sent].concat();
        assert_eq!(caller.len(), sent.len());
        assert!(caller.len() >= 8000 && loud(&caller) == 8000);
        assert_eq!(loud(&sent[..4000]), 0);
        assert_eq!(loud(&sent[4008..7840]), 7840 - 4008);
        assert_eq!(rest.dropped, 0);
    }

    #[test]
    fn a_late_packet_finds_its_place_and_a_lost_one_is_silence() {
        let start = Instant::now();
        let (mut tap, mut reader) = tap(start);
        let mut caller = Vec::new();
        for n in 0..40u64 {
            if n != 10 && n != 20 {
                tap.caller(160 * n as u32, Law::A, &[0xaa; 160], start + ms(20 * n));
            }
            if n == 18 {
                tap.caller(1600, Law::A, &[0x2a; 160], start + ms(20 * n));
            }
            caller.extend(reader.read().caller);
        }
        caller.extend(reader.finish().caller);
        assert!(caller[1600..1760].iter().all(|s| *s < -100));
        assert_eq!(loud(&caller[3200..3360]), 0);
        assert_eq!(loud(&caller), caller.len() - 160);
    }

    #[test]
    fn a_reader_that_is_too_slow_is_told_what_it_missed() {
        let start = Instant::now();
        let (mut tap, mut reader) = tap(start);
        for n in 0..1000u64 {
            tap.caller(160 * n as u32, Law::Mu, &[0x80; 160], start + ms(20 * n));
            tap.sent(&[1000; 160], start + ms(20 * n));
        }
        assert!(reader.read().dropped > 100_000);
    }

    #[test]
    fn an_hour_of_hold_is_read_in_pieces() {
        let start = Instant::now();
        let (mut tap, mut reader) = tap(start);
        tap.caller(0, Law::Mu, &[0x80; 160], start);
        let after = ms(3_600_000);
        tap.caller(8000 * 3600, Law::Mu, &[0x80; 160], start + after);
        tap.sent(&[1000; 160], start + after);
        let (mut total, mut heard) = (0, 0);
        loop {
            let piece = reader.finish();
            if piece.caller.is_empty() {
                break;
            }
            assert!(piece.caller.len() <= 80_000);
            total += piece.caller.len();
            heard += loud(&piece.caller);
        }
        assert_eq!((total, heard), (8000 * 3600 + 160, 320));
        tap.caller(8000 * 3600 + 800, Law::Mu, &[0x80; 160], start + after + ms(100));
        assert_eq!(loud(&reader.finish().caller), 160);
    }
}
