//! Figures of calls and threads for who asks, written by the threads as they go.

use crate::carrier::CarrierStats;
use crate::peer::PeerStats;
use crate::playout::PlayoutStats;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One call, both sides.
#[derive(Clone, Debug, Default)]
pub struct CallStats {
    pub carrier: CarrierStats,
    pub playout: PlayoutStats,
    /// The transports by side: the first sends, the one with a track receives.
    pub peers: [PeerStats; 2],
    /// Packets of silence that we sent into the room.
    pub silence: u64,
}

/// Where the call's thread leaves its figures, some ten times a second.
#[derive(Debug, Default)]
pub struct StatsCell(Mutex<CallStats>);

impl StatsCell {
    pub fn read(&self) -> CallStats {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Without waiting: where they are being read this moment the next time will do.
    pub fn write(&self, stats: CallStats) {
        if let Ok(mut place) = self.0.try_lock() {
            *place = stats;
        }
    }
}

/// What one media thread counts.
#[derive(Debug, Default)]
pub struct Counters {
    pub turns: AtomicU64,
    /// Nanoseconds that turns began too late, summed.
    pub late: AtomicU64,
    /// Packets towards carriers that were not sent in time.
    pub missed: AtomicU64,
    pub datagrams: AtomicU64,
    pub calls: AtomicUsize,
    pub faults: AtomicU64,
    pub realtime: AtomicBool,
    /// When the last turn ended (nanoseconds since the engine's start); 0: nothing to do.
    pub seen: AtomicU64,
}

/// All media threads together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turns {
    pub turns: u64,
    pub late: Duration,
    pub missed: u64,
    pub datagrams: u64,
    pub calls: usize,
    pub faults: u64,
    /// All of them run under SCHED_FIFO.
    pub realtime: bool,
    /// Time since the last turn of the thread that is furthest behind and has calls.
    pub behind: Duration,
}

impl Turns {
    pub fn of<'a>(threads: impl Iterator<Item = &'a Counters>, start: Instant) -> Turns {
        let now = start.elapsed();
        let mut sum = Turns { realtime: true, ..Turns::default() };
        for counters in threads {
            sum.turns += counters.turns.load(Relaxed);
            sum.late += Duration::from_nanos(counters.late.load(Relaxed));
            sum.missed += counters.missed.load(Relaxed);
            sum.datagrams += counters.datagrams.load(Relaxed);
            sum.calls += counters.calls.load(Relaxed);
            sum.faults += counters.faults.load(Relaxed);
            sum.realtime &= counters.realtime.load(Relaxed);
            let seen = counters.seen.load(Relaxed);
            if seen > 0 {
                sum.behind = sum.behind.max(now.saturating_sub(Duration::from_nanos(seen)));
            }
        }
        sum
    }
}
