//! Time as the kernel has it, in nanoseconds.

/// A second.
pub const SECOND: u64 = 1_000_000_000;
/// The packet time of everything here.
pub const PTIME: u64 = 20_000_000;

/// Return CLOCK_MONOTONIC.
pub fn monotonic() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Return CLOCK_REALTIME: the clock of the kernel's timestamps.
pub fn realtime() -> u64 {
    read(libc::CLOCK_REALTIME)
}

/// Sleep until CLOCK_MONOTONIC says `at`; returns at once when it is past.
pub fn sleep_until(at: u64) {
    let wanted = libc::timespec { tv_sec: (at / SECOND) as _, tv_nsec: (at % SECOND) as _ };
    // SAFETY: `wanted` is a valid timespec, and no remainder is asked for with TIMER_ABSTIME.
    unsafe {
        libc::clock_nanosleep(
            libc::CLOCK_MONOTONIC,
            libc::TIMER_ABSTIME,
            &wanted,
            std::ptr::null_mut(),
        )
    };
}

/// Have sleeps end when they are due (the default slack is 50 us), and run before whatever else
/// shares our core, where that is allowed: what measures must not wait for what is measured.
pub fn be_punctual() {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: PR_SET_TIMERSLACK takes one integer; `priority` is valid; both touch this thread
    // alone, and what is refused leaves it as it was.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1u64);
        libc::sched_setscheduler(0, libc::SCHED_FIFO, &priority);
    }
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write to.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}
