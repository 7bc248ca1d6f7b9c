//! A media thread: it moves the packets of its calls and never waits for anything but the clock.
//!
//! A turn is: play what is due, read the sockets, let timers run. Turns begin at ticks of an
//! absolute clock; between turns a command is done at once, and a call whose clock is just being
//! moved plays when it is due.

use super::call::{Call, Desk, MAX_DATAGRAM};
use super::command::{CallCommand, Handover, HeldPeer, OpenCall, Parting};
use super::event::{Event, Outbox, Report};
use super::stats::Counters;
use crate::net::{Epoll, EventFd, OwnPorts, become_realtime, sharpen_timers, wait_until};
use rtrb::{Consumer, Producer};
use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant, SystemTime};

/// Times that the sockets are read in one turn, one datagram each: a flood on one socket takes
/// no more than its share.
const ROUNDS: usize = 8;

/// Time for commands between two turns also where the turns take all there is.
const MIN_COMMANDS_TIME: Duration = Duration::from_micros(200);

/// Tokens of one call: its two transports, its RTP and its RTCP socket.
const TOKENS: u64 = 4;
const RTP: u64 = 2;

/// Positions of calls that ended by a fault and are yet to be closed by who opened them.
const MAX_TOMBS: usize = 4096;

/// What a media thread is given at its start.
pub struct Seat {
    pub priority: i32,
    pub tick: Duration,
    /// The engine's start: ticks are counted from there.
    pub origin: Instant,
    pub wake: Arc<EventFd>,
    pub commands: Consumer<(u64, CallCommand)>,
    pub handovers: Consumer<Handover>,
    /// To the set-up thread, which buries them.
    pub retired: Producer<Box<HeldPeer>>,
    pub setup_wake: Arc<EventFd>,
    pub outbox: Arc<Outbox>,
    pub own: Arc<OwnPorts>,
    pub counters: Arc<Counters>,
    /// Passed when every media thread is what it asked to be.
    pub begun: Arc<Barrier>,
}

/// See the module.
pub struct Media {
    seat: Seat,
    epoll: Epoll,
    calls: Vec<Option<Box<Call>>>,
    /// When each call plays next, since the origin.
    plays: Vec<Duration>,
    /// When each transport of each call wants to be told the time.
    timers: Vec<[Instant; 2]>,
    index: HashMap<u64, usize>,
    tombs: HashMap<u64, Event>,
    desk: Desk,
    far: Instant,
    /// Commands were left for after a turn.
    behind: bool,
    stopping: bool,
}

impl Media {
    /// The thread's work, until it is told to stop.
    pub fn run(seat: Seat) {
        sharpen_timers();
        seat.counters.realtime.store(become_realtime(seat.priority), Relaxed);
        seat.begun.wait();
        // Without descriptors there is no engine; `Engine::start` made some just before.
        let Ok(epoll) = Epoll::new() else { return };
        let desk = Desk {
            own: seat.own.clone(),
            reports: VecDeque::new(),
            outputs: Vec::new(),
            packet: Vec::with_capacity(MAX_DATAGRAM),
            buffer: Box::new([0; MAX_DATAGRAM]),
            retired: Vec::new(),
            tick: seat.tick,
            missed: 0,
        };
        let far = seat.origin + Duration::from_secs(3600 * 24 * 365 * 100);
        let mut media = Media {
            seat,
            epoll,
            calls: vec![],
            plays: vec![],
            timers: vec![],
            index: HashMap::new(),
            tombs: HashMap::new(),
            desk,
            far,
            behind: false,
            stopping: false,
        };
        media.serve();
        // The last words: no clock runs any more that waiting could disturb.
        media.seat.outbox.publish(&mut media.desk.reports);
    }

