//! A UDP socket that never waits.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// A bound UDP socket. Addresses are told and taken in their plain form: an IPv4 peer of a
/// socket for both families is an IPv4 address here.
#[derive(Debug)]
pub struct Udp {
    socket: UdpSocket,
    local: SocketAddr,
}

impl Udp {
    /// Bind any port on the wildcard of the family of *address*.
    pub fn wildcard(address: IpAddr) -> io::Result<Self> {
        let any: IpAddr = match address {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Self::take(UdpSocket::bind((any, 0))?)
    }

    /// A duplicate of *fd*, which stays the caller's.
    pub fn duplicate(fd: RawFd) -> io::Result<Self> {
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        // SAFETY: borrowed for this call only; a number that is no open descriptor makes the
        // duplication fail with EBADF.
        let owned = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()?;
        Self::take(owned.into())
    }

    fn take(socket: UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        Ok(Udp { socket, local })
    }

    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The next datagram and where it came from; `None`: there is none. What is longer than
    /// *buffer* is cut.
    pub fn receive(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let (length, from) = self.socket.recv_from(buffer).ok()?;
        Some((length, SocketAddr::new(from.ip().to_canonical(), from.port())))
    }

    /// Send, or not: where the kernel has no room a packet of media is a lost packet.
    pub fn send(&self, datagram: &[u8], to: SocketAddr) {
        let to = match (to, self.local) {
            (SocketAddr::V4(v4), SocketAddr::V6(_)) => {
                SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into()
            }
            _ => to,
        };
        let _ = self.socket.send_to(datagram, to);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_outlives_the_original_and_tells_plain_addresses() {
        let original = UdpSocket::bind("[::]:0").unwrap();
        let port = original.local_addr().unwrap().port();
        let copy = Udp::duplicate(original.as_raw_fd()).unwrap();
        drop(original);
        let far = Udp::take(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        far.send(b"hello", SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
        let mut buffer = [0; 16];
        let (length, from) = copy.receive(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"hello"[..], far.local()));
        copy.send(b"back", from);
        assert_eq!(far.receive(&mut buffer).unwrap().0, 4);
        assert!(far.receive(&mut buffer).is_none());
    }

    #[test]
    fn what_is_no_descriptor_is_refused() {
        assert!(Udp::duplicate(-1).is_err());
        assert!(Udp::duplicate(1 << 20).is_err());
    }
}
