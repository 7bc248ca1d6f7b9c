//! Both ends of a line, over everything that a call does to it.

use std::time::Duration;

use super::*;

const SUITES: [&str; 4] =
    ["AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32", "AEAD_AES_128_GCM", "AEAD_AES_256_GCM"];
const SUITE: &str = SUITES[0];

fn key(suite: &str, seed: u8, mki: &[u8]) -> MasterKey {
    let size = Suite::named(suite).expect("a suite").secret_len();
    let secret = (0..size).map(|at| seed.wrapping_mul(31).wrapping_add(at as u8)).collect();
    MasterKey { secret, mki: mki.to_vec(), lifetime: None }
}

fn agreed(suite: &str, send: MasterKey, receive: MasterKey) -> Crypto {
    Crypto { suite: suite.into(), send, receive: vec![receive], window: None }
}

/// Two ends with a key each.
struct Pair {
    ours: Line,
    theirs: Line,
    now: Instant,
}

impl Pair {
    fn new(suite: &str, mki: &[u8]) -> Pair {
        let mut pair = Pair { ours: Line::new(), theirs: Line::new(), now: Instant::now() };
        pair.agree(suite, 1, 2, mki);
        pair
    }

    fn agree(&mut self, suite: &str, ours: u8, theirs: u8, mki: &[u8]) {
        let (one, two) = (key(suite, ours, mki), key(suite, theirs, mki));
        let agreement = agreed(suite, one.clone(), two.clone());
        self.ours.agree(&agreement, self.now).expect("agreed");
        self.theirs.agree(&agreed(suite, two, one), self.now).expect("agreed");
    }

    /// Protect a packet of theirs.
    fn sent(&mut self, sequence: u32) -> Vec<u8> {
        let mut packet = rtp(sequence);
        assert!(self.theirs.protect_rtp(&mut packet));
        packet
    }

    /// Open a packet with ours, checked against what it was.
    fn opens(&mut self, data: &[u8], sequence: u32) -> bool {
        let mut data = data.to_vec();
        match self.ours.open_rtp(&mut data, self.now) {
            Some(length) => {
                assert_eq!(data[..length], rtp(sequence));
                true
            }
            None => false,
        }
    }
}

fn rtp(sequence: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 8];
    packet.extend_from_slice(&(sequence as u16).to_be_bytes());
    packet.extend_from_slice(&(sequence * 160).to_be_bytes());
    packet.extend_from_slice(&7u32.to_be_bytes());
    packet.extend_from_slice(&[0xD5; 160]);
    packet
}

fn report() -> Vec<u8> {
    let mut packet = vec![0x80, 200, 0, 6, 0, 0, 0, 7];
    packet.extend(1..=20);
    packet
}

#[test]
fn what_one_end_protects_the_other_opens() {
    for suite in SUITES {
        for mki in [&[][..], &[0, 0, 0, 1]] {
            let mut pair = Pair::new(suite, mki);
            for sequence in 65530..65545 {
                let data = pair.sent(sequence);
                assert_ne!(data[12..172], [0xD5; 160]);
                assert!(pair.opens(&data, sequence), "{suite} {mki:?} {sequence}");
            }
            let mut control = report();
            assert!(pair.ours.protect_rtcp(&mut control));
            let length = pair.theirs.open_rtcp(&mut control, pair.now).expect("opened");
            assert_eq!(control[..length], report());
            assert_eq!(pair.ours.failures() + pair.theirs.failures(), 0);
        }
    }
}

#[test]
fn a_packet_that_changed_or_came_again_or_is_older_than_the_window_does_not_pass() {
    for suite in SUITES {
        let mut pair = Pair::new(suite, &[]);
        let packets: Vec<_> = (0..300).map(|sequence| pair.sent(sequence)).collect();
        for at in [1, 3, 12, packets[0].len() - 1] {
            let mut damaged = packets[0].clone();
            damaged[at] ^= 1;
            assert!(!pair.opens(&damaged, 0));
        }
        assert!(pair.opens(&packets[200], 200));
        assert!(!pair.opens(&packets[200], 200));
        assert!(pair.opens(&packets[150], 150));
        assert!(!pair.opens(&packets[20], 20));
        assert!(!pair.opens(&rtp(201), 201), "plain");
        assert!(!pair.opens(&packets[201][..20], 201), "cut");
        assert_eq!(pair.ours.failures(), 8);
    }
}

