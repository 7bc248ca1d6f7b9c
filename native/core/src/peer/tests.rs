//! Two transports over loopback: what one says the other hears, also after ICE was restarted.

use super::*;
use std::net::Ipv4Addr;

/// Generous: a machine under load is slow, not wrong.
const PATIENCE: Duration = Duration::from_secs(20);

struct Pair {
    peers: [Peer; 2],
    said: [Vec<Output>; 2],
}

fn options(offers: bool) -> Options {
    Options {
        address: Ipv4Addr::LOCALHOST.into(),
        offers,
        track: offers.then(|| "mic".to_string()),
        law: Law::A,
        receivers: u32::from(offers),
    }
}

impl Pair {
    /// Ours, which offered, and the far end's, which answered.
    fn agreed() -> Pair {
        let provider = str0m::crypto::from_feature_flags();
        let certificate = provider.dtls_provider.generate_certificate().unwrap();
        let (now, mut said) = (Instant::now(), [vec![], vec![]]);
        let ours = Peer::open(&options(true), &certificate, now, &mut said[0]).unwrap();
        let theirs = Peer::open(&options(false), &certificate, now, &mut said[1]).unwrap();
        let mut pair = Pair { peers: [ours, theirs], said };
        pair.settle(0);
        pair
    }

    /// Take peer *from*'s offer to the other one, and the answer back.
    fn settle(&mut self, from: usize) {
        let now = Instant::now();
        let offer = self.take(from, |output| match output {
            Output::Offer(sdp) => Some(sdp.clone()),
            _ => None,
        });
        let to = 1 - from;
        self.peers[to].take_offer(&offer, now, &mut self.said[to]);
        let answer = self.take(to, |output| match output {
            Output::Answer(sdp) => Some(sdp.clone()),
            _ => None,
        });
        self.peers[from].answer(&answer, now, &mut self.said[from]);
    }

    /// Wait until peer *at* says what is *wanted*; what it said before is forgotten.
    fn take<T>(&mut self, at: usize, wanted: impl Fn(&Output) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(found) = self.said[at].iter().position(|output| wanted(output).is_some()) {
                let output = self.said[at].drain(..=found).next_back().unwrap();
                return wanted(&output).unwrap();
            }
            self.turn();
        }
        panic!("it was never said");
    }

    fn turn(&mut self) {
        std::thread::sleep(Duration::from_micros(500));
        let now = Instant::now();
        for (peer, said) in self.peers.iter_mut().zip(&mut self.said) {
            while peer.receive(now, said) {}
            if peer.wake_at() <= now {
                peer.tick(now, said);
            }
        }
    }

    fn stand(&mut self) {
        for at in 0..2 {
            self.take(at, |output| matches!(output, Output::Connected).then_some(()));
        }
    }

    /// A packet of ours arrives there as what it is.
    fn speak(&mut self, sequence: u64) -> u64 {
        let (payload, now) = ([0xd5u8; 160], Instant::now());
        self.peers[0].forward(sequence, 77, false, -30, &payload, now, &mut self.said[0]);
        self.take(1, |output| match output {
            Output::Rtp { sequence, codec: RoomCodec::G711(Law::A), .. } => Some(*sequence),
            _ => None,
        })
    }
}

#[test]
fn media_goes_on_over_an_ice_restart_of_either_end() {
    let mut pair = Pair::agreed();
    pair.stand();
    let first = pair.speak(1 << 33);
    assert!(first < 1 << 15);
    for end in [0, 1] {
        let now = Instant::now();
        pair.peers[end].restart_ice(now, &mut pair.said[end]);
        pair.settle(end);
        let sequence = (1 << 33) + 1 + end as u64;
        assert_eq!(pair.speak(sequence), first + 1 + end as u64);
        assert!(pair.peers.iter().all(Peer::connected));
    }
}

#[test]
fn a_channel_of_the_same_name_takes_nothing_from_the_one_that_stands() {
    use str0m::channel::ChannelConfig;
    let mut pair = Pair::agreed();
    pair.stand();
    let open = |pair: &mut Pair| {
        let mut api = pair.peers[1].rtc.direct_api();
        let label = "name".to_string();
        let id = api.create_data_channel(ChannelConfig { label, ..ChannelConfig::default() });
        pair.take(0, |output| match output {
            Output::Channel { label, .. } => (label == "name").then_some(()),
            _ => None,
        });
        id
    };
    let first = open(&mut pair);
    open(&mut pair);
    let written = pair.peers[1].rtc.channel(first).unwrap().write(true, b"on the first");
    assert_eq!(written.ok(), Some(true));
    pair.peers[1].tick(Instant::now(), &mut pair.said[1]);
    pair.take(0, |output| match output {
        Output::Data { label, data } => (label == "name" && data == b"on the first").then_some(()),
        _ => None,
    });
}

