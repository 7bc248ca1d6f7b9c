//! The threads with sockets on loopback, without a room.

use super::*;
use crate::types::CarrierSetup;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// Generous: a machine under load is slow, not wrong.
const PATIENCE: Duration = Duration::from_secs(10);

struct Phone {
    rtp: UdpSocket,
    engine_rtp: UdpSocket,
    engine_rtcp: UdpSocket,
}

impl Phone {
    fn new() -> Phone {
        let bind = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let rtp = bind();
        rtp.set_read_timeout(Some(PATIENCE)).unwrap();
        Phone { rtp, engine_rtp: bind(), engine_rtcp: bind() }
    }

    fn call(&self, engine: &Engine) -> u64 {
        let setup = CarrierSetup {
            ssrc: 7,
            sequence: 100,
            timestamp: 1000,
            track: Law::Mu,
            signalling: Some(IpAddr::from([127, 0, 0, 1])),
            allow: network("127.0.0.0/8").into_iter().collect(),
            cname: "test".to_string(),
        };
        let (rtp, rtcp) = (self.engine_rtp.as_raw_fd(), self.engine_rtcp.as_raw_fd());
        let call = engine.open(rtp, rtcp, setup).unwrap();
        let negotiated = Negotiated {
            remote: Some(self.rtp.local_addr().unwrap()),
            remote_rtcp_port: 0,
            send: Law::Mu,
            payload_type: 0,
            receive: vec![(0, Law::Mu)],
            dtmf_payload_type: None,
            receive_dtmf_payload_type: None,
            ptime: 20,
            crypto: None,
        };
        engine.connect(call, negotiated).unwrap();
        let open =
            Levels { transmit: true, agent_audio: true, caller_audio: true, ..Levels::CLOSED };
        engine.apply(call, open).unwrap();
        call
    }

    fn hear(&self) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let length = self.rtp.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }
}

