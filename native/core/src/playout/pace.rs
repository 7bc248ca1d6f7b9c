//! Whether a track plays with more delay than it needs, or less: watched over a second.

/// Samples over which it is watched.
const WINDOW: i64 = 8000;
/// Less is not worth a cut.
const LEAST: i64 = 20;

pub struct Pace {
    watched: i64,
    least: i64,
    most: i64,
    /// Samples to take out, found in the last window and not yet taken.
    pub excess: i64,
    /// Samples to add.
    pub lack: i64,
    /// Samples played since there was something to do and no good moment for it.
    pub waited: i64,
}

impl Pace {
    pub fn new() -> Pace {
        Pace { watched: 0, least: i64::MAX, most: i64::MIN, excess: 0, lack: 0, waited: 0 }
    }

    /// After a block of *block* samples, *sure* of what has surely come was left over; *likely*
    /// is the same, reckoned less strictly. True: a window has ended.
    pub fn watch(&mut self, block: i64, sure: i64, likely: i64) -> bool {
        self.least = self.least.min(sure);
        self.most = self.most.max(likely);
        self.watched += block;
        if self.excess > 0 || self.lack > 0 {
            self.waited += block;
        }
        if self.watched < WINDOW {
            return false;
        }
        self.excess = if self.least >= LEAST { self.least } else { 0 };
        self.lack = if self.most < 0 { -self.most } else { 0 };
        if self.excess == 0 && self.lack == 0 {
            self.waited = 0;
        }
        self.again();
        true
    }

    /// The delay was changed by *samples* (more than before: above 0): watch anew.
    pub fn changed(&mut self, samples: i64) {
        self.excess = (self.excess + samples.min(0)).max(0);
        self.lack = (self.lack - samples.max(0)).max(0);
        self.waited = 0;
        self.again();
    }

    pub fn again(&mut self) {
        self.watched = 0;
        self.least = i64::MAX;
        self.most = i64::MIN;
    }
}
