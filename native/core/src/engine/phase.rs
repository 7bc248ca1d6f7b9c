//! Where a call's clock stands against the room's packets: as early as they allow, and moved as
//! seldom as can be.
//!
//! A packet that waits longer than its buffer asks for is delay for nothing; one that is not
//! there yet is a hole. The second is mended at once, the first when it has been so for a
//! while: each move makes gaps on the carrier's line that are not the period.

use super::pace::Slew;
use std::time::Duration;

/// Packets that are looked at before the clock is moved earlier: few at the beginning of a
/// talk, twice as many after each move.
const FIRST_WINDOW: u32 = 10;
const LAST_WINDOW: u32 = 400;

/// Packets without talk after which it begins anew; less is a hole in it.
const PAUSE: u32 = 25;

/// Ticks later that may follow one another: a period of 20 ms. Afterwards one in so many
/// packets (0.125 %, more than clocks drift), or as many as were made earlier: a room that is
/// slow never slows the carrier's line down, what it lacks is concealed.
const MOST_LATER: u32 = 8;
const LATER_EVERY: u32 = 100;

/// See the module.
#[derive(Debug)]
pub struct Phase {
    window: u32,
    seen: u32,
    /// The least that a packet of this window waited too long.
    least: Duration,
    /// Packets for which nobody talked.
    absent: u32,
    /// Ticks later that may be moved now, and packets towards one more.
    credit: u32,
    earned: u32,
}

impl Default for Phase {
    fn default() -> Self {
        Phase {
            window: FIRST_WINDOW,
            seen: 0,
            least: Duration::MAX,
            absent: 0,
            credit: MOST_LATER,
            earned: 0,
        }
    }
}

impl Phase {
    /// How the clock is to be moved. *off*: microseconds until the room's packet has waited for
    /// its buffer when ours is due once the clock has settled, less than 0 when it waits too
    /// long; `None`: nobody talks. *tick*: where the clock stands.
    pub fn judge(&mut self, off: Option<i64>, tick: Duration) -> Option<Slew> {
        self.earn();
        let Some(off) = off else {
            self.absent += 1;
            let window = if self.absent < PAUSE { self.window } else { FIRST_WINDOW };
            self.begin(window);
            return None;
        };
        self.absent = 0;
        let size = Duration::from_micros(off.unsigned_abs());
        if off > 0 && size > tick * 3 / 4 {
            self.begin(self.window);
            let ticks = ticks(size + tick / 4, tick).clamp(1, MOST_LATER).min(self.credit);
            self.credit -= ticks;
            return (ticks > 0).then(|| Slew::Later(tick * ticks));
        }
        let excess = if off < 0 { size } else { Duration::ZERO };
        self.least = self.least.min(excess);
        self.seen += 1;
        if self.seen >= self.window {
            let least = std::mem::replace(&mut self.least, Duration::MAX);
            self.seen = 0;
            // The clock stands on ticks: less than one too late is as near as it comes.
            if least > tick + tick / 2 {
                self.window = (self.window * 2).min(LAST_WINDOW);
                let ticks = ticks(least - tick / 2, tick);
                self.credit = self.credit.saturating_add(ticks).min(MOST_LATER);
                return Some(Slew::Earlier(tick * ticks));
            }
        }
        None
    }

    /// Look anew, at *window* packets.
    fn begin(&mut self, window: u32) {
        let (absent, credit, earned) = (self.absent, self.credit, self.earned);
        *self = Phase { window, absent, credit, earned, ..Phase::default() };
    }

    fn earn(&mut self) {
        self.earned += 1;
        if self.earned >= LATER_EVERY {
            self.earned = 0;
            self.credit = (self.credit + 1).min(MOST_LATER);
        }
    }
}

