//! The mixer as a call sees it: packets in, blocks of PCM out, on a clock of the test's.

use std::time::{Duration, Instant};

use trunkbridge_core::playout::{MAX_TRACKS, Mixer, PlayoutStats, RoomCodec};
use trunkbridge_core::types::Law;

const MU: RoomCodec = RoomCodec::G711(Law::Mu);
const LOUD: [u8; 160] = [0x80; 160];
/// Microseconds.
const PERIOD: u64 = 20_000;

fn us(n: u64) -> Duration {
    Duration::from_micros(n)
}

/// A packet on its way: when it arrives (us), its sequence number, timestamp and payload.
type Sent = (u64, u64, u32, Vec<u8>);

/// A talker: 400 ms of a 200 Hz tone, 200 ms of quiet, again and again.
fn talk(packets: u64) -> Vec<Vec<u8>> {
    (0..packets)
        .map(|n| match n % 30 < 20 {
            true => (0..160).map(|i| if (i / 20) % 2 == 0 { 0x90 } else { 0x10 }).collect(),
            false => vec![0xff; 160],
        })
        .collect()
}

fn sent(delay: impl Fn(u64) -> Option<u64>, packets: u64) -> Vec<Sent> {
    let mut all: Vec<Sent> = talk(packets)
        .into_iter()
        .enumerate()
        .filter_map(|(n, payload)| {
            let n = n as u64;
            delay(n).map(|d| (n * PERIOD + d, 1000 + n, 160 * n as u32, payload))
        })
        .collect();
    all.sort_by_key(|s| s.0);
    all
}

/// A call: what came out, whether there was something to say, and what was counted.
struct Heard {
    blocks: Vec<(bool, Vec<i16>)>,
    stats: PlayoutStats,
    mixer: Mixer,
    end: Instant,
}

impl Heard {
    fn silent_blocks(&self) -> usize {
        self.blocks.iter().filter(|b| !b.0).count()
    }
}

/// Play *packets* on a clock of *samples* each tick that starts at *phase* us.
fn play(packets: &[Sent], phase: u64, samples: usize, codec: RoomCodec) -> Heard {
    let start = Instant::now();
    let mut mixer = Mixer::new(start);
    let mut coming = packets.iter().peekable();
    let end = packets.last().map_or(0, |p| p.0);
    let mut blocks = Vec::new();
    for tick in (0..).map(|n| phase + n * samples as u64 * 125).take_while(|t| *t <= end) {
        while let Some((at, sequence, timestamp, payload)) = coming.next_if(|p| p.0 <= tick) {
            mixer.push(7, *sequence, *timestamp, codec, payload, start + us(*at));
        }
        let mut out = vec![0; samples];
        let said = mixer.pull(&mut out, start + us(tick));
        assert!(said || out.iter().all(|s| *s == 0));
        blocks.push((said, out));
    }
    Heard { blocks, stats: mixer.stats(), mixer, end: start + us(end) }
}

fn scatter(n: u64) -> u64 {
    n.wrapping_mul(6_364_136_223_846_793_005)
        .rotate_left(29)
        .wrapping_mul(1_442_695_040_888_963_407)
        >> 40
}

#[test]
fn what_a_track_says_comes_out_and_nothing_else() {
    let packets: Vec<Sent> =
        (0..50).map(|n| (n * PERIOD, n, 160 * n as u32, LOUD.to_vec())).collect();
    let heard = play(&packets, 6000, 160, MU);
    assert!(heard.silent_blocks() <= 1);
    assert!(heard.blocks.iter().filter(|b| b.0).all(|b| b.1.iter().all(|s| *s > 32000)));
    assert_eq!((heard.stats.lost, heard.stats.concealed_ms), (0, 0));
}

#[test]
fn two_tracks_are_added_and_cannot_overflow() {
    let start = Instant::now();
    let mut mixer = Mixer::new(start);
    let mut out = [0i16; 160];
    for n in 0..5u64 {
        let at = start + us(PERIOD * n);
        mixer.push(1, n, 160 * n as u32, MU, &LOUD, at);
        mixer.push(2, n, 160 * n as u32, MU, &LOUD, at);
        mixer.pull(&mut out, at + us(10_000));
    }
    assert_eq!(out[80], i16::MAX);
}

