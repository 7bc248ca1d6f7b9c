//! Indices of one SSRC: the roll-over counter's guess and the replay windows.

/// What is remembered of one SSRC under one key.
pub struct Stream {
    pub ssrc: u32,
    /// Place in the order of what was heard, for forgetting.
    pub heard: u64,
    pub rtp: Window,
    pub rtcp: Window,
}

/// Which indices have passed (RFC 3711 3.3.2): the highest, and a bit for each below it.
pub struct Window {
    highest: Option<u64>,
    /// A ring: index n is bit n modulo the size.
    bits: Box<[u64]>,
}

impl Window {
    /// A window of at least `size` indices.
    pub fn new(size: usize) -> Window {
        Window { highest: None, bits: vec![0; size.div_ceil(64).max(1)].into() }
    }

    fn size(&self) -> u64 {
        self.bits.len() as u64 * 64
    }

    pub fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// Tell whether `index` is neither older than the window nor seen in it.
    pub fn is_new(&self, index: u64) -> bool {
        match self.highest {
            Some(highest) if index <= highest => {
                highest - index < self.size() && !self.is_set(index)
            }
            _ => true,
        }
    }

    /// Note that `index` has passed. Only authentic packets may come here.
    pub fn accept(&mut self, index: u64) {
        let from = self.highest.map_or(index, |highest| highest + 1);
        if index >= from {
            let steps = (index - from + 1).min(self.size());
            for skipped in index + 1 - steps..=index {
                self.set(skipped, false);
            }
            self.highest = Some(index);
        }
        self.set(index, true);
    }

    fn is_set(&self, index: u64) -> bool {
        let at = index % self.size();
        self.bits.get((at / 64) as usize).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn set(&mut self, index: u64, seen: bool) {
        let at = index % self.size();
        if let Some(word) = self.bits.get_mut((at / 64) as usize) {
            let bit = 1 << (at % 64);
            if seen {
                *word |= bit;
            } else {
                *word &= !bit;
            }
        }
    }
}

/// Return the index of a packet by its sequence number: the nearest to the highest so far
/// (RFC 3711 3.3.1, appendix A). A new stream is in its first round.
pub fn guess(highest: Option<u64>, sequence: u16) -> u64 {
    const HALF: i64 = 0x8000;
    let sequence = u64::from(sequence);
    let Some(highest) = highest else { return sequence };
    let (round, last) = (highest >> 16, (highest & 0xFFFF) as i64);
    let round = if last < HALF && sequence as i64 - last > HALF {
        // Also before the first round, where there is none: then it is far ahead.
        round.saturating_sub(1)
    } else if last >= HALF && last - HALF > sequence as i64 {
        round + 1
    } else {
        round
    };
    round << 16 | sequence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_the_nearest_to_the_highest() {
        for (highest, sequence, wanted) in [
            (None, 65535, 65535),
            (Some(65535), 0, 65536),
            (Some(65536), 65535, 65535),
            (Some(0), 0x8000, 0x8000),
            (Some(10), 65530, 65530), // no round before the first
            (Some(0x1_0000 + 10), 65530, 65530),
            (Some(0x1_8001), 0, 0x2_0000),
            (Some(0x1_8000), 0, 0x1_0000), // just half a round away: as the counter stands
            (Some(0x1_0000), 0x8000, 0x1_8000),
        ] {
            assert_eq!(guess(highest, sequence), wanted, "{highest:?} {sequence}");
        }
    }

    #[test]
    fn an_index_passes_once_and_only_within_the_window() {
        let mut window = Window::new(128);
        assert!(window.is_new(1000));
        window.accept(1000);
        assert!(!window.is_new(1000));
        assert!(window.is_new(873));
        assert!(!window.is_new(872));
        window.accept(900);
        assert!(!window.is_new(900));
        window.accept(1027);
        assert!(window.is_new(1001), "the ring's old bits are gone");
        assert!(!window.is_new(1000));
        assert!(!window.is_new(900));
        assert!(window.is_new(901));
        window.accept(1 << 40);
        assert!(window.is_new((1 << 40) - 127));
        assert!(!window.is_new(1 << 40));
    }
}