#[test]
fn a_bigger_window_takes_later_packets() {
    let mut pair = Pair::new(SUITE, &[]);
    let mut wide = agreed(SUITE, key(SUITE, 3, &[]), key(SUITE, 2, &[]));
    wide.window = Some(1024);
    pair.ours = Line::new();
    pair.ours.agree(&wide, pair.now).expect("agreed");
    let packets: Vec<_> = (0..1024).map(|sequence| pair.sent(sequence)).collect();
    assert!(pair.opens(&packets[1023], 1023));
    assert!(pair.opens(&packets[0], 0));
    assert!(!pair.opens(&packets[0], 0));
}

#[test]
fn the_same_keys_again_leave_the_contexts_alone() {
    let mut pair = Pair::new(SUITE, &[]);
    let first = pair.sent(1);
    assert!(pair.opens(&first, 1));
    pair.agree(SUITE, 1, 2, &[]);
    assert!(!pair.opens(&first, 1), "still a replay");
    let second = pair.sent(2);
    assert!(pair.opens(&second, 2));
}

#[test]
fn over_a_rekey_the_counter_goes_on_and_the_old_key_counts_a_little_longer() {
    for suite in SUITES {
        let mut pair = Pair::new(SUITE, &[]);
        let mut late = Vec::new();
        for sequence in 65530..65560 {
            let data = pair.sent(sequence);
            if sequence < 65557 {
                assert!(pair.opens(&data, sequence));
            } else {
                late.push(data);
            }
        }
        pair.agree(suite, 1, 3, &[]);
        assert!(pair.opens(&late[0], 65557), "{suite}");
        let data = pair.sent(65560);
        assert!(pair.opens(&data, 65560), "the counter goes on");
        assert!(pair.opens(&late[1], 65558));
        pair.now += KEPT_AFTER_REKEY;
        assert!(!pair.opens(&late[2], 65559));
        let data = pair.sent(65561);
        assert!(pair.opens(&data, 65561));
        assert_eq!(pair.ours.failures(), 1);
    }
}

#[test]
fn a_peer_that_starts_its_counter_again_with_a_new_key_is_heard_too() {
    let mut pair = Pair::new(SUITE, &[]);
    for sequence in 65530..65540 {
        let data = pair.sent(sequence);
        assert!(pair.opens(&data, sequence));
    }
    pair.theirs = Line::new();
    pair.now += Duration::from_secs(100); // held
    pair.agree("AEAD_AES_128_GCM", 1, 3, &[]);
    for sequence in 4..10 {
        let data = pair.sent(sequence);
        assert!(pair.opens(&data, sequence));
    }
}

#[test]
fn a_wrap_just_when_the_key_changes_is_followed() {
    let mut pair = Pair::new(SUITE, &[]);
    let data = pair.sent(65530);
    assert!(pair.opens(&data, 65530));
    pair.agree("AEAD_AES_256_GCM", 1, 3, &[]);
    let data = pair.sent(65540);
    assert!(pair.opens(&data, 65540));
    assert_eq!(pair.ours.failures(), 0);
}

#[test]
fn a_report_under_a_new_key_passes_once() {
    let mut pair = Pair::new(SUITE, &[]);
    for sequence in 65530..65540 {
        let data = pair.sent(sequence);
        assert!(pair.opens(&data, sequence));
    }
    pair.agree("AEAD_AES_128_GCM", 1, 3, &[]);
    let mut control = report();
    assert!(pair.theirs.protect_rtcp(&mut control));
    assert!(pair.ours.open_rtcp(&mut control.clone(), pair.now).is_some());
    let data = pair.sent(65540);
    assert!(pair.opens(&data, 65540));
    assert!(pair.ours.open_rtcp(&mut control, pair.now).is_none());
}