#[test]
fn nothing_is_kept_while_the_gate_is_closed() {
    let start = Instant::now();
    let mut mixer = Mixer::new(start);
    let mut out = [0i16; 160];
    for n in 0..20u64 {
        let at = start + us(PERIOD * n);
        mixer.push(1, n, 160 * n as u32, MU, &LOUD, at);
        mixer.discard(at + us(10_000));
    }
    assert!(!mixer.pull(&mut out, start + us(450_000)));
    let stats = mixer.stats();
    assert_eq!((stats.packets, stats.lost, stats.depth_ms), (20, 0, 0.0));
    mixer.push(1, 23, 160 * 23, MU, &LOUD, start + us(23 * PERIOD));
    assert!(mixer.pull(&mut out, start + us(23 * PERIOD + 10_000)));
    assert_eq!(mixer.stats().concealed_ms, 0);
}

#[test]
fn a_clean_network_costs_no_delay() {
    let heard = play(&sent(|n| Some(scatter(n) % 1500), 500), 4000, 160, MU);
    assert_eq!((heard.stats.lost, heard.stats.late, heard.stats.concealed_ms), (0, 0, 0));
    assert!(heard.stats.target_ms <= 2.5, "{:?}", heard.stats);
    assert!(heard.stats.wait_mean_ms < 5.0, "{:?}", heard.stats);
}

#[test]
fn every_packet_time_of_either_side_plays_without_a_loss() {
    for ptime in [10, 20, 30, 40, 60] {
        for samples in [80, 160, 240, 320, 480] {
            let packets: Vec<Sent> = (0..6000 / ptime)
                .map(|n| {
                    (n * ptime * 1000, n, (n * ptime * 8) as u32, vec![0x80; ptime as usize * 8])
                })
                .collect();
            let heard = play(&packets, 7000, samples, MU);
            let stats = heard.stats;
            assert_eq!(
                (stats.lost, stats.late, stats.stretched_ms),
                (0, 0, 0),
                "{ptime} {samples}"
            );
            assert!(stats.concealed_ms <= 60, "{ptime} {samples} {stats:?}");
            assert!(stats.wait_max_ms < 110.0, "{ptime} {samples} {stats:?}");
        }
    }
}

#[test]
fn jitter_is_waited_for_and_a_quarter_more() {
    let heard = play(&sent(|n| Some(scatter(n) % 40_000), 1500), 3000, 160, MU);
    let stats = heard.stats;
    assert!((40.0..=52.5).contains(&stats.target_ms), "{stats:?}");
    assert!(stats.concealed_ms <= 60, "{stats:?}");
    assert!(stats.late + stats.lost < 30, "{stats:?}");
    assert!(stats.wait_mean_ms < 60.0, "{stats:?}");
}

/// A queue that keeps the order: up to *jitter* of delay from packet 100 on, now and then 15 ms more.
fn queued(jitter: u64, seed: u64) -> Vec<Sent> {
    let mut free = 0;
    let mut delays = vec![];
    for n in 0..1000 {
        let seldom = if scatter(n * 31 + seed).is_multiple_of(67) { 15_000 } else { 0 };
        let delay = if n < 100 { 0 } else { scatter(n + seed) % jitter + seldom };
        free = free.max(n * 20_000 + delay);
        delays.push(free - n * 20_000);
    }
    sent(|n| delays.get(n as usize).copied(), 1000)
}

#[test]
fn jitter_that_begins_in_the_middle_costs_little() {
    let concealed: u64 = (0..10)
        .map(|seed| play(&queued(60_000, seed << 20), 5000, 160, MU).stats.concealed_ms)
        .sum();
    assert!(concealed <= 700, "{concealed} ms in ten talks");
}

#[test]
fn what_comes_after_it_was_concealed_lengthens_the_delay_at_once() {
    let late = |n| Some(if n == 200 { 30_000 } else { 15_000 * u64::from(n == 201) });
    let stats = play(&sent(late, 210), 5000, 160, MU).stats;
    assert_eq!((stats.lost, stats.late, stats.concealed_ms), (0, 0, 40), "{stats:?}");
    assert!((30.0..=37.5).contains(&stats.target_ms), "{stats:?}");
}

#[test]
fn packets_out_of_order_are_put_in_order() {
    let swapped = |n: u64| Some(if n % 10 == 3 { 25_000 } else { 0 });
    let heard = play(&sent(swapped, 1000), 5000, 160, MU);
    assert!(heard.stats.late + heard.stats.lost <= 2, "{:?}", heard.stats);
    assert!(heard.stats.concealed_ms <= 100, "{:?}", heard.stats);
}

