//! Where RTP may come from and where it goes: latching with probation (RFC 7362 section 4).
//!
//! A source outside the signalled one is learnt only inside a *window*, after [`PROBATION`]
//! consecutive packets, and from allowed networks; so nobody can take a call's audio by
//! sending first, or at any later moment.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Consecutive valid packets before a source is latched.
pub const PROBATION: u32 = 3;
/// The same for the source locked until `c=` or the port changed: it may only be its tail.
pub const RETURN_PROBATION: u32 = 50;
/// How long a window stays open over a source that is still heard.
pub const WINDOW: Duration = Duration::from_secs(3);
/// Time without a packet of the locked source after which the window opens.
pub const SILENT_AFTER: Duration = Duration::from_secs(2);
pub const MAX_CANDIDATES: usize = 8;

/// Tells whether an address is a media port of this process.
pub type Own<'a> = &'a dyn Fn(SocketAddr) -> bool;

/// Returns *address* in the one form that is compared: IPv4-mapped IPv6 as IPv4.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(mut v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), v6.port()),
            None => {
                v6.set_flowinfo(0);
                SocketAddr::V6(v6)
            }
        },
        SocketAddr::V4(_) => address,
    }
}

/// Tells whether two canonical addresses are one; a scope says where to send, not who it is.
#[inline]
pub fn same(one: SocketAddr, other: SocketAddr) -> bool {
    one.ip() == other.ip() && one.port() == other.port()
}

/// Returns the /24 (IPv6: /64) that *address* is in.
fn around(address: IpAddr) -> Option<IpNet> {
    match address.to_canonical() {
        IpAddr::V4(v4) => Ipv4Net::new(v4, 24).ok().map(IpNet::V4),
        IpAddr::V6(v6) => Ipv6Net::new(v6, 64).ok().map(IpNet::V6),
    }
}

fn inside(address: IpAddr, nets: &[IpNet]) -> bool {
    nets.iter().any(|net| net.contains(&address))
}

/// Tells whether media may ever go to or come from *address*.
///
/// Loopback, private, shared and link-local addresses only when *allow* has them;
/// unspecified, multicast, reserved and broadcast ones never.
pub fn trusted(address: IpAddr, allow: &[IpNet]) -> bool {
    let address = address.to_canonical();
    match address {
        IpAddr::V4(v4) if never_v4(v4) => false,
        IpAddr::V6(v6) if v6.is_unspecified() || v6.is_multicast() => false,
        IpAddr::V4(v4) if inner_v4(v4) => inside(address, allow),
        IpAddr::V6(v6) if inner_v6(v6) => inside(address, allow),
        IpAddr::V4(_) | IpAddr::V6(_) => true,
    }
}

/// 0.0.0.0/8, 224.0.0.0/4, 240.0.0.0/4.
fn never_v4(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first == 0 || first >= 224
}

/// Loopback, private, 100.64.0.0/10 (RFC 6598), link-local.
fn inner_v4(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    let shared = first == 100 && second & 0xC0 == 64;
    address.is_loopback() || address.is_private() || shared || address.is_link_local()
}

/// ::1, fc00::/7, fe80::/10.
fn inner_v6(address: Ipv6Addr) -> bool {
    address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
}

#[derive(Debug)]
struct Candidate {
    source: SocketAddr,
    ssrc: u32,
    sequence: u16,
    count: u32,
}

/// The accepted source of one stream, and the target of ours.
#[derive(Debug)]
pub struct Latch {
    locked: Option<SocketAddr>,
    /// When the locked source sent last.
    heard_at: Option<Instant>,
    allow: Vec<IpNet>,
    signalled: Option<SocketAddr>,
    /// The signalled address, if media may go there.
    permitted: Option<SocketAddr>,
    /// Networks around the signalling and around the signalled address.
    near: [Option<IpNet>; 2],
    left: Option<SocketAddr>,
    open_until: Option<Instant>,
    candidates: Vec<Candidate>,
}

impl Latch {
    /// *signalling* is the address of the SIP peer, *allow* further networks.
    pub fn new(signalling: Option<IpAddr>, allow: Vec<IpNet>) -> Latch {
        Latch {
            locked: None,
            heard_at: None,
            allow,
            signalled: None,
            permitted: None,
            near: [signalling.and_then(around), None],
            left: None,
            open_until: None,
            candidates: Vec::with_capacity(MAX_CANDIDATES),
        }
    }