fn wait_for(engine: &Engine, call: u64, wanted: impl Fn(&Event) -> bool) -> Event {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        for (told, event) in engine.drain() {
            if told == call && wanted(&event) {
                return event;
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("it was never told");
}

fn engine() -> Engine {
    Engine::start(Config { threads: 2, priority: 0, ..Config::default() }).unwrap()
}

#[test]
fn a_call_without_a_room_speaks_silence_and_tells_where_its_stream_ended() {
    let (engine, phone) = (engine(), Phone::new());
    let call = phone.call(&engine);
    let (first, second) = (phone.hear(), phone.hear());
    assert_eq!((first.len(), second.len()), (172, 172));
    assert_eq!(second[3], first[3].wrapping_add(1));
    engine.close(call).unwrap();
    let closed = wait_for(&engine, call, |event| matches!(event, Event::Closed { .. }));
    let Event::Closed { packets, .. } = closed else { panic!() };
    assert!(packets >= 2);
    assert_eq!(engine.turns().calls, 0);
    assert!(engine.stats(call).is_none());
}

#[test]
fn a_panic_ends_one_call_and_the_others_go_on() {
    let (engine, broken, fine) = (engine(), Phone::new(), Phone::new());
    let (one, other) = (broken.call(&engine), fine.call(&engine));
    // Also one on the same thread.
    let (neighbour, third) = (Phone::new(), Phone::new());
    let _ = (neighbour.call(&engine), third.call(&engine));
    broken.hear();
    engine.command(one, CallCommand::Panic).unwrap();
    let fault = wait_for(&engine, one, |event| matches!(event, Event::Fault(_)));
    assert_eq!(fault, Event::Fault("asked to panic".to_string()));
    for phone in [&fine, &neighbour, &third] {
        for _ in 0..5 {
            phone.hear();
        }
    }
    assert_eq!((engine.turns().calls, engine.turns().faults), (3, 1));
    // Who opened it ends it as any other.
    engine.hang_up(one, Parting::Goodbye).unwrap();
    wait_for(&engine, one, |event| matches!(event, Event::HungUp { packets: 1.., .. }));
    engine.close(one).unwrap();
    wait_for(&engine, one, |event| matches!(event, Event::Closed { packets: 1.., .. }));
    engine.close(other).unwrap();
    wait_for(&engine, other, |event| matches!(event, Event::Closed { .. }));
}

#[test]
fn after_the_end_commands_are_refused_and_a_second_stop_does_nothing() {
    let (engine, phone) = (engine(), Phone::new());
    let call = phone.call(&engine);
    engine.stop();
    engine.stop();
    assert_eq!(engine.mute(call, true), Err(Refused::Unavailable));
    wait_for(&engine, call, |event| matches!(event, Event::Closed { .. }));
}

#[test]
fn a_transport_of_a_call_that_is_being_closed_is_not_made() {
    let (engine, phone) = (engine(), Phone::new());
    let call = phone.call(&engine);
    engine.close(call).unwrap();
    let address = IpAddr::from([127, 0, 0, 1]);
    engine.peer_open(call, 0, address, None, 1).unwrap();
    // Nothing was drained, so the call is still known.
    assert_eq!(engine.lock().calls[&call].generations, [0, 0]);
}

#[test]
fn messages_that_no_thread_takes_end_their_transport_once_and_the_next_one_is_free() {
    let (engine, phone) = (engine(), Phone::new());
    let call = phone.call(&engine);
    let address = IpAddr::from([127, 0, 0, 1]);
    let open = || engine.peer_open(call, 0, address, Some("track".to_string()), 1).unwrap();
    let send = |size| engine.peer_send(call, "_reliable".to_string(), vec![0; size]);
    open();
    wait_for(&engine, call, |event| matches!(event, Event::Offer { .. }));
    let outgoing = engine.lock().calls[&call].outgoing.clone();
    let stuck = Permit::take(&outgoing, MAX_OUTGOING_BYTES - 100).unwrap();
    for _ in 0..100_000 {
        assert_eq!(send(101), Ok(()));
    }
    let told: Vec<_> = engine.drain().into_iter().map(|(_, event)| event).collect();
    assert_eq!(told, [Event::PeerClosed { side: 0, why: "overflow" }]);
    assert_eq!(send(1), Ok(()), "to nobody");
    open();
    wait_for(&engine, call, |event| matches!(event, Event::Offer { .. }));
    drop(stuck);
    assert_eq!(send(101), Ok(()));
    let entry = &engine.lock().calls[&call];
    assert_ne!(entry.overflown, entry.generations[0], "it takes what is sent");
}

#[test]
fn channels_that_are_opened_without_end_end_their_transport() {
    use super::call::{Told, report};
    use super::command::HeldPeer;
    use crate::peer::{Output, Peer};
    let provider = str0m::crypto::from_feature_flags();
    let certificate = provider.dtls_provider.generate_certificate().unwrap();
    let address = IpAddr::from([127, 0, 0, 1]);
    let options = Options { address, offers: false, track: None, law: Law::Mu, receivers: 0 };
    let peer = Peer::open(&options, &certificate, Instant::now(), &mut vec![]).unwrap();
    let held = HeldPeer { peer, generation: 1, backlog: Arc::default() };
    let open = || report(1, 0, &held, Output::Channel { label: "x".to_string(), stream: 1 });
    let told: Vec<_> = std::iter::repeat_with(open)
        .take(event::MAX_MESSAGES)
        .map_while(|told| match told {
            Told::Event(report) => Some(report),
            _ => None,
        })
        .collect();
    assert_eq!(told.len(), event::MAX_MESSAGES);
    assert!(matches!(open(), Told::Over(_)), "nobody drained them");
}

#[test]
fn a_call_on_what_is_no_socket_is_refused() {
    let engine = engine();
    let setup = CarrierSetup {
        ssrc: 1,
        sequence: 1,
        timestamp: 1,
        track: Law::A,
        signalling: None,
        allow: vec![],
        cname: String::new(),
    };
    assert!(engine.open(-1, -1, setup).is_err());
}