#[test]
fn a_lost_packet_is_concealed_and_counted_once() {
    let heard = play(&sent(|n| (n % 40 != 15).then_some(0), 400), 5000, 160, MU);
    assert_eq!((heard.stats.lost, heard.stats.late), (10, 0));
    // Three of them in the quiet, where there is nothing to conceal.
    assert_eq!(heard.stats.concealed_ms, 140);
    assert!(heard.stats.wait_mean_ms < 8.0, "{:?}", heard.stats);
}

#[test]
fn delay_that_is_no_longer_needed_is_given_back_in_the_quiet() {
    let heard =
        play(&sent(|n| Some(if n < 100 { scatter(n) % 50_000 } else { 0 }), 2000), 5000, 160, MU);
    assert!(heard.stats.shed_ms >= 20, "{:?}", heard.stats);
    assert!(heard.stats.target_ms < 10.0, "{:?}", heard.stats);
    assert!(heard.stats.depth_ms <= 30.0, "{:?}", heard.stats);
}

#[test]
fn a_stall_fades_to_silence_and_what_was_late_is_shed_to_the_target() {
    let stalled = |n: u64| Some(if (200..230).contains(&n) { (230 - n) * PERIOD } else { 0 });
    let heard = play(&sent(stalled, 600), 5000, 160, MU);
    let silent = heard.blocks[205..228].iter().filter(|b| !b.0).count();
    assert!(silent >= 15, "{silent}");
    assert!(heard.stats.shed_ms >= 300, "{:?}", heard.stats);
    assert!(heard.stats.depth_ms <= 200.0, "{:?}", heard.stats);
    assert!(heard.blocks[240..590].windows(12).all(|w| w.iter().any(|b| b.0)));
}

#[test]
fn an_hour_of_drift_is_absorbed_without_a_hole() {
    // 20 minutes at 100 ppm, as much as an hour at 33; the sender is fast, then slow.
    for ppm in [-100i64, 100] {
        let drifting =
            |n: u64| Some((1_000_000 + n as i64 * PERIOD as i64 * ppm / 1_000_000) as u64);
        let heard = play(&sent(drifting, 60_000), 5000, 160, MU);
        let stats = heard.stats;
        assert!(stats.concealed_ms <= 60, "{ppm} {stats:?}");
        assert!(stats.depth_ms <= 60.0, "{ppm} {stats:?}");
        let moved = if ppm < 0 { stats.shed_ms } else { stats.stretched_ms };
        assert!((80..=160).contains(&moved), "{ppm} {stats:?}");
    }
}

#[test]
fn a_pause_of_the_sender_is_no_loss() {
    // Sequence numbers go on, timestamps leave 400 ms out.
    let packets: Vec<Sent> = (0..100u64)
        .map(|n| {
            let at = n * PERIOD + n / 20 * 400_000;
            (at, n, (at / 125) as u32, if n % 20 == 19 { vec![0xff; 160] } else { LOUD.to_vec() })
        })
        .collect();
    let heard = play(&packets, 5000, 160, MU);
    assert_eq!((heard.stats.lost, heard.stats.late), (0, 0));
    assert!(heard.stats.wait_mean_ms < 8.0, "{:?}", heard.stats);
}

#[test]
fn a_sender_that_begins_anew_is_heard_at_once() {
    let mut packets = sent(|_| Some(0), 100);
    for (n, packet) in packets.iter_mut().enumerate().skip(50) {
        packet.1 = 60_000 + n as u64;
        packet.2 = packet.2.wrapping_add(3_000_000_000);
        packet.3 = LOUD.to_vec();
    }
    let heard = play(&packets, 5000, 160, MU);
    assert_eq!(heard.stats.lost, 0);
    assert!(heard.blocks[51..].iter().all(|b| b.0));
    let mut packets = sent(|_| Some(0), 100);
    for packet in packets.iter_mut().skip(50) {
        packet.2 = packet.2.wrapping_sub(2_000_000_000);
        packet.3 = LOUD.to_vec();
    }
    let heard = play(&packets, 5000, 160, MU);
    assert_eq!((heard.stats.lost, heard.stats.late), (0, 0));
    assert!(heard.blocks[51..].iter().all(|b| b.0));
}

