//! What a target reads its script from, and the clock of the script.

use std::time::{Duration, Instant};

/// The fuzzer's bytes as numbers and datagrams. Past the end everything is 0 and empty, so
/// that a loop over it must ask `is_over`.
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub fn new(bytes: &'a [u8]) -> Script<'a> {
        Script(bytes)
    }

    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub fn word(&mut self) -> u32 {
        u32::from(self.short()) << 16 | u32::from(self.short())
    }

    /// Take up to so many bytes.
    pub fn take(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Take a datagram of up to 255 bytes, or now and then a long one.
    pub fn datagram(&mut self) -> Vec<u8> {
        let length = usize::from(self.byte());
        let mut datagram = self.take(length).to_vec();
        if length == 255 {
            let longer = usize::from(self.short()) % 1600;
            datagram.resize(datagram.len().max(longer), 0xA5);
        }
        datagram
    }
}

/// A clock that the script moves.
pub struct Clock {
    pub now: Instant,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock { now: Instant::now() }
    }
}

impl Clock {
    /// Steps from a millisecond to some hours, most of them short.
    pub fn step(&mut self, script: &mut Script) {
        let step = script.byte();
        let long = u64::from(step & 0x3F);
        self.now += match step >> 6 {
            0 => Duration::from_millis(long),
            1 => Duration::from_millis(20 * long),
            2 => Duration::from_secs(long),
            _ => Duration::from_secs(600 * long),
        };
    }
}
