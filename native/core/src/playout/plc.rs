//! Concealment of lost G.711 (after the description in ITU-T G.711 Appendix I, without its delay).
//!
//! What is lost is the last pitch period repeated: the period is found by correlation, its seam
//! is cross-faded, more periods are taken in turn as the loss grows (one alone buzzes), and the
//! sound fades from 10 to 60 ms. The first real samples are cross-faded with how it would have
//! gone on.

/// Samples remembered, 50 ms: three of the longest periods and a quarter.
const HISTORY: usize = 400;
/// Pitch periods looked for: 66 to 200 Hz... 5 to 15 ms as samples.
const SHORTEST: usize = 40;
const LONGEST: usize = 120;
/// Samples compared to find the period, 20 ms.
const COMPARED: usize = 160;
/// Samples until another period is taken too, 10 ms.
const STAGE: usize = 80;
/// Then it fades away, to nothing after 60 ms.
const FADE_FROM: usize = 80;
const SILENT: usize = 480;
/// Samples over which real audio takes over, 4 ms and 4 more for each 10 ms of loss, 10 at most.
const TAKE_OVER: usize = 32;
const TAKE_OVER_MAX: usize = 80;

pub struct Plc {
    /// The last audio that was played.
    history: [f32; HISTORY],
    /// The history as it was when the loss began, its seam smoothed.
    model: [f32; HISTORY],
    period: usize,
    /// Periods in use, and where in `model` the next sample is.
    periods: usize,
    at: usize,
    /// Step between the last sample and its place in the model, taken away gradually.
    step: f32,
    /// Samples concealed so far.
    lost: usize,
}

impl Plc {
    pub fn new() -> Plc {
        Plc {
            history: [0.0; HISTORY],
            model: [0.0; HISTORY],
            period: SHORTEST,
            periods: 1,
            at: 0,
            step: 0.0,
            lost: 0,
        }
    }

    /// Real audio came: smooth its start after a loss, and remember it.
    pub fn heard(&mut self, pcm: &mut [i16]) {
        if self.lost > 0 {
            let extra = (self.lost / STAGE) * TAKE_OVER;
            let n = (TAKE_OVER + extra).min(TAKE_OVER_MAX).min(pcm.len());
            for (i, real) in pcm[..n].iter_mut().enumerate() {
                let share = (i + 1) as f32 / (n + 1) as f32;
                let mixed = f32::from(*real) * share + self.next() * (1.0 - share);
                *real = mixed.round() as i16;
            }
            self.lost = 0;
        }
        self.remember(pcm);
    }

    /// Write what was lost.
    pub fn fill(&mut self, out: &mut [i16]) {
        if self.lost == 0 {
            self.begin();
        }
        for to in out.iter_mut() {
            *to = self.next().round() as i16;
        }
        self.remember(out);
    }

    fn remember(&mut self, pcm: &[i16]) {
        let pcm = &pcm[pcm.len().saturating_sub(HISTORY)..];
        self.history.copy_within(pcm.len().., 0);
        for (to, from) in self.history[HISTORY - pcm.len()..].iter_mut().zip(pcm) {
            *to = f32::from(*from);
        }
    }

    fn begin(&mut self) {
        self.period = pitch(&self.history);
        self.model = self.history;
        self.periods = 1;
        self.at = HISTORY - self.period;
        let before = self.at - 1;
        self.step = self.history[HISTORY - 1] - self.history[before];
        // The end of the last period goes over into what came before it, so that it can repeat.
        let quarter = self.period / 4;
        for i in 0..quarter {
            let share = (i + 1) as f32 / (quarter + 1) as f32;
            let end = HISTORY - quarter + i;
            let earlier = self.history[end - self.period];
            self.model[end] = self.history[end] * (1.0 - share) + earlier * share;
        }
    }

    /// The next sample of the model.
    fn next(&mut self) -> f32 {
        let stage = (self.lost / STAGE + 1).min(3);
        if stage > self.periods {
            self.periods = stage;
            self.at -= self.period;
        }
        let smooth = (self.period / 4) as f32;
        let left = (1.0 - self.lost as f32 / smooth).max(0.0);
        let sample = self.model[self.at] + self.step * left * left;
        self.at += 1;
        if self.at == HISTORY {
            self.at = HISTORY - self.period * self.periods;
        }
        let faded = self.lost.saturating_sub(FADE_FROM) as f32 / (SILENT - FADE_FROM) as f32;
        self.lost += 1;
        (sample * (1.0 - faded).max(0.0)).clamp(-32768.0, 32767.0)
    }
}

/// The lag at which the end of *history* is most like what came before.
fn pitch(history: &[f32; HISTORY]) -> usize {
    let recent = &history[HISTORY - COMPARED..];
    let likeness = |lag: usize| {
        let earlier = &history[HISTORY - COMPARED - lag..HISTORY - lag];
        let (mut product, mut energy) = (0.0, 1.0f32);
        for (a, b) in recent.iter().zip(earlier) {
            product += a * b;
            energy += b * b;
        }
        product / energy.sqrt()
    };
    let mut best = (SHORTEST, f32::MIN);
    for lag in SHORTEST..=LONGEST {
        let like = likeness(lag);
        if like > best.1 {
            best = (lag, like);
        }
    }
    best.0
}
