//! The steady clock of one call: when its next packet leaves for the carrier.

use std::time::Duration;

/// Packets that leave together after a stall; what is older is skipped, never sent in a burst.
const MAX_BURST: u32 = 2;

/// The most that one packet is moved by: a step of the clock is heard by nobody and seen in no
/// statistics. Later, where a hole is to be mended, it goes faster.
const STEP_EARLIER: i64 = 250;
const STEP_LATER: i64 = 500;

/// Due times, as time since the thread's origin. They stand on ticks, where the thread is awake
/// anyway, but while the clock moves.
#[derive(Debug)]
pub struct Pace {
    due: Duration,
    period: Duration,
    /// What is left of a move, microseconds; less than 0: earlier.
    moving: i64,
}

/// What to do at a tick.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turn {
    /// Packets that were not sent in time.
    pub skip: u32,
    /// Packets to send now.
    pub send: u32,
}

impl Pace {
    pub fn new(first: Duration, period: Duration) -> Self {
        Pace { due: first, period, moving: 0 }
    }

    pub fn due(&self) -> Duration {
        self.due
    }

    pub fn period(&self) -> Duration {
        self.period
    }

    pub fn set_period(&mut self, period: Duration) {
        self.period = period;
    }

    /// Take the clock's turn at *now*; the next packet is due one period after the last.
    pub fn turn(&mut self, now: Duration) -> Turn {
        if now < self.due {
            return Turn::default();
        }
        let periods = (now - self.due).as_nanos() / self.period.as_nanos().max(1);
        let late = u32::try_from(periods).unwrap_or(u32::MAX);
        let count = late.saturating_add(1);
        self.due += self.period * count;
        self.step(now);
        let send = count.min(MAX_BURST);
        Turn { skip: count - send, send }
    }

    /// Forget what was: the next packet is due at the first tick from *first* on.
    pub fn restart(&mut self, first: Duration, tick: Duration) {
        let past = first.as_nanos() % tick.as_nanos().max(1);
        let rest = tick.as_nanos() - past;
        self.due = first + if past == 0 { Duration::ZERO } else { nanoseconds(rest) };
        self.moving = 0;
    }

    /// When the next packet would be due if the move under way were done.
    pub fn settles(&self) -> Duration {
        moved(self.due, self.moving)
    }

    /// Move the clock by about *by* from where it settles, to a tick, a step with each packet.
    pub fn slew(&mut self, by: Slew, tick: Duration, now: Duration) {
        let wanted = match by {
            Slew::Later(by) => self.settles() + by,
            Slew::Earlier(by) => self.settles().saturating_sub(by),
        };
        let past = nanoseconds(wanted.as_nanos() % tick.as_nanos().max(1));
        let place = if past < tick / 2 { wanted - past } else { wanted - past + tick };
        self.moving = micros(place) - micros(self.due);
        self.step(now);
    }

    /// One step of a move, never into the past.
    fn step(&mut self, now: Duration) {
        let step = self.moving.clamp(-STEP_EARLIER, STEP_LATER);
        let due = moved(self.due, step).max(now);
        self.moving -= micros(due) - micros(self.due);
        self.due = due;
    }
}

fn moved(at: Duration, by: i64) -> Duration {
    let size = Duration::from_micros(by.unsigned_abs());
    if by < 0 { at.saturating_sub(size) } else { at + size }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

fn nanoseconds(count: u128) -> Duration {
    Duration::from_nanos(u64::try_from(count).unwrap_or(u64::MAX))
}

/// Which way a clock is to be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slew {
    Later(Duration),
    Earlier(Duration),
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn one_packet_a_period_whatever_the_ticks_are() {
        let mut pace = Pace::new(ms(3), ms(11));
        let mut sent = 0;
        for tick in 0..4400 {
            let turn = pace.turn(Duration::from_micros(2500 * tick));
            assert_eq!(turn.skip, 0);
            sent += turn.send;
        }
        assert_eq!(sent, 1000);
    }

    #[test]
    fn after_a_stall_two_packets_leave_and_the_rest_is_skipped() {
        let mut pace = Pace::new(ms(0), ms(20));
        assert_eq!(pace.turn(ms(100)), Turn { skip: 4, send: 2 });
        assert_eq!(pace.turn(ms(119)), Turn::default());
        assert_eq!(pace.turn(ms(120)), Turn { skip: 0, send: 1 });
    }

    /// The gaps between packets, microseconds, until none deviates any more.
    fn gaps(pace: &mut Pace) -> Vec<i64> {
        let mut found = vec![];
        loop {
            let at = pace.due();
            assert_eq!(pace.turn(at), Turn { skip: 0, send: 1 });
            found.push(micros(pace.due()) - micros(at));
            if pace.due() == pace.settles() {
                return found;
            }
        }
    }

    #[test]
    fn the_clock_moves_to_a_tick_in_small_steps() {
        let tick = Duration::from_micros(2500);
        let mut pace = Pace::new(ms(20), ms(20));
        pace.slew(Slew::Later(ms(7)), tick, ms(1));
        assert_eq!(pace.settles(), Duration::from_micros(27_500));
        let steps = gaps(&mut pace);
        assert!(steps.iter().all(|gap| (20_000..=20_500).contains(gap)), "{steps:?}");
        assert_eq!(steps.len(), 14);
        pace.slew(Slew::Earlier(ms(5)), tick, pace.due() - ms(19));
        let steps = gaps(&mut pace);
        assert!(steps.iter().all(|gap| (19_750..=20_000).contains(gap)), "{steps:?}");
        assert_eq!(pace.due().as_nanos() % tick.as_nanos(), 0);
    }

    #[test]
    fn a_move_that_is_under_way_may_turn_round_and_none_goes_into_the_past() {
        let tick = Duration::from_micros(2500);
        let mut pace = Pace::new(ms(20), ms(20));
        pace.slew(Slew::Earlier(ms(5)), tick, ms(20));
        assert_eq!((pace.due(), pace.settles()), (ms(20), ms(15)));
        pace.turn(ms(20));
        assert_eq!(pace.due(), Duration::from_micros(39_750));
        pace.slew(Slew::Later(ms(5)), tick, ms(20));
        assert_eq!(pace.settles(), ms(40));
    }

    #[test]
    fn a_clock_that_begins_anew_stands_on_a_tick() {
        let tick = Duration::from_micros(2500);
        let mut pace = Pace::new(ms(20), ms(20));
        for (first, due) in [(30_000, 30_000), (30_001, 32_500), (32_499, 32_500)] {
            pace.restart(Duration::from_micros(first), tick);
            assert_eq!(pace.due(), Duration::from_micros(due));
        }
    }
}
