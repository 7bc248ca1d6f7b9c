//! What a packet of the carrier's side costs: no allocation, and how long it takes.
//!
//! `cargo test --release --locked -p trunkbridge-core --test carrier_speed -- --ignored --nocapture`

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use trunkbridge_core::carrier::Carrier;
use trunkbridge_core::types::{CarrierSetup, Crypto, Law, Levels, MasterKey, Negotiated};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's, counted for each thread.
struct Counting;

// SAFETY: every call goes to the system's allocator as it came; counting touches only a
// thread-local cell without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

const PACKET: Duration = Duration::from_millis(20);

fn remote() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 10], 4000))
}

fn not_ours(_: SocketAddr) -> bool {
    false
}

fn talking(track: Law, crypto: Option<Crypto>, now: Instant) -> Carrier {
    let setup = CarrierSetup {
        ssrc: 7,
        sequence: 1,
        timestamp: 1,
        track,
        signalling: None,
        allow: Vec::new(),
        cname: "c".into(),
    };
    let mut carrier = Carrier::new(setup, now);
    let negotiated = Negotiated {
        remote: Some(remote()),
        remote_rtcp_port: 4001,
        send: Law::A,
        payload_type: 8,
        receive: vec![(8, Law::A), (0, Law::Mu)],
        dtmf_payload_type: Some(101),
        receive_dtmf_payload_type: Some(101),
        ptime: 20,
        crypto,
    };
    carrier.connect(negotiated, &not_ours, now).expect("a suite that we have");
    let levels = Levels {
        transmit: true,
        agent_audio: true,
        caller_audio: true,
        watchdog: Some(Duration::from_secs(30)),
        watchdog_initial: None,
    };
    carrier.apply(levels, now);
    carrier
}

fn crypto() -> Crypto {
    let key = MasterKey { secret: vec![9; 28], mki: Vec::new(), lifetime: None };
    let suite = "AEAD_AES_128_GCM".to_owned();
    Crypto { suite, send: key.clone(), receive: vec![key], window: None }
}

/// A packet of speech-like bytes.
fn write_packet(number: u32, datagram: &mut Vec<u8>) {
    datagram.clear();
    datagram.extend_from_slice(&[0x80, 8]);
    datagram.extend_from_slice(&(number as u16).to_be_bytes());
    datagram.extend_from_slice(&(number * 160).to_be_bytes());
    datagram.extend_from_slice(&[0, 0, 0, 9]);
    datagram.extend((0..160u32).map(|index| (index * 37 + number) as u8));
}

/// Processor time of this thread: the machine is shared.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists on Linux, and `time` is ours to write.
    let told = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(told, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Calls *step* with packet numbers; returns nanoseconds of each.
fn each(count: u32, mut step: impl FnMut(u32)) -> f64 {
    let start = processor_time();
    (0..count).for_each(&mut step);
    (processor_time() - start).as_nanos() as f64 / f64::from(count)
}

#[test]
fn a_packet_that_passes_and_one_that_leaves_allocate_nothing() {
    let start = Instant::now();
    let mut carrier = talking(Law::Mu, None, start);
    let (mut datagram, mut out) = (Vec::with_capacity(2048), Vec::with_capacity(2048));
    let pcm = [1000i16; 160];
    let mut forwarded = 0;
    let mut run = |range: std::ops::Range<u32>| {
        for number in range {
            let now = start + PACKET * number;
            write_packet(number, &mut datagram);
            forwarded +=
                u32::from(carrier.receive(&mut datagram, remote(), &not_ours, now).is_some());
            carrier.send(Some(&pcm), &mut out, now);
            carrier.poll(now, SystemTime::UNIX_EPOCH, &mut out);
            carrier.take_notices();
        }
    };
    run(0..10);
    let before = allocations();
    run(10..2000);
    assert_eq!(allocations() - before, 0);
    assert_eq!(forwarded, 2000);
}

#[test]
#[ignore = "figures, not a test"]
fn figures() {
    const COUNT: u32 = 1_000_000;
    let start = Instant::now();
    let (mut datagram, mut out) = (Vec::with_capacity(2048), Vec::with_capacity(2048));
    let writing = each(COUNT, |number| write_packet(black_box(number), &mut datagram));
    for (name, track) in [("same law", Law::A), ("other law", Law::Mu)] {
        let mut carrier = talking(track, None, start);
        let all = each(COUNT, |number| {
            write_packet(number, &mut datagram);
            let now = start + PACKET * number;
            black_box(carrier.receive(&mut datagram, remote(), &not_ours, now));
        });
        println!("receive and forward, {name}: {:.0} ns", all - writing);
    }
    let mut sender = talking(Law::A, Some(crypto()), start);
    let mut carrier = talking(Law::A, Some(crypto()), start);
    let pcm = [1000i16; 160];
    let protecting = each(COUNT, |_| {
        black_box(sender.send(Some(&pcm), &mut out, start));
    });
    let mut sender = talking(Law::A, Some(crypto()), start);
    let both = each(COUNT, |number| {
        sender.send(Some(&pcm), &mut out, start);
        let now = start + PACKET * number;
        black_box(carrier.receive(&mut out, remote(), &not_ours, now));
    });
    println!("send, AES-128-GCM: {protecting:.0} ns");
    println!("receive and forward, AES-128-GCM: {:.0} ns", both - protecting);
    let mut carrier = talking(Law::A, None, start);
    let sending = each(COUNT, |number| {
        black_box(carrier.send(Some(&pcm), &mut out, start + PACKET * number));
    });
    let silence = each(COUNT, |number| {
        black_box(carrier.send(None, &mut out, start + PACKET * number));
    });
    let polling = each(COUNT, |_| {
        black_box(carrier.poll(start, SystemTime::UNIX_EPOCH, &mut out));
        black_box(carrier.take_notices());
    });
    println!("send: {sending:.0} ns, silence {silence:.0} ns; poll: {polling:.0} ns");
}
