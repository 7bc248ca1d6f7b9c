//! Telephones (or whatever else sends 50 packets a second): N sockets on one thread.
//!
//! `phones calls=N payload=FILE [pt=0] [step=160] [marker=FILE] [stamp=1] [gcm=1]
//! [hears=pcmu|opus]`. A file named `.pack` has packets, any other is G.711, 160 octets each. With
//! `stamp` the first 8 octets say when the packet was sent (CLOCK_REALTIME, ns): for ends that take
//! the payload untouched. With `marker` phone 0 plays that file of one second, whose burst begins
//! with packet 45, and tells when that left and when a burst came back. With `gcm` all is SRTP.
//!
//! The first line is `{"ports":[...]}`. Orders: `to PORT PORT ...` begins to send there,
//! `zero` forgets what was counted, `stats` tells:
//! - `gap`: |time between two packets that came - 20 ms| by the kernel's timestamps;
//! - `own`: how late we were ourselves;
//! - `sent`, `received`, `lost` (by sequence number), `late`, `silent` (phones that heard nothing);
//! - `delay`: of stamped packets that came; `marks`, `heard`: of the marker (CLOCK_REALTIME, ns).

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use trunkbridge_bench::clock::{self, PTIME, SECOND};
use trunkbridge_bench::gcm::{Gcm, TAG};
use trunkbridge_bench::json::Object;
use trunkbridge_bench::lines::{Options, orders, say};
use trunkbridge_bench::onset::Onset;
use trunkbridge_bench::opus::{Decoder, LONGEST};
use trunkbridge_bench::rtp::{HEADER, Seen, Stream};
use trunkbridge_bench::udp::Udp;
use trunkbridge_bench::{g711, pack, rtp};

/// Packet of the marker's second with which the burst begins.
const BURST: u64 = 45;
/// A stamp older than this is none.
const PLAUSIBLE: u64 = 5 * SECOND;

struct Phone {
    udp: Udp,
    to: SocketAddr,
    stream: Stream,
    due: u64,
    /// Packets sent; says which of the payload is next.
    turn: u64,
    came: Option<u64>,
    seen: Seen,
}

struct Phones {
    phones: Vec<Phone>,
    payload: Vec<Vec<u8>>,
    marker: Option<Vec<Vec<u8>>>,
    stamp: bool,
    gcm: Option<Gcm>,
    hears: String,
    decoder: Decoder,
    onset: Onset,
    sent: u64,
    gaps: Vec<u64>,
    own: Vec<u64>,
    delays: Vec<u64>,
    marks: Vec<u64>,
}

fn main() {
    let options = Options::read();
    clock::be_punctual();
    let orders = orders();
    let mut all = Phones::new(&options);
    let ports: Vec<u64> = all.phones.iter().map(|p| u64::from(p.udp.local.port())).collect();
    say(&Object::default().list("ports", &ports).end());
    let mut order: Vec<usize> = Vec::new(); // who sends, by phase
    let mut next = 0;
    loop {
        while let Ok(line) = orders.try_recv() {
            match line.split_once(' ') {
                Some(("to", ports)) => (order, next) = (all.begin(ports), 0),
                _ if line == "zero" => all.zero(),
                _ if line == "stats" => say(&all.stats()),
                _ => eprintln!("phones: not understood: {line}"),
            }
        }
        let Some(&who) = order.get(next) else {
            clock::sleep_until(clock::monotonic() + PTIME / 10);
            continue;
        };
        let now = clock::monotonic();
        let due = all.phones[who].due;
        if due > now {
            // Orders are looked for at least every 20 ms.
            clock::sleep_until(due);
            continue;
        }
        all.send(who, now);
        all.receive(who);
        next = (next + 1) % order.len();
    }
}

