//! How late packets come, compared with the fastest ones, and what delay follows from it.
//!
//! The delay of a packet is relative: its arrival less its timestamp, less the smallest such
//! difference of the last seconds (the base). A histogram of it that forgets gives the target:
//! what 97 % of the packets need.

/// Width of a class of the histogram, microseconds: a turn of the media thread.
const CLASS: i64 = 2500;
const CLASSES: usize = 64;
const QUANTILE: f32 = 0.97;
/// Part of the delay that is added to what most packets need: the others need more, and each that
/// comes too late is heard.
const HEADROOM: i64 = 4;
/// Weight that a packet takes from those before it, once there are enough of them.
const FORGET: f32 = 0.005;
/// Half of the time over which the base is the smallest.
const HALF: i64 = 2_000_000;
/// The target's bounds, microseconds.
pub const MAX_TARGET: i64 = 140_000;
/// Until enough packets have come.
const FIRST_TARGET: i64 = 5_000;

pub struct Arrivals {
    classes: [f32; CLASSES],
    counted: u32,
    before: i64,
    current: i64,
    since: i64,
    /// Of the packets that came too late, fading.
    peak: i64,
    target: i64,
    jitter: f32,
    last: Option<i64>,
}

impl Arrivals {
    pub fn new() -> Arrivals {
        Arrivals {
            classes: [0.0; CLASSES],
            counted: 0,
            before: 0,
            current: 0,
            since: 0,
            peak: 0,
            target: FIRST_TARGET,
            jitter: 0.0,
            last: None,
        }
    }

    /// Count a packet that arrived at *at* with *timestamp*, both microseconds.
    pub fn arrive(&mut self, at: i64, timestamp: i64) {
        let difference = at - timestamp;
        match self.last {
            Some(last) => {
                self.jitter += ((difference - last).abs() as f32 - self.jitter) / 16.0;
            }
            None => self.restart(at, difference),
        }
        self.last = Some(difference);
        if at - self.since > HALF {
            self.before = self.current;
            self.current = difference;
            self.since = at;
        }
        self.current = self.current.min(difference);
        self.count(difference - self.base());
        self.target = self.quantile().max(self.peak).min(MAX_TARGET);
        self.peak -= self.peak / 512;
    }

    /// A packet came too late to be played.
    pub fn late(&mut self) {
        if let Some(last) = self.last {
            // Where one comes late, a later one comes later.
            let delay = last - self.base();
            self.peak = self.peak.max((delay + delay / HEADROOM).min(self.target + 40_000));
        }
    }

    /// What is known of the timeline is void; how much the network jitters stays.
    pub fn restart(&mut self, at: i64, difference: i64) {
        self.before = difference;
        self.current = difference;
        self.since = at;
        self.last = None;
    }

    /// Arrival less timestamp of the fastest packets.
    pub fn base(&self) -> i64 {
        self.before.min(self.current)
    }

    /// Whether enough has come for the base to be trusted.
    pub fn settled(&self) -> bool {
        self.counted >= 10
    }

    pub fn known(&self) -> bool {
        self.last.is_some()
    }

    /// Microseconds that a packet of the fastest should wait.
    pub fn target(&self) -> i64 {
        self.target
    }

    /// RFC 3550 6.4.1, microseconds.
    pub fn jitter(&self) -> f32 {
        self.jitter
    }

    fn count(&mut self, delay: i64) {
        self.counted = self.counted.saturating_add(1);
        let weight = FORGET.max(1.0 / self.counted as f32);
        for class in &mut self.classes {
            *class -= *class * weight;
        }
        let class = (delay / CLASS).clamp(0, CLASSES as i64 - 1) as usize;
        self.classes[class] += weight;
    }

    fn quantile(&self) -> i64 {
        let mut sum = 0.0;
        for (n, class) in self.classes.iter().enumerate() {
            sum += class;
            if sum >= QUANTILE {
                // Its upper end, where there is jitter at all, and what later ones need more.
                let end = (n as i64 + (n > 0) as i64) * CLASS;
                return end + end / HEADROOM;
            }
        }
        MAX_TARGET
    }
}