    fn serve(&mut self) {
        let mut tokens = Vec::with_capacity(1024);
        let mut played = Vec::with_capacity(1024);
        let mut next = 0;
        while !self.stopping {
            let idle = self.index.is_empty();
            let counters = self.seat.counters.clone();
            if idle {
                counters.seen.store(0, Relaxed);
            }
            // What could not be published waits for the next tick, not for the next command.
            let turn = self.time_of(next);
            let due = self.plays.iter().min().copied().unwrap_or(Duration::MAX);
            let between = due < self.since_origin(next);
            let deadline = if between { self.seat.origin + due } else { turn };
            let wait = (!idle || !self.desk.reports.is_empty()).then_some(deadline);
            if self.behind || wait_until(&self.seat.wake, wait) {
                self.seat.wake.clear();
                self.take_commands(deadline.max(Instant::now() + MIN_COMMANDS_TIME));
                self.publish();
            }
            let now = Instant::now();
            if idle {
                self.publish();
                next = self.tick_of(now) + 1;
            }
            if idle || now < deadline {
                continue;
            }
            if now < turn {
                self.play(due, &mut played);
                self.keep_house(&played);
                self.publish();
                continue;
            }
            let deadline = turn;
            let tick = self.tick_of(now);
            let late = now.saturating_duration_since(deadline).as_nanos() as u64;
            counters.late.fetch_add(late, Relaxed);
            next = tick + 1;
            self.turn(tick, &mut tokens, &mut played);
            counters.turns.fetch_add(1, Relaxed);
            let seen = self.seat.origin.elapsed().as_nanos() as u64;
            counters.seen.store(seen.max(1), Relaxed);
        }
    }

    fn turn(&mut self, tick: u64, tokens: &mut Vec<u64>, played: &mut Vec<usize>) {
        self.play(self.since_origin(tick), played);
        self.receive(self.time_of(tick + 1), tokens);
        self.keep_house(played);
        self.run_timers();
        self.publish();
    }

    /// Play what is due at *at*, since the origin.
    fn play(&mut self, at: Duration, played: &mut Vec<usize>) {
        played.clear();
        let now = Instant::now();
        for index in 0..self.plays.len() {
            if self.plays[index] <= at {
                self.with(index, |call, desk| call.play(at, now, desk));
                played.push(index);
            }
        }
        let missed = std::mem::take(&mut self.desk.missed);
        self.seat.counters.missed.fetch_add(missed, Relaxed);
    }

    fn receive(&mut self, end: Instant, tokens: &mut Vec<u64>) {
        for _ in 0..ROUNDS {
            self.epoll.ready(tokens, Some(Duration::ZERO));
            if tokens.is_empty() {
                return;
            }
            let now = Instant::now();
            self.seat.counters.datagrams.fetch_add(tokens.len() as u64, Relaxed);
            for &token in &*tokens {
                let index = (token / TOKENS) as usize;
                self.with(index, |call, desk| match token % TOKENS {
                    side @ 0..RTP => call.peer_datagram(side as u8, now, desk),
                    RTP => call.carrier_datagram(now, desk),
                    _ => call.carrier_control(now, desk),
                });
            }
            if now >= end {
                return;
            }
        }
    }

    fn keep_house(&mut self, played: &[usize]) {
        let (now, wall) = (Instant::now(), SystemTime::now());
        for &index in played {
            self.with(index, |call, desk| call.housekeeping(now, wall, desk));
        }
    }

    fn run_timers(&mut self) {
        let now = Instant::now();
        for index in 0..self.timers.len() {
            for side in 0..2u8 {
                if self.timers[index][usize::from(side)] <= now {
                    self.with(index, |call, desk| call.peer_timer(side, now, desk));
                }
            }
        }
    }

    /// Let call *index* do some work. Its panic is its own end, not the thread's.
    fn with(&mut self, index: usize, work: impl FnOnce(&mut Call, &mut Desk)) {
        let Some(Some(call)) = self.calls.get_mut(index) else { return };
        let desk = &mut self.desk;
        match catch_unwind(AssertUnwindSafe(|| work(call, desk))) {
            Ok(()) => {
                self.plays[index] = call.due();
                for side in 0..2 {
                    let peer = call.peers[side].as_ref();
                    self.timers[index][side] = peer.map_or(self.far, |held| held.peer.wake_at());
                }
            }
            Err(panic) => self.fault(index, &*panic),
        }
        self.bury();
    }

