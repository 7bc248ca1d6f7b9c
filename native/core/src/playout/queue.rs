//! Decoded audio of one track that waits for the next tick.

use super::stretch::{self, FADE};

pub struct Queue {
    samples: Vec<i16>,
    scratch: Vec<i16>,
}

impl Queue {
    pub fn new() -> Queue {
        Queue { samples: Vec::with_capacity(2048), scratch: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.samples.len()
    }

    pub fn as_slice(&self) -> &[i16] {
        &self.samples
    }

    pub fn push(&mut self, samples: &[i16]) {
        self.samples.extend_from_slice(samples);
    }

    /// The first *n* are used up.
    pub fn consume(&mut self, n: usize) {
        self.samples.drain(..n.min(self.samples.len()));
    }

    pub fn clear(&mut self) {
        self.samples.clear();
    }

    /// Take *n* samples out at the front; false: not enough is there.
    pub fn cut(&mut self, n: usize) -> bool {
        if self.len() < n + FADE {
            return false;
        }
        stretch::cut(&mut self.samples, n);
        true
    }

    /// Play *n* samples at the front twice; false: not enough is there.
    pub fn repeat(&mut self, n: usize) -> bool {
        if self.len() < n + FADE || n == 0 {
            return false;
        }
        stretch::repeat(&mut self.samples, n, &mut self.scratch);
        true
    }
}
