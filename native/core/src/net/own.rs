//! Which media ports are ours: packets that come from one of them are never a carrier's.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Time that a port of a closed call still counts as ours: packets are under way.
const REST: Duration = Duration::from_secs(5);

const NEVER: u64 = 0;
const OPEN: u64 = u64::MAX;

/// The local ports of the open calls and of those closed lately. Shared by all threads,
/// without a lock.
#[derive(Debug)]
pub struct OwnPorts {
    /// One state for each port: `NEVER`, `OPEN`, or until when it rests (milliseconds).
    states: Box<[AtomicU64]>,
    start: Instant,
}

impl OwnPorts {
    pub fn new(now: Instant) -> Self {
        let states = (0..=u16::MAX).map(|_| AtomicU64::new(NEVER)).collect();
        OwnPorts { states, start: now }
    }

    pub fn open(&self, port: u16) {
        self.states[usize::from(port)].store(OPEN, Relaxed);
    }

    pub fn close(&self, port: u16, now: Instant) {
        let until = self.milliseconds(now + REST).clamp(NEVER + 1, OPEN - 1);
        self.states[usize::from(port)].store(until, Relaxed);
    }

    /// Tell whether *address* is a media port of ours. The system is asked only where the
    /// number of the port is one of ours.
    pub fn contains(&self, address: SocketAddr, now: Instant) -> bool {
        match self.states[usize::from(address.port())].load(Relaxed) {
            NEVER => return false,
            OPEN => {}
            until if self.milliseconds(now) >= until => return false,
            _ => {}
        }
        is_local(address.ip())
    }

    fn milliseconds(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_millis()).unwrap_or(OPEN - 1)
    }
}

/// An address of this machine is one that can be bound.
fn is_local(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_ours_while_open_and_five_seconds_longer() {
        let now = Instant::now();
        let own = OwnPorts::new(now);
        let address: SocketAddr = "127.0.0.1:20000".parse().unwrap();
        assert!(!own.contains(address, now));
        own.open(20000);
        assert!(own.contains(address, now + Duration::from_secs(3600)));
        own.close(20000, now);
        assert!(own.contains(address, now + Duration::from_millis(4999)));
        assert!(!own.contains(address, now + Duration::from_millis(5001)));
    }

    #[test]
    fn a_port_rests_also_after_months() {
        let now = Instant::now();
        let own = OwnPorts::new(now);
        let address: SocketAddr = "127.0.0.1:20000".parse().unwrap();
        let later = now + Duration::from_secs(60 * 24 * 3600); // 32 bits of milliseconds: 49 days
        own.open(20000);
        own.close(20000, later);
        assert!(own.contains(address, later + Duration::from_secs(4)));
        assert!(!own.contains(address, later + Duration::from_secs(6)));
    }

    #[test]
    fn the_same_number_on_another_machine_is_not_ours() {
        let now = Instant::now();
        let own = OwnPorts::new(now);
        own.open(20000);
        // RFC 5737: an address that nobody has.
        assert!(!own.contains("203.0.113.9:20000".parse().unwrap(), now));
    }
}