#[test]
fn one_packet_from_long_ago_changes_nothing_and_a_lower_start_is_a_new_one() {
    let mut packets = sent(|_| Some(0), 200);
    packets[100].1 = 3;
    let heard = play(&packets, 5000, 160, MU);
    assert_eq!((heard.stats.late, heard.stats.lost), (1, 1));
    for (n, packet) in packets.iter_mut().enumerate().skip(150) {
        packet.1 = n as u64;
        packet.3 = LOUD.to_vec();
    }
    let heard = play(&packets, 5000, 160, MU);
    assert!(heard.blocks[160..].iter().all(|b| b.0));
}

#[test]
fn the_slot_is_where_packets_come() {
    for arrives in [0, 3000, 11_000, 19_000] {
        let heard = play(&sent(|n| Some(arrives + scatter(n) % 500), 200), 6500, 160, MU);
        let now = heard.end;
        let slot = heard.mixer.slot(now, us(PERIOD)).expect("known").as_micros() as u64;
        // The end is the arrival of a packet; the best tick is a little later.
        assert!((1000..5000).contains(&slot), "{arrives}: {slot}");
    }
    assert_eq!(Mixer::new(Instant::now()).slot(Instant::now(), us(PERIOD)), None);
}

#[test]
fn the_slot_does_not_flutter() {
    let start = Instant::now();
    let mut mixer = Mixer::new(start);
    let mut slots = Vec::new();
    for n in 0..1000u64 {
        let at = n * PERIOD + scatter(n) % 6000;
        mixer.push(1, n, 160 * n as u32, MU, &LOUD, start + us(at));
        mixer.pull(&mut [0; 160], start + us(n * PERIOD + 9000));
        if n > 200 {
            slots.push(mixer.slot(start + us(n * PERIOD), us(PERIOD)));
        }
    }
    slots.dedup();
    assert!(slots.len() <= 3, "{slots:?}");
}

#[test]
fn tracks_are_bounded_and_the_least_recent_goes() {
    let start = Instant::now();
    let mut mixer = Mixer::new(start);
    for n in 0..200u32 {
        mixer.push(n, 1, 1, MU, &LOUD, start + us(u64::from(n) * 1000));
    }
    assert_eq!(mixer.tracks(), MAX_TRACKS);
    mixer.remove(199);
    assert_eq!(mixer.tracks(), MAX_TRACKS - 1);
}

/// RED of PCMU (RFC 2198): packet *n* of *payloads* with copies of the *depth* before it.
fn red(payloads: &[Vec<u8>], n: usize, depth: usize) -> Vec<u8> {
    let earlier = n.saturating_sub(depth)..n;
    let mut packet = Vec::new();
    for m in earlier.clone() {
        let head = 0x80 << 24 | ((n - m) as u32 * 160) << 10 | payloads[m].len() as u32;
        packet.extend_from_slice(&head.to_be_bytes());
    }
    packet.push(0);
    earlier.for_each(|m| packet.extend_from_slice(&payloads[m]));
    packet.extend_from_slice(&payloads[n]);
    packet
}

/// Play RED of *payloads*, packets that arrive after *delay* us.
fn play_red(
    payloads: &[Vec<u8>],
    depth: usize,
    delay: impl Fn(u64) -> Option<u64>,
) -> (Vec<Vec<i16>>, PlayoutStats) {
    let start = Instant::now();
    let mut mixer = Mixer::new(start);
    let arrival = |n: u64| delay(n).map(|d| (n * PERIOD + d, n));
    let mut coming: Vec<(u64, u64)> = (0..payloads.len() as u64).filter_map(arrival).collect();
    coming.sort_unstable();
    let end = coming.last().map_or(0, |p| p.0);
    let mut coming = coming.into_iter().peekable();
    let mut blocks = Vec::new();
    for tick in (0..).map(|n| 5000 + n * PERIOD).take_while(|t| *t <= end) {
        while let Some((at, n)) = coming.next_if(|p| p.0 <= tick) {
            let packet = red(payloads, n as usize, depth);
            mixer.push_red(7, 1000 + n, 160 * n as u32, MU, 0, &packet, start + us(at));
        }
        let mut out = vec![0; 160];
        mixer.pull(&mut out, start + us(tick));
        blocks.push(out);
    }
    (blocks, mixer.stats())
}

