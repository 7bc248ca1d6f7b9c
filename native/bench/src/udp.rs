//! UDP on loopback with the kernel's time of arrival, and readiness of many sockets.

use crate::clock::SECOND;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A socket that never blocks.
pub struct Udp {
    socket: UdpSocket,
    pub local: SocketAddr,
}

/// A datagram that was read: its length, its sender, when the kernel had it (CLOCK_REALTIME, ns).
pub type Arrived = (usize, SocketAddr, u64);

impl Udp {
    /// Bind a free port of loopback; `buffer` is the wanted receive buffer in bytes.
    pub fn bind(buffer: i32) -> io::Result<Udp> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_nonblocking(true)?;
        option(&socket, libc::SO_TIMESTAMPNS, 1)?;
        if option(&socket, libc::SO_RCVBUFFORCE, buffer).is_err() {
            option(&socket, libc::SO_RCVBUF, buffer)?; // as much as one may without rights
        }
        let local = socket.local_addr()?;
        Ok(Udp { socket, local })
    }

    /// Read one datagram, if there is one.
    pub fn receive(&self, buffer: &mut [u8]) -> Option<Arrived> {
        let mut from = libc::sockaddr_in {
            sin_family: 0,
            sin_port: 0,
            sin_addr: libc::in_addr { s_addr: 0 },
            sin_zero: [0; 8],
        };
        let mut control = [0u64; 16];
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: an all-zero msghdr is a valid one (null pointers, zero lengths).
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = (&raw mut from).cast();
        message.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: every pointer of `message` is to memory that lives over the call, with its size.
        let length = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &mut message, 0) };
        if length < 0 {
            return None;
        }
        let sender = SocketAddrV4::new(
            Ipv4Addr::from(u32::from_be(from.sin_addr.s_addr)),
            u16::from_be(from.sin_port),
        );
        Some((length as usize, sender.into(), stamp(&message)))
    }

    /// Send; what the kernel does not take is lost, and `false`.
    pub fn send(&self, data: &[u8], to: SocketAddr) -> bool {
        self.socket.send_to(data, to).is_ok()
    }
}

fn stamp(message: &libc::msghdr) -> u64 {
    // SAFETY: the kernel filled msg_control and msg_controllen; the macros stay inside them.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(message);
        while !at.is_null() {
            if (*at).cmsg_level == libc::SOL_SOCKET && (*at).cmsg_type == libc::SCM_TIMESTAMPNS {
                let time: libc::timespec = std::ptr::read_unaligned(libc::CMSG_DATA(at).cast());
                return time.tv_sec as u64 * SECOND + time.tv_nsec as u64;
            }
            at = libc::CMSG_NXTHDR(message, at);
        }
    }
    crate::clock::realtime()
}

fn option(socket: &UdpSocket, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the option's value is an int, given with its size.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as u32,
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Which of many sockets have something.
pub struct Epoll(OwnedFd);

impl Epoll {
    /// Make one.
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: a new descriptor, owned by nobody else.
        let made = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if made < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `made` is open and ours.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(made) }))
    }

    /// Watch `socket`; `token` names it.
    pub fn add(&self, socket: &Udp, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        // SAFETY: both descriptors are open, `event` is valid.
        let done = unsafe {
            libc::epoll_ctl(
                self.0.as_raw_fd(),
                libc::EPOLL_CTL_ADD,
                socket.socket.as_raw_fd(),
                &mut event,
            )
        };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Give the tokens of the sockets that are readable now.
    pub fn ready(&self, tokens: &mut Vec<u64>) {
        const MOST: usize = 1024;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; MOST];
        // SAFETY: `events` has room for MOST of them.
        let count =
            unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), MOST as i32, 0) };
        tokens.clear();
        tokens.extend(events[..count.max(0) as usize].iter().map(|event| event.u64));
    }
}