/// Whole ticks in *time*.
fn ticks(time: Duration, tick: Duration) -> u32 {
    u32::try_from(time.as_nanos() / tick.as_nanos().max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_micros(2500);

    /// Moves that are made over *count* packets that are *off* at first.
    fn moves(phase: &mut Phase, off: &mut i64, count: usize) -> usize {
        let mut moved = 0;
        for _ in 0..count {
            match phase.judge(Some(*off), TICK) {
                Some(Slew::Later(by)) => *off -= by.as_micros() as i64,
                Some(Slew::Earlier(by)) => *off += by.as_micros() as i64,
                None => continue,
            }
            moved += 1;
        }
        moved
    }

    #[test]
    fn a_packet_that_waits_too_long_moves_the_clock_until_it_does_not() {
        let (mut phase, mut off) = (Phase::default(), -17_500);
        assert_eq!(moves(&mut phase, &mut off, 30), 1);
        assert!((-4000..=0).contains(&off), "{off}");
        assert_eq!(moves(&mut phase, &mut off, 1000), 0);
    }

    #[test]
    fn a_hole_is_mended_at_once() {
        let (mut phase, mut off) = (Phase::default(), 6000);
        assert_eq!(moves(&mut phase, &mut off, 3), 1);
        assert!(off <= 1875);
    }

    #[test]
    fn a_room_that_is_slow_never_slows_the_line_down() {
        let mut phase = Phase::default();
        let later = (0..10_000).filter_map(|_| phase.judge(Some(5000), TICK));
        let later: Duration =
            later.map(|by| if let Slew::Later(by) = by { by } else { TICK }).sum();
        assert!((TICK * MOST_LATER..=TICK * 110).contains(&later), "{later:?}");
    }

    #[test]
    fn jitter_moves_the_clock_in_less_than_one_packet_of_a_hundred() {
        let mut phase = Phase::default();
        let (mut shift, mut moved) = (0i64, 0);
        for n in 0..20_000i64 {
            let noise = (n * 7919) % 9000 - 4500;
            if let Some(slew) = phase.judge(Some(noise + shift - 4000), TICK) {
                moved += 1;
                shift += match slew {
                    Slew::Later(by) => -(by.as_micros() as i64),
                    Slew::Earlier(by) => by.as_micros() as i64,
                };
            }
        }
        assert!(moved < 200, "{moved} moves");
    }

    /// A minute of a clock that plays what a mixer has, packets arriving with *jitter*
    /// (microseconds). Returns packets sent, moves, and what the mixer counted.
    fn minute(jitter: u64) -> (u32, u32, crate::playout::PlayoutStats) {
        use super::super::pace::Pace;
        use crate::playout::{Mixer, RoomCodec};
        use crate::types::Law;
        use std::time::Instant;
        let (period, origin) = (Duration::from_millis(20), Instant::now());
        let (mut mixer, mut phase) = (Mixer::new(origin), Phase::default());
        let mut pace = Pace::new(Duration::from_millis(5), period);
        let (mut sent, mut moved, mut next) = (0, 0, 0u64);
        let mut tick = 0;
        while tick < 24_000u32 {
            let at = (TICK * tick).min(pace.due());
            if at == TICK * tick {
                tick += 1;
            }
            let now = origin + at;
            let turn = pace.turn(at);
            for _ in 0..turn.send {
                mixer.pull(&mut [0; 160], now);
                sent += 1;
            }
            if turn.send > 0 {
                let planned = pace.settles().as_micros() as i64 - at.as_micros() as i64;
                let off = mixer.ready_in(now, period).map(|ready| ready - planned);
                if let Some(by) = phase.judge(off, TICK) {
                    pace.slew(by, TICK, at);
                    moved += 1;
                }
            }
            // Read after playing: what has come by now.
            loop {
                let mixed = next.wrapping_mul(6_364_136_223_846_793_005).rotate_left(29);
                let late = mixed.wrapping_mul(1_442_695_040_888_963_407) >> 33;
                let arrives = Duration::from_micros(next * 20_000 + late % jitter.max(1) + 700);
                if arrives > at {
                    break;
                }
                let payload: Vec<u8> = (0..160u64).map(|n| (n * 37 + next) as u8 | 0x80).collect();
                let codec = RoomCodec::G711(Law::Mu);
                mixer.push(1, next, (next * 160) as u32, codec, &payload, now);
                next += 1;
            }
        }
        (sent, moved, mixer.stats())
    }

    #[test]
    fn with_a_mixer_the_clock_settles_and_stays() {
        for jitter in [0, 3000, 10_000, 40_000, 60_000] {
            let (sent, moved, stats) = minute(jitter);
            assert!((2995..=3005).contains(&sent), "{sent} packets in a minute");
            assert!(moved < 30, "{moved} moves");
            assert!(stats.wait_mean_ms < 8.0 + jitter as f32 / 1000.0, "{stats:?}");
            assert!(stats.concealed_ms <= 200, "{stats:?}");
        }
    }

    #[test]
    fn where_nobody_talks_nothing_moves() {
        let mut phase = Phase::default();
        assert!((0..100).all(|_| phase.judge(None, TICK).is_none()));
    }
}