#[test]
fn what_is_lost_is_played_from_the_copy_in_the_next_packet() {
    let payloads = talk(3000);
    let (_, stats) = play_red(&payloads, 1, |n| (scatter(n) % 20 != 7).then_some(0));
    let lost = (0..3000).filter(|n| scatter(*n) % 20 == 7).count() as u64;
    assert!(stats.lost.abs_diff(lost) <= 1, "{lost} {stats:?}");
    assert_eq!((stats.invalid, stats.late), (0, 0), "{stats:?}");
    assert!(stats.fec_ms * 10 >= 20 * lost * 8, "{lost} {stats:?}");
    assert!((20.0..=30.0).contains(&stats.target_ms), "{stats:?}");
}

#[test]
fn copies_cost_nothing_where_nothing_is_lost() {
    let payloads = talk(1000);
    let (heard, stats) = play_red(&payloads, 2, |_| Some(0));
    let plain = play(&sent(|_| Some(0), 1000), 5000, 160, MU);
    assert_eq!(stats, plain.stats);
    assert!(heard.iter().zip(&plain.blocks).all(|(one, other)| *one == other.1));
}

#[test]
fn a_copy_that_comes_before_its_packet_takes_nothing_from_it() {
    let payloads = talk(1500);
    let swapped = |n: u64| Some(if n % 10 == 3 { 22_000 } else { 0 });
    let (_, stats) = play_red(&payloads, 1, swapped);
    assert_eq!(stats.invalid, 0, "{stats:?}");
    assert!(stats.late + stats.lost <= 4, "{stats:?}");
    assert!(stats.concealed_ms <= 100, "{stats:?}");
}

#[test]
fn two_copies_fill_a_hole_of_two_where_the_delay_is_there() {
    let payloads = talk(3000);
    // Jitter, so that two packets more wait anyway.
    let delay = |n: u64| (n % 50 != 20 && n % 50 != 21).then(|| scatter(n) % 45_000);
    let (_, one) = play_red(&payloads, 1, delay);
    let (_, two) = play_red(&payloads, 2, delay);
    assert!(two.fec_ms > one.fec_ms + 500, "{one:?} {two:?}");
    assert!(two.concealed_ms < one.concealed_ms, "{one:?} {two:?}");
}

#[test]
fn red_that_is_none_is_counted_and_dropped() {
    let start = Instant::now();
    let mut mixer = Mixer::new(start);
    for (n, packet) in [&[0x80][..], &[8, 1, 2], &[0x80, 0, 0, 5, 0, 1]].iter().enumerate() {
        mixer.push_red(7, n as u64, 0, MU, 0, packet, start);
    }
    assert_eq!((mixer.stats().invalid, mixer.tracks()), (3, 0));
}

#[test]
fn nothing_that_comes_panics_or_grows() {
    let start = Instant::now();
    let mut mixer = Mixer::new(start);
    let mut out = [0i16; 480];
    for n in 0..8_000u64 {
        let r = scatter(n) as usize;
        let payload: Vec<u8> = (0..r % 300).map(|i| (scatter(n + i as u64) & 255) as u8).collect();
        let codec = if r.is_multiple_of(3) { MU } else { RoomCodec::Opus };
        let sequence =
            if r.is_multiple_of(50) { scatter(n + 1) << 20 } else { n + scatter(n + 2) % 8 };
        let timestamp = if r.is_multiple_of(40) { scatter(n + 3) as u32 } else { (n * 960) as u32 };
        let now = start + us(n * 5000);
        let ssrc = (r % 5) as u32 / 4;
        match n % 3 {
            0 => mixer.push(ssrc, sequence, timestamp, codec, &payload, now),
            _ => {
                // Copies of random length and time.
                let head = [0xef, (r >> 8) as u8, (r >> 16) as u8 & 0xfc, r as u8 & 63, 0xef];
                let more = [(r >> 3) as u8, 0, 9, 111];
                let packet = [&head[..], &more, &payload].concat();
                mixer.push_red(ssrc, sequence, timestamp, codec, 111, &packet, now);
            }
        }
        let size = [20, 80, 160, 240, 480][r % 5];
        match r % 97 {
            0 => mixer.discard(now),
            1 => mixer.remove(0),
            _ => _ = mixer.pull(&mut out[..size], now),
        }
        _ = mixer.slot(now, us(1 + (r % 60_000) as u64));
    }
    assert!(mixer.stats().depth_ms < 1000.0);
}