#[test]
fn messages_that_arrived_are_told_each_once_and_none_that_is_under_way() {
    let mut pair = Pair::agreed();
    pair.stand();
    let heard = |output: &Output| match output {
        Output::Data { data, .. } => Some(data.clone()),
        _ => None,
    };
    let arrived = |output: &Output| match output {
        Output::Delivered { label, count } if label == "_reliable" => Some(*count),
        _ => None,
    };
    let mut told = 0;
    for size in [1, 40_000, 7] {
        pair.peers[0].send("_lossy", vec![0; 9], Instant::now(), &mut pair.said[0]);
        pair.peers[0].send("_reliable", vec![1; size], Instant::now(), &mut pair.said[0]);
        while pair.take(1, heard) != vec![1; size] {}
        told += 1;
        while told > 0 {
            told -= pair.take(0, arrived);
        }
    }
    // Nobody takes it any more, however often it is sent again.
    let (mut said, mut now) = (vec![], Instant::now());
    pair.peers[0].send("_reliable", vec![1; 5], now, &mut said);
    while !matches!(said.last(), Some(Output::Ended(_))) {
        now = pair.peers[0].wake_at().max(now + Duration::from_millis(1));
        pair.peers[0].tick(now, &mut said);
    }
    assert!(said.iter().all(|output| arrived(output).is_none()), "{said:?}");
}

#[test]
fn an_offer_of_ours_that_meets_theirs_is_made_again() {
    let mut pair = Pair::agreed();
    pair.stand();
    let now = Instant::now();
    pair.peers[0].add_receivers(2, now, &mut pair.said[0]);
    pair.peers[1].restart_ice(now, &mut pair.said[1]);
    // The server does not take offers while its own is under way: ours is lost.
    pair.take(0, |output| matches!(output, Output::Offer(_)).then_some(()));
    pair.settle(1);
    let again = pair.take(0, |output| match output {
        Output::Offer(sdp) => Some(sdp.clone()),
        _ => None,
    });
    assert_eq!(again.matches("m=audio").count(), 4);
}

#[test]
fn sections_that_receive_offer_packets_with_copies_and_both_ends_know_them() {
    let mut pair = Pair::agreed();
    let now = Instant::now();
    pair.peers[0].add_receivers(1, now, &mut pair.said[0]);
    let offer = pair.take(0, |output| match output {
        Output::Offer(sdp) => Some(sdp.clone()),
        _ => None,
    });
    let of = |direction: &str| {
        let sections = offer.split("m=audio ").skip(1).map(str::to_string);
        sections.filter(|s| s.contains(direction)).collect::<Vec<_>>()
    };
    for section in of("a=recvonly") {
        assert!(section.contains("a=rtpmap:63 red/48000/2\r\n"), "{section}");
        assert!(section.contains("a=fmtp:63 111/111\r\n"), "{section}");
        assert!(section.lines().next().unwrap().contains(" 63"), "{section}");
    }
    assert!(!of("a=sendonly").concat().contains(":63 "));
    for peer in &pair.peers {
        assert_eq!(peer.format_of(63.into()), Some((RoomCodec::Opus, Some(111))));
        assert_eq!(peer.format_of(111.into()), Some((RoomCodec::Opus, None)));
        assert_eq!(peer.format_of(8.into()), Some((RoomCodec::G711(Law::A), None)));
    }
}

#[test]
fn what_is_no_description_ends_the_transport_once() {
    let mut pair = Pair::agreed();
    let now = Instant::now();
    pair.said[0].clear();
    for _ in 0..2 {
        pair.peers[0].take_offer("v=0\r\n", now, &mut pair.said[0]);
    }
    assert!(matches!(pair.said[0][..], [Output::Ended("sdp")]));
    assert!(pair.peers[0].wake_at() > now + PATIENCE);
}

#[test]
fn a_transport_that_never_stands_is_over_after_a_while() {
    let mut pair = Pair::agreed();
    let later = Instant::now() + SETUP_TIME + Duration::from_secs(1);
    pair.said[1].clear();
    pair.peers[1].tick(later, &mut pair.said[1]);
    assert!(matches!(pair.said[1].last(), Some(Output::Ended("timeout"))));
}

#[test]
fn a_far_end_that_vanishes_is_told_as_lost_before_it_is_over() {
    let mut pair = Pair::agreed();
    pair.stand();
    let (mut now, mut said) = (Instant::now(), vec![]);
    let start = now;
    while !matches!(said.last(), Some(Output::Ended(_))) {
        now = pair.peers[0].wake_at().max(now + Duration::from_millis(1));
        assert!(now < start + Duration::from_secs(120));
        pair.peers[0].tick(now, &mut said);
        if said.is_empty() {
            // 15 s of it: this far end asked us for our consent, as a server does not.
            assert!(now < start + Duration::from_secs(25), "nothing was noticed");
        }
    }
    assert!(matches!(said[..], [Output::Disconnected, Output::Ended("timeout")]), "{said:?}");
}
