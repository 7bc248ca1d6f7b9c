//! Decoded audio of one track that waits for the next tick.

pub struct Queue {
    samples: Vec<i16>,
    from: usize,
}

impl Queue {
    pub fn new() -> Queue {
        Queue { samples: Vec::with_capacity(2048), from: 0 }
    }

    pub fn len(&self) -> usize {
        self.samples.len() - self.from
    }

    pub fn as_slice(&self) -> &[i16] {
        &self.samples[self.from..]
    }

    pub fn push(&mut self, samples: &[i16]) {
        if self.from > 0 {
            self.samples.drain(..self.from);
            self.from = 0;
        }
        self.samples.extend_from_slice(samples);
    }

    /// The first *n* are used up.
    pub fn consume(&mut self, n: usize) {
        self.from = (self.from + n).min(self.samples.len());
    }

    pub fn clear(&mut self) {
        self.samples.clear();
        self.from = 0;
    }
}