impl Phones {
    fn new(options: &Options) -> Phones {
        let read = |name: &str| -> Option<Vec<Vec<u8>>> {
            let path = Path::new(options.text(name)?);
            Some(match path.extension().and_then(|text| text.to_str()) {
                Some("pack") => pack::read(path).expect("a pack"),
                _ => {
                    std::fs::read(path).expect("a file").chunks_exact(160).map(Vec::from).collect()
                }
            })
        };
        let calls = options.number("calls", 1);
        let phones = (0..calls).map(|n| Phone {
            udp: Udp::bind(1 << 18).expect("a socket"),
            to: (Ipv4Addr::LOCALHOST, 9).into(),
            stream: Stream {
                payload_type: options.number("pt", 0) as u8,
                ssrc: 0x5000 + n as u32,
                sequence: 1,
                timestamp: 0,
                step: options.number("step", 160) as u32,
            },
            due: 0,
            turn: 17 * n, // not all say the same at the same time
            came: None,
            seen: Seen::default(),
        });
        Phones {
            phones: phones.collect(),
            payload: read("payload").expect("payload=FILE"),
            marker: read("marker"),
            stamp: options.number("stamp", 0) == 1,
            gcm: (options.number("gcm", 0) == 1).then(Gcm::default),
            hears: options.text("hears").unwrap_or("pcmu").into(),
            decoder: Decoder::default(),
            onset: Onset::default(),
            sent: 0,
            gaps: Vec::new(),
            own: Vec::new(),
            delays: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// Send to `ports` from now on; those who send already go on in their phase.
    fn begin(&mut self, ports: &str) -> Vec<usize> {
        let start = clock::monotonic() + PTIME;
        let mut order = Vec::new();
        for (n, text) in ports.split_whitespace().enumerate().take(self.phones.len()) {
            let phone = &mut self.phones[n];
            phone.to = (Ipv4Addr::LOCALHOST, text.parse().expect("a port")).into();
            if phone.due == 0 {
                // The golden ratio spreads any number of phases evenly.
                let phase = (n as f64 * 0.618_033_988_75).fract() * PTIME as f64;
                phone.due = start + phase as u64;
            }
            order.push(n);
        }
        order.sort_by_key(|n| self.phones[*n].due);
        order
    }

    fn send(&mut self, who: usize, now: u64) {
        let phone = &mut self.phones[who];
        let mut buffer = [0u8; HEADER + 1500 + TAG];
        let marker = self.marker.as_ref().filter(|_| who == 0);
        let packets = marker.unwrap_or(&self.payload);
        let place = if marker.is_some() { phone.turn % 50 } else { phone.turn };
        let payload = &packets[place as usize % packets.len()];
        phone.stream.next(&mut buffer, self.sent == 0);
        let mut length = HEADER + payload.len();
        buffer[HEADER..length].copy_from_slice(payload);
        if self.stamp && marker.is_none() {
            buffer[HEADER..HEADER + 8].copy_from_slice(&clock::realtime().to_be_bytes());
        }
        if let Some(gcm) = &self.gcm {
            length = gcm.protect(&mut buffer, length);
        }
        if marker.is_some() && place == BURST {
            self.marks.push(clock::realtime());
        }
        self.sent += u64::from(phone.udp.send(&buffer[..length], phone.to));
        self.own.push(now - phone.due);
        phone.turn += 1;
        phone.due += PTIME;
    }

    fn receive(&mut self, who: usize) {
        let phone = &mut self.phones[who];
        let mut buffer = [0u8; 2048];
        while let Some((length, _, at)) = phone.udp.receive(&mut buffer) {
            let plain = match &self.gcm {
                Some(gcm) => gcm.open(&mut buffer[..length]),
                None => Some(length),
            };
            let Some(length) = plain else { continue };
            let Some((sequence, payload_type, start)) = rtp::parse(&buffer[..length]) else {
                continue;
            };
            let payload = &buffer[start..length];
            phone.seen.take(sequence);
            if let Some(before) = phone.came.replace(at) {
                self.gaps.push(at.saturating_sub(before).abs_diff(PTIME));
            }
            if payload.len() >= 8 {
                let stamp = u64::from_be_bytes(payload[..8].try_into().expect("eight"));
                if at.saturating_sub(stamp) < PLAUSIBLE && stamp <= at {
                    self.delays.push(at - stamp);
                }
            }
            if self.marker.is_some() && who == 0 {
                match (self.hears.as_str(), payload_type) {
                    ("opus", _) => {
                        let mut pcm = [0i16; LONGEST];
                        let count = self.decoder.decode(payload, &mut pcm).unwrap_or(0);
                        self.onset.listen(pcm[..count].iter().copied(), at);
                    }
                    (_, 8) => self.onset.listen(payload.iter().map(|o| g711::from_alaw(*o)), at),
                    _ => self.onset.listen(payload.iter().map(|o| g711::from_ulaw(*o)), at),
                }
            }
        }
    }

    fn zero(&mut self) {
        self.sent = 0;
        for list in [
            &mut self.gaps,
            &mut self.own,
            &mut self.delays,
            &mut self.marks,
            &mut self.onset.heard,
        ] {
            list.clear();
        }
        for phone in &mut self.phones {
            phone.seen.zero();
        }
    }

    fn stats(&mut self) -> String {
        let active: Vec<&Phone> = self.phones.iter().filter(|phone| phone.due > 0).collect();
        let sum = |of: fn(&Phone) -> u64| -> u64 { active.iter().map(|phone| of(phone)).sum() };
        let told = Object::default()
            .raw("phones", active.len())
            .raw("sent", self.sent)
            .raw("received", sum(|phone| phone.seen.received))
            .raw("lost", sum(|phone| phone.seen.lost))
            .raw("late", sum(|phone| phone.seen.late))
            .raw("silent", sum(|phone| u64::from(phone.seen.received == 0)))
            .raw("fewest", active.iter().map(|p| p.seen.received).min().unwrap_or(0));
        told.durations("gap", &mut self.gaps.clone())
            .durations("own", &mut self.own.clone())
            .durations("delay", &mut self.delays.clone())
            .list("marks", &self.marks)
            .list("heard", &self.onset.heard)
            .end()
    }
}
