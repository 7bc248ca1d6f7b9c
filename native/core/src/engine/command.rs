//! What is asked of the threads, and the bounded rings it travels in.

use super::event::{Backlog, Permit};
use super::stats::StatsCell;
use crate::net::{EventFd, Udp};
use crate::peer::{Options, Output, Peer};
use crate::tap::Tap;
use crate::types::{CarrierSetup, Levels, Negotiated};
use rtrb::{Producer, PushError};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Commands that a ring holds.
pub const RING: usize = 4096;

/// Commands that wait besides when a ring is full.
const SPILL: usize = 1 << 16;

/// Everything that a call is made of.
#[derive(Debug)]
pub struct OpenCall {
    pub setup: CarrierSetup,
    pub rtp: Udp,
    pub rtcp: Udp,
    pub stats: Arc<StatsCell>,
    pub backlog: Arc<Backlog>,
}

/// How the carrier's side of a call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// The stream is over: our last report says BYE.
    Goodbye,
    /// Somebody else goes on with the stream.
    Handover,
}

/// To the media thread that has a call.
pub enum CallCommand {
    Open(Box<OpenCall>),
    Connect(Box<Negotiated>),
    Apply(Levels),
    Dtmf(String),
    Mute(bool),
    Tap(Box<Tap>),
    HangUp(Parting),
    Close,
    Stop,
    /// Make the call's work panic: tests only.
    #[cfg(test)]
    Panic,
}

/// To one transport of a call.
#[derive(Debug)]
pub enum PeerCommand {
    Open(Box<OpenPeer>),
    Answer(String),
    Offer(String),
    Candidate(String),
    Receivers(u32),
    RestartIce,
    Send { label: String, data: Vec<u8>, _permit: Permit },
    Close,
}

impl PeerCommand {
    /// Have *peer* do it. `Open` and `Close` are their thread's.
    pub fn run(self, peer: &mut Peer, now: Instant, out: &mut Vec<Output>) {
        match self {
            PeerCommand::Answer(sdp) => peer.answer(&sdp, now, out),
            PeerCommand::Offer(sdp) => peer.take_offer(&sdp, now, out),
            PeerCommand::Candidate(text) => peer.candidate(&text, now, out),
            PeerCommand::Receivers(count) => peer.add_receivers(count, now, out),
            PeerCommand::RestartIce => peer.restart_ice(now, out),
            PeerCommand::Send { label, data, .. } => peer.send(&label, data, now, out),
            PeerCommand::Open(_) | PeerCommand::Close => {}
        }
    }
}

/// A transport to be made; it stays known by its generation.
#[derive(Debug)]
pub struct OpenPeer {
    pub options: Options,
    pub generation: u32,
    pub backlog: Arc<Backlog>,
    /// The media thread that the call is on.
    pub thread: usize,
}

/// To the set-up thread.
#[derive(Debug)]
pub enum SetupCommand {
    Peer { call: u64, side: u8, command: PeerCommand },
    CloseCall { call: u64 },
    Stop,
}

/// From the set-up thread to a media thread, in order.
pub enum Handover {
    /// A transport that stands.
    Peer { call: u64, side: u8, peer: Box<HeldPeer> },
    /// A command for one that was handed over.
    Command { call: u64, side: u8, command: PeerCommand },
}

/// A transport and how its events are told.
pub struct HeldPeer {
    pub peer: Peer,
    pub generation: u32,
    pub backlog: Arc<Backlog>,
}

/// The sending end of a ring: what does not fit waits here, in order, up to a bound.
pub struct Sender<T> {
    ring: Producer<T>,
    spill: VecDeque<T>,
    wake: Arc<EventFd>,
}

/// The other end does not keep up.
#[derive(Debug)]
pub struct Full;

impl<T> Sender<T> {
    pub fn new(ring: Producer<T>, wake: Arc<EventFd>) -> Self {
        Sender { ring, spill: VecDeque::new(), wake }
    }

    pub fn send(&mut self, value: T) -> Result<(), Full> {
        if self.spill.len() >= SPILL {
            return Err(Full);
        }
        self.spill.push_back(value);
        self.flush();
        Ok(())
    }

    /// Send *last*, after which nothing is sent, however much waits: returns when all of it is in
    /// the ring, or when nobody is there to take it.
    pub fn finish(mut self, last: T) {
        self.spill.push_back(last);
        while !self.flush() && !self.ring.is_abandoned() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Put what waits into the ring as far as there is room; true: all of it.
    pub fn flush(&mut self) -> bool {
        let mut sent = false;
        while let Some(value) = self.spill.pop_front() {
            if let Err(PushError::Full(value)) = self.ring.push(value) {
                self.spill.push_front(value);
                break;
            }
            sent = true;
        }
        if sent {
            self.wake.signal();
        }
        self.spill.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_into_the_ring_follows_in_order() {
        let (producer, mut consumer) = rtrb::RingBuffer::new(4);
        let mut sender = Sender::new(producer, Arc::new(EventFd::new().unwrap()));
        for n in 0..10 {
            sender.send(n).unwrap();
        }
        let mut seen = vec![];
        while seen.len() < 10 {
            while let Ok(n) = consumer.pop() {
                seen.push(n);
            }
            sender.flush();
        }
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn the_last_command_arrives_also_through_a_full_ring() {
        let (producer, mut consumer) = rtrb::RingBuffer::new(2);
        let mut sender = Sender::new(producer, Arc::new(EventFd::new().unwrap()));
        for n in 0..10 {
            sender.send(n).unwrap();
        }
        let taker = std::thread::spawn(move || {
            let mut seen = vec![];
            while seen.last() != Some(&10) {
                seen.extend(consumer.pop());
                std::thread::yield_now();
            }
            seen
        });
        sender.finish(10);
        assert_eq!(taker.join().unwrap(), (0..=10).collect::<Vec<_>>());
    }

    #[test]
    fn the_last_command_to_a_thread_that_is_gone_is_given_up() {
        let (producer, consumer) = rtrb::RingBuffer::new(2);
        let mut sender = Sender::new(producer, Arc::new(EventFd::new().unwrap()));
        for n in 0..10 {
            sender.send(n).unwrap();
        }
        drop(consumer);
        sender.finish(10);
    }
}