    /// Where our packets go: the latched source, else the signalled one.
    #[inline]
    pub fn target(&self) -> Option<SocketAddr> {
        self.locked.or(self.permitted)
    }

    /// Takes the address and port of their SDP; a change opens the window.
    ///
    /// No address, a zero one, or port 0 is nowhere: what was learnt stays.
    pub fn expect(&mut self, address: Option<SocketAddr>, own: Own<'_>, now: Instant) {
        let Some(source) = address.map(canonical) else { return };
        if source.ip().is_unspecified() || source.port() == 0 || self.signalled == Some(source) {
            return;
        }
        self.signalled = Some(source);
        let usable = trusted(source.ip(), &self.allow) && !own(source);
        self.permitted = usable.then_some(source);
        self.near[1] = around(source.ip());
        self.left = self.locked.or(self.left).filter(|left| !same(*left, source));
        self.locked = None;
        self.open(now);
    }

    /// Opens the window for a while; a locked source stays until another is latched.
    pub fn open(&mut self, now: Instant) {
        self.open_until = Some(now + WINDOW);
        self.candidates.clear();
    }

    /// Tells whether a valid packet (parsed, known payload type) of *source* counts.
    #[inline]
    pub fn accept(
        &mut self,
        source: SocketAddr,
        ssrc: u32,
        sequence: u16,
        own: Own<'_>,
        now: Instant,
    ) -> bool {
        if self.locked.is_some_and(|locked| same(locked, source)) {
            self.heard_at = Some(now);
            return true;
        }
        self.judge(canonical(source), ssrc, sequence, own, now)
    }

    fn judge(
        &mut self,
        source: SocketAddr,
        ssrc: u32,
        sequence: u16,
        own: Own<'_>,
        now: Instant,
    ) -> bool {
        if self.locked.is_some_and(|locked| same(locked, source)) {
            self.heard_at = Some(now); // an IPv4-mapped address of it
            return true;
        }
        if self.signalled.is_some_and(|signalled| same(signalled, source)) {
            // Contract: the SDP address is accepted from the first packet.
            return self.permitted.is_some() && self.lock(source, now);
        }
        if !self.window_open(now) || !self.allowed(source, own) {
            return false;
        }
        self.probation(source, ssrc, sequence) && self.lock(source, now)
    }

    fn window_open(&self, now: Instant) -> bool {
        let silent = self
            .heard_at
            .is_none_or(|heard_at| now.saturating_duration_since(heard_at) >= SILENT_AFTER);
        self.locked.is_none() || self.open_until.is_some_and(|until| now < until) || silent
    }

    fn allowed(&self, source: SocketAddr, own: Own<'_>) -> bool {
        let address = source.ip();
        let near = self.near.iter().flatten().any(|net| net.contains(&address));
        // The system is asked last: a stranger's flood is not to make it busy.
        trusted(address, &self.allow) && (near || inside(address, &self.allow)) && !own(source)
    }

    /// Counts consecutive packets of *source*; tells whether it has passed.
    fn probation(&mut self, source: SocketAddr, ssrc: u32, sequence: u16) -> bool {
        let wanted = if self.left.is_some_and(|left| same(left, source)) {
            RETURN_PROBATION
        } else {
            PROBATION
        };
        let known = self.candidates.iter_mut().find(|candidate| same(candidate.source, source));
        let Some(candidate) = known else {
            if self.candidates.len() >= MAX_CANDIDATES {
                self.candidates.remove(0);
            }
            self.candidates.push(Candidate { source, ssrc, sequence, count: 1 });
            return false;
        };
        let following = candidate.ssrc == ssrc && sequence == candidate.sequence.wrapping_add(1);
        candidate.count = if following { candidate.count + 1 } else { 1 };
        (candidate.ssrc, candidate.sequence) = (ssrc, sequence);
        candidate.count >= wanted
    }

    fn lock(&mut self, source: SocketAddr, now: Instant) -> bool {
        self.locked = Some(source);
        self.heard_at = Some(now);
        self.open_until = None;
        self.left = None;
        self.candidates.clear();
        true
    }
}

#[cfg(test)]
mod tests;
