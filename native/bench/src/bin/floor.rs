//! The machine's floor: what every bridge of this kind must at least do, and nothing else.
//!
//! Two UDP legs for each call, one thread, a tick of 2.5 ms: G.711 from the phone is protected
//! (AES-GCM) and sent on; Opus from the other side is opened, decoded at 8 kHz, encoded to G.711
//! and sent to the phone. No jitter buffer, no clock, no RTCP, no ICE.
//!
//! `floor calls=N`; the first line is `{"phones":[ports],"rooms":[ports]}`. The order
//! `to PHONE:ROOM PHONE:ROOM ...` (ports of loopback) names the other ends, one pair a call.
//!
//! `floor probe=SECONDS` measures the machine instead: how often a second one core does the work
//! of one packet (send, receive, open, decode, encode); told as `{"packets":N}`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use trunkbridge_bench::clock::{self, SECOND};
use trunkbridge_bench::gcm::Gcm;
use trunkbridge_bench::json::Object;
use trunkbridge_bench::lines::{Options, orders, say};
use trunkbridge_bench::opus::{Decoder, LONGEST};
use trunkbridge_bench::rtp::{HEADER, Stream};
use trunkbridge_bench::udp::{Epoll, Udp};
use trunkbridge_bench::{g711, pack, rtp};

const TICK: u64 = 2_500_000;

struct Call {
    phone: Udp,
    room: Udp,
    to_phone: SocketAddr,
    to_room: SocketAddr,
    up: Stream,
    down: Stream,
    gcm: Gcm,
    decoder: Decoder,
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn main() {
    let options = Options::read();
    if let Some(seconds) = options.text("probe") {
        let seconds: f64 = seconds.parse().expect("seconds");
        return probe(seconds, Path::new(options.text("pack").expect("pack=FILE")));
    }
    clock::be_punctual(); // not the probe: it must notice who else is there
    let orders = orders();
    let table = g711::ulaw_table();
    let epoll = Epoll::new().expect("epoll");
    let mut calls: Vec<Call> = (0..options.number("calls", 1))
        .map(|n| {
            let made = Call {
                phone: Udp::bind(1 << 18).expect("a socket"),
                room: Udp::bind(1 << 18).expect("a socket"),
                to_phone: loopback(0),
                to_room: loopback(0),
                up: Stream {
                    payload_type: 0,
                    ssrc: n as u32,
                    sequence: 1,
                    timestamp: 0,
                    step: 160,
                },
                down: Stream {
                    payload_type: 0,
                    ssrc: n as u32,
                    sequence: 1,
                    timestamp: 0,
                    step: 160,
                },
                gcm: Gcm::default(),
                decoder: Decoder::default(),
            };
            epoll.add(&made.phone, 2 * n).expect("epoll");
            epoll.add(&made.room, 2 * n + 1).expect("epoll");
            made
        })
        .collect();
    let ports = |of: fn(&Call) -> &Udp| -> Vec<u64> {
        calls.iter().map(|call| u64::from(of(call).local.port())).collect()
    };
    let told = Object::default().list("phones", &ports(|call| &call.phone));
    say(&told.list("rooms", &ports(|call| &call.room)).end());
    let (mut ready, mut buffer, mut pcm) = (Vec::new(), [0u8; 2048], [0i16; LONGEST]);
    loop {
        clock::sleep_until((clock::monotonic() / TICK + 1) * TICK);
        while let Ok(order) = orders.try_recv() {
            let pairs = order.strip_prefix("to ").unwrap_or_default().split(' ');
            for (call, pair) in calls.iter_mut().zip(pairs) {
                let (phone, room) = pair.split_once(':').expect("PHONE:ROOM");
                call.to_phone = loopback(phone.parse().expect("a port"));
                call.to_room = loopback(room.parse().expect("a port"));
            }
        }
        epoll.ready(&mut ready);
        for token in &ready {
            let call = &mut calls[(token / 2) as usize];
            if token % 2 == 0 {
                from_phone(call, &mut buffer);
            } else {
                from_room(call, &mut buffer, &mut pcm, &table);
            }
        }
    }
}

fn from_phone(call: &mut Call, buffer: &mut [u8; 2048]) {
    let Some((length, ..)) = call.phone.receive(buffer) else { return };
    if rtp::parse(&buffer[..length]).is_none() {
        return;
    }
    call.up.next(buffer, false);
    let length = call.gcm.protect(buffer, length);
    call.room.send(&buffer[..length], call.to_room);
}

fn from_room(call: &mut Call, buffer: &mut [u8], pcm: &mut [i16; LONGEST], table: &[u8]) {
    let Some((length, ..)) = call.room.receive(buffer) else { return };
    let Some(length) = call.gcm.open(&mut buffer[..length]) else { return };
    let Some((_, _, at)) = rtp::parse(&buffer[..length]) else { return };
    let Some(count) = call.decoder.decode(&buffer[at..length], pcm) else { return };
    for (octet, sample) in buffer[HEADER..].iter_mut().zip(&pcm[..count]) {
        *octet = table[(*sample as u16 >> 2) as usize];
    }
    call.down.next(buffer, false);
    call.phone.send(&buffer[..HEADER + count], call.to_phone);
}

fn probe(seconds: f64, path: &Path) {
    let packets = pack::read(path).expect("the pack");
    let table = g711::ulaw_table();
    let (gcm, mut decoder) = (Gcm::default(), Decoder::default());
    let (here, there) = (Udp::bind(1 << 18).expect("a socket"), Udp::bind(1 << 18).expect("one"));
    let mut stream = Stream { payload_type: 111, ssrc: 1, sequence: 1, timestamp: 0, step: 960 };
    let (mut buffer, mut pcm) = ([0u8; 2048], [0i16; LONGEST]);
    let began = clock::monotonic();
    let until = began + (seconds * SECOND as f64) as u64;
    let mut done = 0u64;
    while clock::monotonic() < until {
        let packet = &packets[done as usize % packets.len()];
        stream.next(&mut buffer, false);
        buffer[HEADER..HEADER + packet.len()].copy_from_slice(packet);
        let length = gcm.protect(&mut buffer, HEADER + packet.len());
        here.send(&buffer[..length], there.local);
        let Some((length, ..)) = there.receive(&mut buffer) else { continue };
        let Some(length) = gcm.open(&mut buffer[..length]) else { continue };
        let count = decoder.decode(&buffer[HEADER..length], &mut pcm).unwrap_or(0);
        for (octet, sample) in buffer[HEADER..].iter_mut().zip(&pcm[..count]) {
            *octet = table[(*sample as u16 >> 2) as usize];
        }
        done += 1;
    }
    let took = (clock::monotonic() - began) as f64 / SECOND as f64;
    say(&Object::default().raw("packets", format!("{:.0}", done as f64 / took)).end());
}
