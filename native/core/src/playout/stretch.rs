//! Shortens and lengthens audio without a click, and tells where nobody hears it.

/// Samples of a cross-fade, 5 ms.
pub const FADE: usize = 40;
/// Mean amplitude under which all is quiet (about -66 dBov).
const QUIET: f32 = 16.0;
/// And so far under the level of the speech, about 28 dB.
const BELOW: f32 = 25.0;
/// Lags that are tried in speech, 2.5 to 15 ms, and samples compared, 10 ms.
const SHORTEST: usize = 20;
pub const LONGEST: usize = 120;
const COMPARED: usize = 80;
/// Normalised correlation from which a period counts as found.
const ALIKE: f32 = 0.7;

/// How loud the speech is: rises at once, falls within seconds.
pub struct Level(f32);

impl Level {
    pub fn new() -> Level {
        Level(0.0)
    }

    /// Count *pcm*; return its mean amplitude.
    pub fn count(&mut self, pcm: &[i16]) -> f32 {
        let mean = mean(pcm);
        self.0 = (self.0 * 0.997).max(mean);
        mean
    }

    pub fn is_quiet(&self, pcm: &[i16]) -> bool {
        mean(pcm) < (self.0 / BELOW).max(QUIET)
    }
}

fn mean(pcm: &[i16]) -> f32 {
    let sum: u32 = pcm.iter().map(|s| u32::from(s.unsigned_abs())).sum();
    sum as f32 / pcm.len().max(1) as f32
}

/// Take the first *n* of *pcm* out, cross-fading into what follows; return what is left.
///
/// The caller has seen to it that `n + FADE` samples are there.
pub fn cut(pcm: &mut Vec<i16>, n: usize) {
    for i in 0..FADE {
        pcm[i] = blend(pcm[i], pcm[i + n], i);
    }
    pcm.drain(FADE..FADE + n);
}

/// Play the first *n* of *pcm* twice, cross-fading at the seam.
///
/// The caller has seen to it that `n + FADE` samples are there.
pub fn repeat(pcm: &mut Vec<i16>, n: usize, scratch: &mut Vec<i16>) {
    scratch.clear();
    scratch.extend_from_slice(&pcm[..n]);
    for i in 0..FADE {
        scratch.push(blend(pcm[n + i], pcm[i], i));
    }
    pcm.splice(..FADE, scratch.drain(..));
}

/// The period of *pcm* at its start, up to *longest*, where it is so regular that one more or
/// less is not heard.
pub fn period(pcm: &[i16], longest: usize) -> Option<usize> {
    let longest = longest.min(LONGEST).min(pcm.len().checked_sub(COMPARED)?);
    let first = &pcm[..COMPARED];
    let own: f32 = first.iter().map(|a| f32::from(*a) * f32::from(*a)).sum();
    let mut best = (0, ALIKE);
    for lag in SHORTEST..=longest {
        let (mut product, mut energy) = (0.0f32, 1.0f32);
        for (a, b) in first.iter().zip(&pcm[lag..]) {
            product += f32::from(*a) * f32::from(*b);
            energy += f32::from(*b) * f32::from(*b);
        }
        let alike = product / (energy * (own + 1.0)).sqrt();
        if alike > best.1 {
            best = (lag, alike);
        }
    }
    (best.0 > 0).then_some(best.0)
}

fn blend(from: i16, to: i16, i: usize) -> i16 {
    let share = (i + 1) as i32;
    let total = FADE as i32 + 1;
    ((i32::from(from) * (total - share) + i32::from(to) * share) / total) as i16
}

/// Cross-fade the start of *pcm* with *before*, what would have gone on.
pub fn take_over(before: &[i16], pcm: &mut [i16]) {
    for (i, (to, from)) in pcm.iter_mut().zip(before).take(FADE).enumerate() {
        *to = blend(*from, *to, i);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(n: usize, period: f32) -> Vec<i16> {
        (0..n)
            .map(|i| ((i as f32 / period * std::f32::consts::TAU).sin() * 8000.0) as i16)
            .collect()
    }

    fn steepest(pcm: &[i16]) -> i32 {
        pcm.windows(2).map(|w| (i32::from(w[1]) - i32::from(w[0])).abs()).max().unwrap_or(0)
    }

    #[test]
    fn a_period_more_or_less_is_no_click() {
        let clean = tone(400, 50.0);
        let mut shorter = clean.clone();
        let lag = period(&shorter, LONGEST).expect("a tone is regular");
        assert!(lag % 50 <= 1 || lag % 50 == 49);
        cut(&mut shorter, lag);
        assert_eq!(shorter.len(), 400 - lag);
        let mut longer = clean.clone();
        repeat(&mut longer, lag, &mut Vec::new());
        assert_eq!(longer.len(), 400 + lag);
        for pcm in [&shorter, &longer] {
            assert!(steepest(pcm) < steepest(&clean) * 5 / 4);
        }
    }

    #[test]
    fn noise_has_no_period_and_silence_is_quiet() {
        let mut state = 1u32;
        let noise: Vec<i16> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 17) as i16 - 16_384
        })
        .take(300)
        .collect();
        assert_eq!(period(&noise, LONGEST), None);
        let mut level = Level::new();
        level.count(&tone(160, 50.0));
        assert!(level.is_quiet(&[20; 100]));
        assert!(!level.is_quiet(&tone(160, 50.0)));
    }
}
