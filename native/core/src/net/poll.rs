//! Readiness of descriptors: epoll, an eventfd to be woken by, and a sleep that it ends.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// Descriptors that one `Epoll::ready` tells at most; the others are told by the next.
const BATCH: usize = 512;

/// A set of descriptors, level-triggered, for reading.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: a descriptor that was just made for us and has no other owner.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Watch *fd*; `ready` tells *token*.
    pub fn add(&self, fd: RawFd, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        // SAFETY: `event` outlives the call, which only reads it.
        let done =
            unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        check(done).map(drop)
    }

    /// Watch *fd* no more. Needed before closing where the descriptor was duplicated: the
    /// kernel watches what lies behind it.
    pub fn remove(&self, fd: RawFd) {
        // SAFETY: since Linux 2.6.9 EPOLL_CTL_DEL takes no event.
        unsafe {
            libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut());
        }
    }

    /// Put the tokens of what can be read into *out*, waiting up to *timeout* (`None`: for
    /// ever) for the first one; whole milliseconds, rounded up.
    pub fn ready(&self, out: &mut Vec<u64>, timeout: Option<Duration>) {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; BATCH];
        let wait = timeout.map_or(-1, |timeout| {
            i32::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
        });
        // SAFETY: `events` has room for BATCH entries and outlives the call.
        let count = unsafe {
            libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), BATCH as i32, wait)
        };
        out.clear();
        out.extend(events.iter().take(count.max(0) as usize).map(|event| event.u64));
    }
}

/// A counter that wakes who waits for it; any number of signals are one.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })?;
        // SAFETY: a descriptor that was just made for us and has no other owner.
        Ok(EventFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    pub fn signal(&self) {
        let one = 1u64;
        // SAFETY: eight bytes are read from `one`. A full counter (EAGAIN) is signalled already.
        unsafe { libc::write(self.raw(), (&raw const one).cast(), 8) };
    }

    pub fn clear(&self) {
        let mut count = 0u64;
        // SAFETY: eight bytes are written to `count`. EAGAIN: there was no signal.
        unsafe { libc::read(self.raw(), (&raw mut count).cast(), 8) };
    }
}

/// Sleep until *deadline* (`None`: for ever) or until *wake* is signalled: then true.
pub fn wait_until(wake: &EventFd, deadline: Option<Instant>) -> bool {
    let mut entry = libc::pollfd { fd: wake.raw(), events: libc::POLLIN, revents: 0 };
    let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
    let timeout = left.map(|left| libc::timespec {
        tv_sec: left.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(left.subsec_nanos() as i32),
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `entry` and what `timeout` points to outlive the call; no signal mask is given.
    let count = unsafe { libc::ppoll(&raw mut entry, 1, timeout, std::ptr::null()) };
    count > 0
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_ends_the_sleep_and_is_gone_when_cleared() {
        let wake = EventFd::new().unwrap();
        wake.signal();
        wake.signal();
        assert!(wait_until(&wake, None));
        wake.clear();
        assert!(!wait_until(&wake, Some(Instant::now())));
    }

    #[test]
    fn what_was_removed_is_told_no_more_though_a_duplicate_is_open() {
        let (epoll, wake) = (Epoll::new().unwrap(), EventFd::new().unwrap());
        let mut out = vec![];
        epoll.add(wake.raw(), 7).unwrap();
        wake.signal();
        epoll.ready(&mut out, Some(Duration::ZERO));
        assert_eq!(out, [7]);
        epoll.remove(wake.raw());
        epoll.ready(&mut out, Some(Duration::ZERO));
        assert!(out.is_empty());
    }
}
