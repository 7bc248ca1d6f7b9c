//! What a thread may ask of the scheduler.

/// Put the calling thread under SCHED_FIFO with *priority* (1 to 99). Needs CAP_SYS_NICE or
/// RLIMIT_RTPRIO; false: not allowed, or *priority* is 0. Children do not inherit it.
pub fn become_realtime(priority: i32) -> bool {
    if priority <= 0 {
        return false;
    }
    let parameter = libc::sched_param { sched_priority: priority };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: `parameter` outlives the call; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) == 0 }
}

/// Let the calling thread's sleeps end on time: without it the kernel may add 50 us.
pub fn sharpen_timers() {
    let nanoseconds: libc::c_ulong = 1;
    // SAFETY: PR_SET_TIMERSLACK takes one number and touches the calling thread only.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanoseconds) };
}
