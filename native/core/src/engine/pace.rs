//! The steady clock of one call: when its next packet leaves for the carrier.

use std::time::Duration;

/// Packets that leave together after a stall; what is older is skipped, never sent in a burst.
const MAX_BURST: u32 = 2;

/// Due times, as time since the thread's origin. A packet leaves at the first tick at or after
/// its due time, so that a gap deviates from the period by one tick at most, by one more while
/// the clock slews.
#[derive(Debug)]
pub struct Pace {
    due: Duration,
    period: Duration,
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
        Pace { due: first, period }
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
        let send = count.min(MAX_BURST);
        Turn { skip: count - send, send }
    }

    /// Forget what was: the next packet is due at *first*.
    pub fn restart(&mut self, first: Duration) {
        self.due = first;
    }

    /// Move the next packet by *by*, at most *most* either way, and never into the past.
    pub fn slew(&mut self, by: Slew, most: Duration, now: Duration) {
        self.due = match by {
            Slew::Later(by) => self.due + by.min(most),
            Slew::Earlier(by) => self.due.saturating_sub(by.min(most)).max(now),
        };
    }
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

    #[test]
    fn the_clock_slews_by_no_more_than_it_may_and_never_into_the_past() {
        let mut pace = Pace::new(ms(20), ms(20));
        pace.slew(Slew::Later(ms(7)), ms(2), ms(0));
        assert_eq!(pace.due(), ms(22));
        pace.slew(Slew::Earlier(ms(50)), ms(2), ms(0));
        assert_eq!(pace.due(), ms(20));
        pace.slew(Slew::Earlier(ms(2)), ms(2), ms(19));
        assert_eq!(pace.due(), ms(19));
    }
}