#[test]
fn two_rekeys_during_a_hold_keep_the_counter() {
    let mut pair = Pair::new(SUITE, &[]);
    for sequence in 65530..65540 {
        let data = pair.sent(sequence);
        assert!(pair.opens(&data, sequence));
    }
    pair.agree(SUITE, 1, 3, &[]);
    pair.now += Duration::from_secs(100);
    pair.agree(SUITE, 1, 4, &[]);
    pair.now += Duration::from_secs(100);
    let data = pair.sent(65540);
    assert!(pair.opens(&data, 65540));
}

#[test]
fn keys_of_theirs_that_come_back_at_once_know_their_replays() {
    let mut pair = Pair::new(SUITE, &[]);
    let first = pair.sent(1);
    assert!(pair.opens(&first, 1));
    pair.agree(SUITE, 1, 3, &[]);
    pair.agree(SUITE, 1, 2, &[]);
    assert!(!pair.opens(&first, 1));
    let second = pair.sent(2);
    assert!(pair.opens(&second, 2));
}

#[test]
fn keys_that_come_back_unheard_know_what_passed_since() {
    let mut pair = Pair::new(SUITE, &[]);
    pair.agree(SUITE, 1, 3, &[]);
    pair.agree(SUITE, 1, 2, &[]);
    for sequence in 65530..65540 {
        let data = pair.sent(sequence);
        assert!(pair.opens(&data, sequence));
    }
    pair.agree(SUITE, 1, 3, &[]);
    let data = pair.sent(65540);
    assert!(pair.opens(&data, 65540));
}

#[test]
fn no_index_of_ours_is_used_twice_whatever_the_keys_do() {
    let mut pair = Pair::new(SUITE, &[]);
    let first = pair.sent(10);
    let mut again = rtp(10);
    assert!(!pair.theirs.protect_rtp(&mut again));
    assert!(again.is_empty(), "nothing is left that could leave");
    pair.agree(SUITE, 1, 3, &[]);
    pair.sent(11);
    pair.agree(SUITE, 1, 2, &[]);
    let back = pair.sent(10); // 65536 later: another round
    assert_ne!(first, back);
    let mut reports = Vec::new();
    for key in [2, 3, 2] {
        pair.agree(SUITE, 1, key, &[]);
        let mut control = report();
        assert!(pair.theirs.protect_rtcp(&mut control));
        reports.push(control);
    }
    assert_ne!(reports[0], reports[2]);
}

#[test]
fn a_part_of_the_stream_may_go_out_unprotected() {
    let mut pair = Pair::new(SUITE, &[]);
    pair.sent(10);
    pair.sent(10 + 0xF000);
    pair.sent(0x1_0005);
    assert_eq!(pair.theirs.sent, Some(0x1_0005));
}

#[test]
fn a_worn_out_key_protects_and_opens_nothing_more() {
    let mut pair = Pair::new(SUITE, &[]);
    let short = |seed| MasterKey { lifetime: Some(2), ..key(SUITE, seed, &[]) };
    pair.ours = Line::new();
    pair.ours.agree(&agreed(SUITE, short(1), short(2)), pair.now).expect("agreed");
    let passed = |line: &mut Line| -> Vec<bool> {
        (0..4).map(|sequence| line.protect_rtp(&mut rtp(sequence))).collect()
    };
    assert_eq!(passed(&mut pair.ours), [true, true, false, false]);
    for (sequence, wanted) in [true, true, false].into_iter().enumerate() {
        let data = pair.sent(sequence as u32);
        assert_eq!(pair.opens(&data, sequence as u32), wanted);
    }
}

