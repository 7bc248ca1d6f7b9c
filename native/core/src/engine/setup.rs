//! The set-up thread: it makes connections, drives them until they stand and hands them over,
//! so that handshakes never disturb the clocks of the media threads. It buries them, too.

use super::call::{Told, report};
use super::command::{Handover, HeldPeer, OpenPeer, PeerCommand, Sender, SetupCommand};
use super::event::{Event, Outbox, Report};
use crate::net::{Epoll, EventFd};
use crate::peer::{Options, Output, Peer};
use crate::types::Law;
use rtrb::Consumer;
use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use str0m::config::DtlsCert;

/// Time that a transport that stands is kept for its data channels to open.
const CHANNELS_TIME: Duration = Duration::from_millis(250);

/// Our data channels.
const CHANNELS: usize = 2;

/// Between two tries to give a media thread what its ring has no room for.
const RETRY: Duration = Duration::from_millis(2);

const WAKE: u64 = u64::MAX;

/// What the thread is given at its start.
pub struct Bench {
    pub wake: Arc<EventFd>,
    pub commands: Consumer<SetupCommand>,
    /// To each media thread, and from it what is over.
    pub media: Vec<Sender<Handover>>,
    pub retired: Vec<Consumer<Box<HeldPeer>>>,
    pub outbox: Arc<Outbox>,
    pub certificate: DtlsCert,
}

struct Work {
    call: u64,
    side: u8,
    thread: usize,
    held: Box<HeldPeer>,
    offers: bool,
    /// When it stood.
    stood: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// In our hands, at this index.
    Here(usize),
    /// With this media thread.
    Away(usize),
}

/// See the module.
pub struct Setup {
    bench: Bench,
    epoll: Epoll,
    work: Vec<Option<Box<Work>>>,
    places: HashMap<(u64, u8), Place>,
    outputs: Vec<Output>,
    reports: VecDeque<Report>,
    stopping: bool,
}

impl Setup {
    /// The thread's work, until it is told to stop.
    pub fn run(bench: Bench) {
        let Ok(epoll) = Epoll::new() else { return };
        if epoll.add(bench.wake.raw(), WAKE).is_err() {
            return;
        }
        warm_up(&bench.certificate);
        let mut setup = Setup {
            bench,
            epoll,
            work: vec![],
            places: HashMap::new(),
            outputs: vec![],
            reports: VecDeque::new(),
            stopping: false,
        };
        setup.serve();
    }

    fn serve(&mut self) {
        let mut tokens = Vec::with_capacity(256);
        let mut flushed = true;
        while !self.stopping {
            let wait = self.wait(flushed);
            self.epoll.ready(&mut tokens, wait);
            if tokens.contains(&WAKE) {
                self.bench.wake.clear();
                while let Ok(command) = self.bench.commands.pop() {
                    self.command(command);
                }
                self.bury();
            }
            for &token in &tokens {
                if token != WAKE {
                    self.with(token as usize, |work, now, out| {
                        work.held.peer.receive(now, out);
                    });
                }
            }
            self.run_timers();
            self.hand_over();
            flushed = true;
            for media in &mut self.bench.media {
                flushed &= media.flush();
            }
            self.bench.outbox.publish(&mut self.reports);
        }
    }

    /// Time until something is due.
    fn wait(&self, flushed: bool) -> Option<Duration> {
        let due = |work: &Work| {
            let handover = work.stood.map(|stood| stood + CHANNELS_TIME);
            let wake = work.held.peer.wake_at();
            handover.map_or(wake, |handover| wake.min(handover))
        };
        let first = self.work.iter().flatten().map(|work| due(work)).min();
        let first = first.map(|at| at.saturating_duration_since(Instant::now()));
        if flushed { first } else { Some(first.map_or(RETRY, |first| first.min(RETRY))) }
    }

    fn command(&mut self, command: SetupCommand) {
        match command {
            SetupCommand::Stop => {
                for index in 0..self.work.len() {
                    self.end(index);
                }
                self.stopping = true;
            }
            SetupCommand::CloseCall { call } => {
                for side in 0..2 {
                    if let Some(Place::Here(index)) = self.places.remove(&(call, side)) {
                        self.end(index);
                    }
                }
            }
            SetupCommand::Peer { call, side, command } => self.peer(call, side, command),
        }
    }

    fn peer(&mut self, call: u64, side: u8, command: PeerCommand) {
        let place = self.places.get(&(call, side)).copied();
        let command = match command {
            PeerCommand::Open(open) => {
                match place {
                    Some(Place::Here(index)) => self.end(index),
                    Some(Place::Away(thread)) => {
                        self.forward(thread, call, side, PeerCommand::Close);
                    }
                    None => {}
                }
                return self.open(call, side, *open);
            }
            command => command,
        };
        match place {
            None => {}
            Some(Place::Away(thread)) => {
                if matches!(command, PeerCommand::Close) {
                    self.places.remove(&(call, side));
                }
                self.forward(thread, call, side, command);
            }
            Some(Place::Here(index)) => {
                if matches!(command, PeerCommand::Close) {
                    self.places.remove(&(call, side));
                    return self.end(index);
                }
                self.with(index, |work, now, out| {
                    command.run(&mut work.held.peer, now, out);
                });
            }
        }
    }

