//! Who may speak DTLS and RTP to us: the addresses that ICE has made us send to.
//!
//! str0m takes DTLS from anywhere, and before it is over a handshake believes what nobody has
//! signed: one alert or ClientHello of a stranger would end it. ICE sends to candidates of the
//! description and to who proved to know its password (RFC 8445 7.3), to nobody else.

use std::net::SocketAddr;

/// Addresses that are remembered; a server has a few candidates.
const MAX_ADDRESSES: usize = 32;

/// See the module.
#[derive(Debug, Default)]
pub struct Known {
    /// The one of the last datagram first.
    addresses: Vec<SocketAddr>,
}

impl Known {
    /// Note that something was sent to *address*.
    pub fn sent_to(&mut self, address: SocketAddr) {
        if self.addresses.first().is_some_and(|first| is_same(first, &address)) {
            return;
        }
        self.addresses.retain(|known| !is_same(known, &address));
        self.addresses.truncate(MAX_ADDRESSES - 1);
        self.addresses.insert(0, address);
    }

    /// Whether *datagram* is to be read. STUN proves itself (RFC 7983 7: its first byte is 0
    /// to 3).
    pub fn may_send(&self, from: SocketAddr, datagram: &[u8]) -> bool {
        let is_stun = datagram.first().is_some_and(|first| *first < 4);
        is_stun || self.addresses.iter().any(|known| is_same(known, &from))
    }
}

/// A scope or a flow says where to send, not who it is.
fn is_same(one: &SocketAddr, other: &SocketAddr) -> bool {
    one.port() == other.port() && one.ip() == other.ip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_may_only_send_stun() {
        let address = |port| SocketAddr::from(([192, 0, 2, 1], port));
        let mut known = Known::default();
        assert!(known.may_send(address(1), &[0, 1]));
        assert!(!known.may_send(address(1), &[22, 1]));
        assert!(!known.may_send(address(1), &[]));
        known.sent_to(address(1));
        assert!(known.may_send(address(1), &[22, 1]));
        assert!(!known.may_send(address(2), &[0x80, 1]));
        for port in 2..200 {
            known.sent_to(address(port));
            known.sent_to(address(1));
        }
        assert!(known.may_send(address(1), &[22, 1]));
        assert!(!known.may_send(address(2), &[22, 1]), "forgotten");
        assert_eq!(known.addresses.len(), MAX_ADDRESSES);
    }
}
