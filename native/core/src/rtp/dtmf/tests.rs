//! Telephone-events: sending, and receiving what was sent over a bad line.

use super::*;

/// Returns everything *sender* plays, with the stream's timestamp of each.
fn play(sender: &mut DtmfSender, samples: u16) -> Vec<(u32, Frame)> {
    let mut played = Vec::new();
    let mut timestamp = 0;
    while let Some(frame) = sender.next_frame(timestamp, samples) {
        played.push((timestamp, frame));
        timestamp += u32::from(samples);
    }
    played
}

fn events(played: &[(u32, Frame)]) -> Vec<(u32, [u8; 4], bool)> {
    let event = |frame: &(u32, Frame)| match frame.1 {
        Frame::Event { timestamp, payload, marker } => Some((timestamp, payload, marker)),
        Frame::Pause => None,
    };
    played.iter().filter_map(event).collect()
}

#[test]
fn a_digit_is_updates_and_three_end_packets_with_one_timestamp() {
    for ptime in [10, 20, 30, 40, 60] {
        let mut sender = DtmfSender::default();
        sender.send("7");
        let frames = events(&play(&mut sender, ptime * 8));
        let ends: Vec<bool> = frames.iter().map(|frame| frame.1[1] & 0x80 != 0).collect();
        let updates = frames.len() - 3;
        assert!(ends[..updates].iter().all(|end| !end) && ends[updates..].iter().all(|end| *end));
        for (index, (timestamp, payload, marker)) in frames.iter().enumerate() {
            assert_eq!((*timestamp, payload[0], *marker), (0, 7, index == 0));
            let duration = u16::from_be_bytes([payload[2], payload[3]]);
            assert_eq!(duration, ptime * 8 * (index.min(updates) as u16 + 1));
        }
    }
}

#[test]
fn digits_are_apart_and_w_waits_half_a_second() {
    let mut sender = DtmfSender::default();
    sender.send("1w2");
    let mut starts: Vec<u32> = events(&play(&mut sender, 160)).iter().map(|e| e.0).collect();
    starts.dedup();
    assert_eq!(starts, [0, 10 * 160 + PAUSE_SAMPLES as u32 + WAIT_SAMPLES as u32]);
    assert!(!sender.busy());
}

#[test]
fn unknown_characters_are_passed_over_and_the_queue_is_bounded() {
    let mut sender = DtmfSender::default();
    sender.send("x, é");
    assert!(play(&mut sender, 160).is_empty());
    sender.send(&"5".repeat(MAX_QUEUED + 50));
    let mut starts: Vec<u32> = events(&play(&mut sender, 160)).iter().map(|e| e.0).collect();
    starts.dedup();
    assert_eq!(starts.len(), MAX_QUEUED);
}

#[test]
fn clearing_stops_in_the_middle() {
    let mut sender = DtmfSender::default();
    sender.send("12");
    sender.next_frame(0, 160);
    sender.clear();
    assert!(!sender.busy());
    assert_eq!(sender.next_frame(160, 160), None);
}

#[test]
fn the_same_timestamp_of_another_source_is_another_key() {
    let mut receiver = DtmfReceiver::default();
    let now = Instant::now();
    for ssrc in [1, 1, 2, 1] {
        receiver.receive(ssrc, 99, &[5, 0x8A, 3, 0x20], now);
    }
    let key = Key { digit: '5', duration_ms: 100 };
    assert_eq!(receiver.keys, [key, key]);
}

#[test]
fn an_event_ends_when_nothing_was_heard_of_it_for_long_enough() {
    let mut receiver = DtmfReceiver::default();
    let now = Instant::now();
    receiver.receive(1, 9, &[5, 10, 0, 160], now);
    receiver.poll(now + LOST_END_AFTER / 2);
    assert!(receiver.keys.is_empty());
    receiver.poll(now + LOST_END_AFTER);
    receiver.poll(now + LOST_END_AFTER * 9);
    assert_eq!(receiver.keys, [Key { digit: '5', duration_ms: 20 }]);
}

#[test]
fn keys_that_nobody_takes_do_not_grow_memory() {
    let mut receiver = DtmfReceiver::default();
    let now = Instant::now();
    for timestamp in 0..5000 {
        receiver.receive(1, timestamp, &[1, 0x80, 0, 160], now);
    }
    assert_eq!((receiver.keys.len(), receiver.finished.len()), (MAX_QUEUED, REMEMBERED));
}