    fn fault(&mut self, index: usize, panic: &(dyn Any + Send)) {
        self.desk.outputs.clear();
        self.seat.counters.faults.fetch_add(1, Relaxed);
        let Some(call) = self.calls[index].take() else { return };
        let id = call.id;
        let position = catch_unwind(AssertUnwindSafe(|| call.position())).ok();
        let nowhere = Event::Closed { sequence: 0, timestamp: 0, packets: 0 };
        if self.tombs.len() < MAX_TOMBS {
            self.tombs.insert(id, position.unwrap_or(nowhere));
        }
        let text = text_of(panic);
        self.desk.reports.push_back(Report::rare(id, 0, Event::Fault(text)));
        self.clear(index, call);
    }

    /// Take everything of a call that is over out of the thread's hands.
    fn clear(&mut self, index: usize, mut call: Box<Call>) {
        let now = Instant::now();
        self.index.remove(&call.id);
        self.plays[index] = Duration::MAX;
        self.timers[index] = [self.far; 2];
        self.drop_line(&mut call, now);
        let peers = std::mem::take(&mut call.peers);
        self.desk.retired.extend(peers.into_iter().flatten());
        // Broken inside, it may panic once more.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(call)));
        self.seat.counters.calls.store(self.index.len(), Relaxed);
        self.bury();
    }

    /// Close the carrier's sockets.
    fn drop_line(&self, call: &mut Call, now: Instant) {
        let Some(line) = call.line.take() else { return };
        for socket in [&line.rtp, &line.rtcp] {
            self.epoll.remove(socket.fd());
            self.seat.own.close(socket.local().port(), now);
        }
    }

    fn bury(&mut self) {
        if self.desk.retired.is_empty() {
            return;
        }
        for held in self.desk.retired.drain(..) {
            self.epoll.remove(held.peer.fd());
            let _ = self.seat.retired.push(held); // no room: it ends here, without a word
        }
        self.seat.setup_wake.signal();
    }

    /// Do what is asked, descriptions only until *end*: each takes some hundred microseconds.
    fn take_commands(&mut self, end: Instant) {
        // A call is opened before the set-up thread hears of its transports: what is there of
        // the second ring now comes after what is in the first one then.
        let handovers = self.seat.handovers.slots();
        while let Ok((id, command)) = self.seat.commands.pop() {
            self.command(id, command);
        }
        self.behind = false;
        for _ in 0..handovers {
            if Instant::now() >= end {
                self.behind = true; // the rest after the next turn
                return;
            }
            match self.seat.handovers.pop() {
                Ok(Handover::Peer { call, side, peer }) => self.adopt(call, side, peer),
                Ok(Handover::Command { call, side, command }) => {
                    if let Some(&index) = self.index.get(&call) {
                        let now = Instant::now();
                        self.with(index, |call, desk| call.peer_command(side, command, now, desk));
                    }
                }
                Err(_) => break,
            }
        }
    }

    fn command(&mut self, id: u64, command: CallCommand) {
        let now = Instant::now();
        match command {
            CallCommand::Open(open) => self.open(id, *open, now),
            CallCommand::HangUp(parting) => self.hang_up(id, parting, now),
            CallCommand::Close => self.close(id, now),
            CallCommand::Stop => {
                let ids: Vec<u64> = self.index.keys().copied().collect();
                for id in ids {
                    self.close(id, now);
                }
                self.stopping = true;
            }
            command => {
                if let Some(&index) = self.index.get(&id) {
                    self.with(index, |call, desk| call.command(command, now, desk));
                }
            }
        }
    }

    fn open(&mut self, id: u64, open: OpenCall, now: Instant) {
        let index = self.calls.iter().position(Option::is_none).unwrap_or(self.calls.len());
        if index == self.calls.len() {
            self.calls.push(None);
            self.plays.push(Duration::MAX);
            self.timers.push([self.far; 2]);
        }
        let call = Call::open(id, open, self.first_slot(now), &self.seat.own, now);
        let token = index as u64 * TOKENS;
        let watched = call.line.as_ref().map_or(Ok(()), |line| {
            self.epoll.add(line.rtp.fd(), token + RTP)?;
            self.epoll.add(line.rtcp.fd(), token + RTP + 1)
        });
        if let Err(error) = watched {
            let text = format!("the carrier's socket cannot be watched: {error}");
            self.desk.reports.push_back(Report::rare(id, 0, Event::Fault(text)));
        }
        self.plays[index] = call.due();
        self.calls[index] = Some(Box::new(call));
        self.index.insert(id, index);
        self.seat.counters.calls.store(self.index.len(), Relaxed);
    }

