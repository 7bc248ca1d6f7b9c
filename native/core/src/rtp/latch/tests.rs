//! Addresses and networks of the latch; its course over time is in tests/vectors/rtp.

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn at(text: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(text), port)
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().expect("a network")).collect()
}

fn none(_: SocketAddr) -> bool {
    false
}

/// A latch of one call, and its time.
struct Subject {
    latch: Latch,
    now: Instant,
}

impl Subject {
    fn new(signalling: &str, allow: &[&str]) -> Subject {
        Subject { latch: Latch::new(Some(ip(signalling)), nets(allow)), now: Instant::now() }
    }

    fn expect(&mut self, address: &str, port: u16) {
        self.latch.expect(Some(at(address, port)), &none, self.now);
    }

    fn accept(&mut self, source: SocketAddr, sequence: u16) -> bool {
        self.latch.accept(source, 1, sequence, &none, self.now)
    }

    /// Sends *count* packets in a row; returns how many of them counted.
    fn burst(&mut self, source: SocketAddr, count: u16) -> usize {
        (100..100 + count).filter(|sequence| self.accept(source, *sequence)).count()
    }
}

#[test]
fn inner_addresses_need_media_allow() {
    for text in [
        "127.0.0.1",
        "10.0.0.1",
        "172.31.255.1",
        "192.168.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "169.254.169.254",
        "::1",
        "fd00::1",
        "fe80::1",
        "::ffff:127.0.0.1",
    ] {
        assert!(!trusted(ip(text), &[]), "{text}");
        assert!(trusted(ip(text), &nets(&["0.0.0.0/0", "::/0"])), "{text}");
    }
}

#[test]
fn no_media_ever_goes_to_these() {
    for text in ["0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", "240.0.0.1", "::", "ff02::1"]
    {
        assert!(!trusted(ip(text), &nets(&["0.0.0.0/0", "::/0"])), "{text}");
    }
}

#[test]
fn public_addresses_are_trusted() {
    for text in ["192.0.2.1", "172.32.0.1", "100.128.0.1", "2001:db8::1", "::ffff:192.0.2.1"] {
        assert!(trusted(ip(text), &[]), "{text}");
    }
}

#[test]
fn a_source_in_the_ipv6_64_is_learnt_and_one_outside_is_not() {
    let mut subject = Subject::new("2001:db8:9::1", &[]);
    subject.expect("2001:db8:1::1", 4000);
    assert_eq!(subject.burst(at("2001:db8:1:1::2", 4000), 5), 0);
    assert_eq!(subject.burst(at("2001:db8:1::2", 4000), 3), 1);
    assert_eq!(subject.latch.target(), Some(at("2001:db8:1::2", 4000)));
}

#[test]
fn a_mapped_address_is_the_same_source() {
    let mut subject = Subject::new("198.51.100.1", &[]);
    subject.expect("::ffff:192.0.2.1", 4000);
    assert_eq!(subject.latch.target(), Some(at("192.0.2.1", 4000)));
    assert!(subject.accept(at("192.0.2.1", 4000), 1));
    assert!(subject.accept(at("::ffff:192.0.2.1", 4000), 2));
    assert_eq!(subject.latch.target(), Some(at("192.0.2.1", 4000)));
}

#[test]
fn many_sources_do_not_grow_memory_nor_keep_the_true_one_out() {
    let mut subject = Subject::new("198.51.100.1", &[]);
    subject.expect("192.0.2.1", 4000);
    for port in 1..5000 {
        assert!(!subject.accept(at("192.0.2.2", port), 1));
    }
    assert_eq!(subject.latch.candidates.len(), MAX_CANDIDATES);
    assert_eq!(subject.latch.candidates.capacity(), MAX_CANDIDATES);
    assert_eq!(subject.burst(at("192.0.2.3", 4000), 3), 1);
}

#[test]
fn a_source_that_stays_after_its_address_changed_in_sdp_is_learnt_again_slowly() {
    let mut subject = Subject::new("198.51.100.1", &[]);
    subject.expect("192.0.2.1", 4000);
    let source = at("192.0.2.2", 4000);
    assert_eq!(subject.burst(source, 3), 1);
    subject.expect("192.0.2.1", 4002);
    assert_eq!(subject.burst(source, RETURN_PROBATION as u16 - 1), 0);
    subject.expect("192.0.2.1", 4002); // nothing new: the count goes on
    assert!(subject.accept(source, 100 + RETURN_PROBATION as u16 - 1));
}

#[test]
fn the_tail_of_the_old_source_does_not_count_after_two_changes_in_a_row() {
    let mut subject = Subject::new("198.51.100.1", &[]);
    subject.expect("192.0.2.1", 4000);
    let old = at("192.0.2.1", 4000);
    assert!(subject.accept(old, 1));
    subject.expect("192.0.2.5", 4000);
    subject.expect("192.0.2.6", 4000);
    assert_eq!(subject.burst(old, 10), 0);
}

#[test]
fn a_window_that_was_told_closes_again() {
    let mut subject = Subject::new("198.51.100.1", &[]);
    subject.expect("192.0.2.1", 4000);
    assert!(subject.accept(at("192.0.2.1", 4000), 1));
    subject.latch.open(subject.now);
    subject.now += WINDOW;
    assert!(subject.accept(at("192.0.2.1", 4000), 2));
    assert_eq!(subject.burst(at("192.0.2.2", 4000), 5), 0);
    subject.now += SILENT_AFTER;
    assert_eq!(subject.burst(at("192.0.2.2", 4000), 5), 3);
}

#[test]
fn our_own_port_is_neither_target_nor_source() {
    let mut subject = Subject::new("198.51.100.1", &["192.0.2.0/24"]);
    let own = |address: SocketAddr| address.port() == 4000;
    subject.latch.expect(Some(at("192.0.2.1", 4000)), &own, subject.now);
    assert_eq!(subject.latch.target(), None);
    for source in [at("192.0.2.1", 4000), at("192.0.2.9", 4000)] {
        for sequence in 0..9 {
            assert!(!subject.latch.accept(source, 1, sequence, &own, subject.now));
        }
    }
}

#[test]
fn what_is_nowhere_leaves_what_was_learnt() {
    let mut subject = Subject::new("198.51.100.1", &[]);
    subject.expect("192.0.2.1", 4000);
    for nowhere in [None, Some(at("0.0.0.0", 4000)), Some(at("::", 9)), Some(at("192.0.2.7", 0))] {
        subject.latch.expect(nowhere, &none, subject.now);
        assert_eq!(subject.latch.target(), Some(at("192.0.2.1", 4000)));
    }
}

#[test]
fn whether_a_strangers_port_is_ours_is_not_asked() {
    let mut subject = Subject::new("198.51.100.7", &[]);
    subject.expect("198.51.100.7", 4000);
    let asked = std::cell::Cell::new(0);
    let own = |_: SocketAddr| {
        asked.set(asked.get() + 1);
        false
    };
    for sequence in 0..100 {
        let stranger = at("203.0.113.9", 20_000);
        assert!(!subject.latch.accept(stranger, 1, sequence, &own, subject.now));
    }
    assert_eq!(asked.get(), 0);
    // A neighbour may pass, so it is asked of.
    subject.latch.accept(at("198.51.100.8", 20_000), 1, 1, &own, subject.now);
    assert_eq!(asked.get(), 1);
}