#[test]
fn the_identifier_in_the_packet_tells_the_key() {
    for suite in SUITES {
        let mut pair = Pair::new(suite, &[0, 2]);
        let mut several = agreed(suite, key(suite, 1, &[]), key(suite, 5, &[0, 1]));
        several.receive.push(key(suite, 2, &[0, 2]));
        pair.ours.agree(&several, pair.now).expect("agreed");
        let data = pair.sent(1);
        assert!(pair.opens(&data, 1));
        let mut control = report();
        assert!(pair.theirs.protect_rtcp(&mut control));
        assert!(pair.ours.open_rtcp(&mut control, pair.now).is_some());
        let mut pair = Pair::new(suite, &[0, 3]);
        pair.ours = Line::new();
        pair.ours.agree(&several, pair.now).expect("agreed");
        let data = pair.sent(1);
        assert!(!pair.opens(&data, 1));
    }
}

#[test]
fn ssrcs_without_end_are_forgotten_again_but_never_the_present_one() {
    let mut pair = Pair::new(SUITE, &[]);
    let first = pair.sent(1);
    assert!(pair.opens(&first, 1));
    for ssrc in 100..100 + 4 * MAX_SSRCS as u32 {
        let mut control = report();
        control[4..8].copy_from_slice(&ssrc.to_be_bytes());
        assert!(pair.theirs.protect_rtcp(&mut control));
        assert!(pair.ours.open_rtcp(&mut control, pair.now).is_some());
    }
    assert!(!pair.opens(&first, 1), "still a replay");
    let second = pair.sent(2);
    assert!(pair.opens(&second, 2));
}

#[test]
fn what_cannot_be_done_is_refused_and_changes_nothing() {
    let mut pair = Pair::new(SUITE, &[]);
    let good = || agreed(SUITE, key(SUITE, 1, &[]), key(SUITE, 2, &[]));
    let cases = [
        Crypto { suite: "F8_128_HMAC_SHA1_80".into(), ..good() },
        Crypto { suite: "AEAD_AES_256_GCM".into(), ..good() },
        Crypto { receive: vec![], ..good() },
        Crypto { receive: vec![key(SUITE, 2, &[]), key(SUITE, 3, &[])], ..good() },
        Crypto { receive: vec![key(SUITE, 2, &[1]), key(SUITE, 3, &[0, 2])], ..good() },
        Crypto { receive: vec![key(SUITE, 2, &[1; MAX_MKI_BYTES + 1])], ..good() },
        Crypto { receive: (0..9).map(|n| key(SUITE, n, &[n])).collect(), ..good() },
    ];
    for case in cases {
        assert!(pair.ours.agree(&case, pair.now).is_err());
        assert!(Line::new().agree(&case, pair.now).is_err());
    }
    let data = pair.sent(1);
    assert!(pair.opens(&data, 1));
    assert!(pair.ours.protect_rtp(&mut rtp(1)));
}

#[test]
fn before_anything_is_agreed_nothing_passes() {
    let (mut line, now) = (Line::new(), Instant::now());
    assert!(line.open_rtp(&mut rtp(1), now).is_none());
    assert!(line.open_rtcp(&mut report(), now).is_none());
    assert!(!line.protect_rtp(&mut rtp(1)));
    assert!(!line.protect_rtcp(&mut report()));
    assert_eq!(line.failures(), 0);
}

#[test]
fn nothing_that_comes_panics() {
    for suite in SUITES {
        for mki in [&[][..], &[1]] {
            let mut pair = Pair::new(suite, mki);
            let data = pair.sent(1);
            for length in 0..data.len() {
                for first in [0x80, 0x9F, 0xBF] {
                    let mut cut = data[..length].to_vec();
                    if let Some(byte) = cut.first_mut() {
                        *byte = first;
                    }
                    assert!(pair.ours.open_rtp(&mut cut.clone(), pair.now).is_none());
                    assert!(pair.ours.open_rtcp(&mut cut, pair.now).is_none());
                    pair.ours.protect_rtp(&mut data[..length].to_vec());
                    pair.ours.protect_rtcp(&mut data[..length].to_vec());
                }
            }
        }
    }
}