    /// A first due time in the slot of 20 ms that has the fewest calls.
    fn first_slot(&self, now: Instant) -> Duration {
        let slots = (Duration::from_millis(20).as_nanos() / self.seat.tick.as_nanos()).max(1);
        let slots = usize::try_from(slots).unwrap_or(1);
        let tick = self.tick_of(now) + 1;
        let mut taken = vec![0u32; slots];
        for play in self.plays.iter().filter(|play| **play < Duration::MAX) {
            let slot = play.as_nanos() / self.seat.tick.as_nanos() % slots as u128;
            taken[slot as usize] += 1;
        }
        let best = (tick..tick + slots as u64).min_by_key(|t| taken[*t as usize % slots]);
        self.since_origin(best.unwrap_or(tick))
    }

    fn hang_up(&mut self, id: u64, parting: Parting, now: Instant) {
        let mut told = None;
        if let Some(index) = self.index.get(&id).copied() {
            self.with(index, |call, desk| {
                told = Some(call.part(parting, now, SystemTime::now(), desk));
            });
            if let Some(mut call) = self.calls[index].take() {
                self.drop_line(&mut call, now);
                self.plays[index] = Duration::MAX;
                self.calls[index] = Some(call);
            }
        }
        // Of one that ended by a fault, now or before, it is known; `close` tells it again.
        let (sequence, timestamp, packets) = match told.as_ref().or(self.tombs.get(&id)) {
            Some(&Event::Closed { sequence, timestamp, packets }) => (sequence, timestamp, packets),
            _ => (0, 0, 0),
        };
        let told = Event::HungUp { sequence, timestamp, packets };
        self.desk.reports.push_back(Report::rare(id, 0, told));
    }

    fn close(&mut self, id: u64, now: Instant) {
        let told = match self.index.get(&id) {
            Some(&index) => {
                let desk = &mut self.desk;
                let Some(mut call) = self.calls[index].take() else { return };
                let wall = SystemTime::now();
                let part = AssertUnwindSafe(|| call.part(Parting::Goodbye, now, wall, desk));
                let told = catch_unwind(part).ok();
                self.clear(index, call);
                told
            }
            None => self.tombs.remove(&id),
        };
        let told = told.unwrap_or(Event::Closed { sequence: 0, timestamp: 0, packets: 0 });
        self.desk.reports.push_back(Report::rare(id, 0, told));
    }

    fn adopt(&mut self, id: u64, side: u8, held: Box<HeldPeer>) {
        let Some(&index) = self.index.get(&id) else {
            self.desk.retired.push(held);
            return self.bury();
        };
        let token = index as u64 * TOKENS + u64::from(side & 1);
        if self.epoll.add(held.peer.fd(), token).is_err() {
            let event = Event::PeerClosed { side, why: "fault" };
            self.desk.reports.push_back(Report::rare(id, held.generation, event));
            self.desk.retired.push(held);
            return self.bury();
        }
        let now = Instant::now();
        self.with(index, |call, desk| call.adopt(side, held, now, desk));
    }

    fn publish(&mut self) {
        self.seat.outbox.try_publish(&mut self.desk.reports);
    }

    fn tick_of(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.seat.origin);
        (since.as_nanos() / self.seat.tick.as_nanos()) as u64
    }

    fn since_origin(&self, tick: u64) -> Duration {
        Duration::from_nanos(tick.saturating_mul(self.seat.tick.as_nanos() as u64))
    }

    fn time_of(&self, tick: u64) -> Instant {
        self.seat.origin + self.since_origin(tick)
    }
}

/// What a panic said.
pub fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_string())
}