    fn open(&mut self, call: u64, side: u8, open: OpenPeer) {
        let now = Instant::now();
        let certificate = &self.bench.certificate;
        let mut out = std::mem::take(&mut self.outputs);
        let made = catch_unwind(AssertUnwindSafe(|| {
            Peer::open(&open.options, certificate, now, &mut out).ok()
        }));
        self.outputs = out;
        let (generation, thread) = (open.generation, open.thread);
        let Some(peer) = made.ok().flatten() else {
            let event = Event::PeerClosed { side, why: "fault" };
            self.reports.push_back(Report::rare(call, generation, event));
            self.outputs.clear();
            self.places.remove(&(call, side));
            return;
        };
        let index = self.work.iter().position(Option::is_none).unwrap_or(self.work.len());
        if index == self.work.len() {
            self.work.push(None);
        }
        let watched = self.epoll.add(peer.fd(), index as u64);
        let held = Box::new(HeldPeer { peer, generation, backlog: open.backlog });
        let offers = open.options.offers;
        let work = Work { call, side, thread, held, offers, stood: None };
        self.work[index] = Some(Box::new(work));
        self.places.insert((call, side), Place::Here(index));
        if watched.is_err() {
            self.outputs.clear();
            self.outputs.push(Output::Ended("fault"));
        }
        self.with(index, |_, _, _| {});
    }

    fn forward(&mut self, thread: usize, call: u64, side: u8, command: PeerCommand) {
        let Some(media) = self.bench.media.get_mut(thread) else { return };
        // A thread that takes nothing for 65,000 commands is beyond help; the watchdog tells.
        let _ = media.send(Handover::Command { call, side, command });
    }

    /// Work on one transport, then tell what came of it. Its panic is its own end.
    fn with(&mut self, index: usize, action: impl FnOnce(&mut Work, Instant, &mut Vec<Output>)) {
        let Some(Some(work)) = self.work.get_mut(index) else { return };
        let now = Instant::now();
        let mut outputs = std::mem::take(&mut self.outputs);
        if catch_unwind(AssertUnwindSafe(|| action(work, now, &mut outputs))).is_err() {
            outputs.clear();
            outputs.push(Output::Ended("fault"));
        }
        if work.stood.is_none() && work.held.peer.connected() {
            work.stood = Some(now);
        }
        let mut over = false;
        for output in outputs.drain(..) {
            match report(work.call, work.side, &work.held, output) {
                _ if over => {}
                Told::Event(told) => self.reports.push_back(told),
                Told::Nothing => {}
                Told::Over(told) => {
                    self.reports.push_back(told);
                    over = true;
                }
            }
        }
        self.outputs = outputs;
        if over {
            self.end(index);
        }
    }

    fn run_timers(&mut self) {
        let now = Instant::now();
        for index in 0..self.work.len() {
            if self.work[index].as_ref().is_some_and(|work| work.held.peer.wake_at() <= now) {
                self.with(index, |work, now, out| work.held.peer.tick(now, out));
            }
        }
    }

    /// Give the transports that stand to their media threads.
    fn hand_over(&mut self) {
        let now = Instant::now();
        for index in 0..self.work.len() {
            let ready = self.work[index].as_ref().is_some_and(|work| {
                work.stood.is_some_and(|stood| {
                    !work.offers
                        || work.held.peer.standing_channels() >= CHANNELS
                        || now >= stood + CHANNELS_TIME
                })
            });
            if !ready {
                continue;
            }
            let Some(work) = self.work[index].take() else { continue };
            let Work { call, side, thread, held, .. } = *work;
            self.epoll.remove(held.peer.fd());
            self.places.insert((call, side), Place::Away(thread));
            // What we have to tell of it comes before what its new owner has.
            self.bench.outbox.publish(&mut self.reports);
            if let Some(media) = self.bench.media.get_mut(thread) {
                let _ = media.send(Handover::Peer { call, side, peer: held });
            }
        }
    }

    /// A transport of ours is over.
    fn end(&mut self, index: usize) {
        let Some(work) = self.work.get_mut(index).and_then(Option::take) else { return };
        self.epoll.remove(work.held.peer.fd());
        if matches!(self.places.get(&(work.call, work.side)), Some(Place::Here(at)) if *at == index)
        {
            self.places.remove(&(work.call, work.side));
        }
        close(work.held);
    }

    /// Close what the media threads gave back.
    fn bury(&mut self) {
        for retired in &mut self.bench.retired {
            while let Ok(held) = retired.pop() {
                close(held);
            }
        }
    }
}

fn close(mut held: Box<HeldPeer>) {
    let now = Instant::now();
    // It may be broken inside, then it goes without a word.
    let _ = catch_unwind(AssertUnwindSafe(move || held.peer.close(now)));
}

/// The first connection of a process costs 50 to 130 ms (tables of the cryptography): make one
/// before a call needs it.
fn warm_up(certificate: &DtlsCert) {
    let now = Instant::now();
    let address = Ipv4Addr::LOCALHOST.into();
    let (law, track) = (Law::Mu, Some("warm".to_string()));
    let options = Options { address, offers: true, track, law, receivers: 1 };
    let mut out = vec![];
    let Ok(_ours) = Peer::open(&options, certificate, now, &mut out) else { return };
    let options = Options { offers: false, track: None, ..options };
    let Ok(mut theirs) = Peer::open(&options, certificate, now, &mut vec![]) else { return };
    if let Some(Output::Offer(sdp)) = out.first() {
        theirs.take_offer(sdp, now, &mut vec![]);
    }
}
