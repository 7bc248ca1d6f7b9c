//! A WebRTC transport that stands, with a stranger on the wire: whatever is put in between, it
//! goes on, for nothing of it is authentic. And one that is being set up: it never panics.
#![no_main]

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use str0m::config::DtlsCert;
use trunkbridge_core::peer::{Options, Output, Peer};
use trunkbridge_core::types::Law;
use trunkbridge_fuzz::Script;

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Datagrams that are kept to be sent again, changed.
const KEPT: usize = 64;
/// Inputs that one pair has to stand.
const INPUTS: u32 = 2000;

/// Two transports and the wire between them, of which each end is a socket of ours.
struct Pair {
    ends: [Peer; 2],
    ports: [SocketAddr; 2],
    wires: [UdpSocket; 2],
    now: Instant,
    kept: VecDeque<(usize, Vec<u8>)>,
    out: Vec<Output>,
    inputs: u32,
    /// Something that was not theirs has been on the wire.
    disturbed: bool,
}

fn certificate() -> DtlsCert {
    let provider = str0m::crypto::from_feature_flags();
    provider.dtls_provider.generate_certificate().expect("a certificate")
}

fn wire() -> UdpSocket {
    let socket = UdpSocket::bind((HOST, 0)).expect("a socket");
    socket.set_nonblocking(true).expect("never waits");
    socket
}

/// Where who wrote *sdp* is, and *sdp* with the address of a wire's end in place of it.
fn through(sdp: &str, wire: &UdpSocket) -> (SocketAddr, String) {
    let port = wire.local_addr().expect("bound").port().to_string();
    let mut from = 0;
    let mut lines = String::new();
    for line in sdp.lines() {
        match line.strip_prefix("a=candidate:") {
            Some(rest) => {
                let mut words: Vec<&str> = rest.split(' ').collect();
                from = words[5].parse().expect("a port");
                words[5] = &port;
                lines += &format!("a=candidate:{}\r\n", words.join(" "));
            }
            None => lines += &format!("{line}\r\n"),
        }
    }
    (SocketAddr::new(HOST, from), lines)
}

impl Pair {
    fn new(certificate: &DtlsCert) -> Pair {
        let now = Instant::now();
        let mut out = vec![];
        let options = |offers| Options {
            address: HOST,
            offers,
            track: offers.then(|| "track".to_string()),
            law: Law::Mu,
            receivers: 1,
        };
        let mut one = Peer::open(&options(true), certificate, now, &mut out).expect("opened");
        let mut other = Peer::open(&options(false), certificate, now, &mut out).expect("opened");
        let wires = [wire(), wire()];
        let Some(Output::Offer(offer)) = out.first() else { panic!("no offer") };
        let (ours, offer) = through(offer, &wires[1]);
        out.clear();
        other.take_offer(&offer, now, &mut out);
        let Some(Output::Answer(answer)) = out.first() else { panic!("no answer") };
        let (theirs, answer) = through(answer, &wires[0]);
        one.answer(&answer, now, &mut vec![]);
        Pair {
            ends: [one, other],
            ports: [ours, theirs],
            wires,
            now,
            kept: VecDeque::new(),
            out: vec![],
            inputs: 0,
            disturbed: false,
        }
    }

    /// Let the wire and both ends work until nothing moves, then a little time pass.
    fn pass(&mut self) {
        for _ in 0..200 {
            let mut moved = false;
            let mut buffer = [0; 2048];
            for from in 0..2 {
                while let Ok((size, _)) = self.wires[from].recv_from(&mut buffer) {
                    moved = true;
                    self.kept.push_back((1 - from, buffer[..size].to_vec()));
                    if self.kept.len() > KEPT {
                        self.kept.pop_front();
                    }
                    let to = self.ports[1 - from];
                    let _ = self.wires[1 - from].send_to(&buffer[..size], to);
                }
            }
            for end in &mut self.ends {
                while end.receive(self.now, &mut self.out) {
                    moved = true;
                }
            }
            if !moved {
                break;
            }
        }
        self.now += Duration::from_millis(20);
        for end in &mut self.ends {
            if end.wake_at() <= self.now {
                end.tick(self.now, &mut self.out);
            }
        }
        if self.disturbed {
            return;
        }
        assert!(self.out.iter().all(|out| !matches!(out, Output::Ended(_))));
    }

    fn stands(&self) -> bool {
        self.ends.iter().all(Peer::connected)
    }

    /// Send to an end what is not its peer's, from the wire or from elsewhere.
    fn disturb(&mut self, stranger: &UdpSocket, script: &mut Script) {
        let how = script.byte();
        let (end, datagram) = if how & 1 == 0 || self.kept.is_empty() {
            let mut datagram = script.datagram();
            // STUN, DTLS, SRTP, or anything (RFC 7983 7).
            if let Some(first) = datagram.first_mut() {
                *first = match how >> 4 & 3 {
                    0 => *first & 3,
                    1 => 20 + (*first & 7),
                    2 => 0x80 | *first & 0x3F,
                    _ => *first,
                };
            }
            (usize::from(how >> 6 & 1), datagram)
        } else {
            let at = usize::from(script.byte()) % self.kept.len();
            let (end, mut datagram) = self.kept[at].clone();
            for _ in 0..1 + (how >> 4) % 4 {
                if !datagram.is_empty() {
                    let at = usize::from(script.short()) % datagram.len();
                    datagram[at] = script.byte();
                }
            }
            if how & 8 != 0 {
                datagram.truncate(usize::from(script.short()) % (datagram.len() + 1));
            }
            (end, datagram)
        };
        let to = self.ports[end];
        let from = if how & 2 == 0 { stranger } else { &self.wires[end] };
        let _ = from.send_to(&datagram, to);
        self.disturbed = true;
    }
}

static STANDING: Mutex<Option<(DtlsCert, Pair)>> = Mutex::new(None);

fuzz_target!(|bytes: &[u8]| {
    let mut script = Script::new(bytes);
    let mut standing = STANDING.lock().expect("not poisoned");
    let (certificate, mut pair) = match standing.take() {
        Some((certificate, pair)) if pair.inputs < INPUTS => (certificate, pair),
        Some((certificate, _)) => {
            let pair = Pair::new(&certificate);
            (certificate, pair)
        }
        None => {
            let certificate = certificate();
            let pair = Pair::new(&certificate);
            (certificate, pair)
        }
    };
    let stranger = wire();
    if pair.inputs == 0 {
        // One while it is being set up: it need not succeed then.
        let mut early = Pair::new(&certificate);
        for _ in 0..50 {
            early.disturb(&stranger, &mut script);
            early.pass();
        }
        while !pair.stands() {
            pair.pass();
        }
    }
    pair.inputs += 1;
    while !script.is_over() {
        pair.disturb(&stranger, &mut script);
        if script.byte() % 4 == 0 {
            pair.ends[0].silence(&[0xD5; 160], pair.now, &mut pair.out);
        }
        if script.byte() % 8 == 0 {
            pair.ends[0].send("_reliable", b"hello".to_vec(), pair.now, &mut pair.out);
        }
        pair.pass();
    }
    for output in pair.out.drain(..) {
        assert!(!matches!(output, Output::Ended(_) | Output::Disconnected), "{output:?}");
    }
    assert!(pair.stands());
    *standing = Some((certificate, pair));
});
