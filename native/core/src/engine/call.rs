//! One call on its media thread: the carrier's RTP on one side, the room's transports on the
//! other. The carrier's side lives from the beginning, with or without a room.

use super::command::{CallCommand, HeldPeer, OpenCall, Parting, PeerCommand};
use super::event::{Backlog, Event, Report};
use super::pace::Pace;
use super::phase::Phase;
use super::stats::{CallStats, StatsCell};
use crate::carrier::Carrier;
use crate::g711::silence_byte;
use crate::net::{OwnPorts, Udp};
use crate::peer::Output;
use crate::playout::Mixer;
use crate::tap::Tap;
use crate::types::{CarrierNotice, Law};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// The longest packet towards a carrier: 60 ms at 8 kHz.
const MAX_SAMPLES: usize = 480;

/// Time for which silence is sent like speech when the room stands, so that the server tells
/// others of our track: it does with the first packet.
const ANNOUNCE: Duration = Duration::from_secs(1);

/// Between two packets of silence while nothing else flows.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// Between two writings of the figures.
const STATS_INTERVAL: Duration = Duration::from_millis(100);

/// The longest datagram that is read.
pub const MAX_DATAGRAM: usize = 2048;

/// What a thread has at hand for all its calls.
pub struct Desk {
    pub own: Arc<OwnPorts>,
    pub reports: VecDeque<Report>,
    pub outputs: Vec<Output>,
    pub packet: Vec<u8>,
    pub buffer: Box<[u8; MAX_DATAGRAM]>,
    /// Transports that are over: someone else may bury them.
    pub retired: Vec<Box<HeldPeer>>,
    pub tick: Duration,
    pub missed: u64,
}

/// See the module.
pub struct Call {
    pub id: u64,
    /// The carrier's sockets, until it was hung up.
    pub line: Option<Line>,
    pub peers: [Option<Box<HeldPeer>>; 2],
    pub pace: Pace,
    phase: Phase,
    carrier: Carrier,
    mixer: Mixer,
    /// A recorder listens.
    tap: Option<Box<Tap>>,
    track: Law,
    muted: bool,
    /// Something was sent to the carrier: the clock's phase is settled.
    sent: bool,
    room: Room,
    stats: Arc<StatsCell>,
    backlog: Arc<Backlog>,
    stats_due: Instant,
    silence: u64,
    #[cfg(test)]
    panics: bool,
}

/// The sockets of the carrier's side.
pub struct Line {
    pub rtp: Udp,
    pub rtcp: Udp,
}

/// What our track in the room did last.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// When the transport stood and the track could speak.
    since: Option<Instant>,
    last: Instant,
}

impl Call {
    pub fn open(id: u64, open: OpenCall, first: Duration, own: &OwnPorts, now: Instant) -> Call {
        own.open(open.rtp.local().port());
        own.open(open.rtcp.local().port());
        let track = open.setup.track;
        let carrier = Carrier::new(open.setup, now);
        let period = period_of(&carrier);
        Call {
            id,
            line: Some(Line { rtp: open.rtp, rtcp: open.rtcp }),
            peers: [None, None],
            pace: Pace::new(first, period),
            phase: Phase::default(),
            carrier,
            mixer: Mixer::new(now),
            tap: None,
            track,
            muted: false,
            sent: false,
            room: Room { since: None, last: now },
            stats: open.stats,
            backlog: open.backlog,
            stats_due: now,
            silence: 0,
            #[cfg(test)]
            panics: false,
        }
    }

    /// Do what is asked; `Open`, `HangUp`, `Close` and `Stop` are the thread's.
    pub fn command(&mut self, command: CallCommand, now: Instant, desk: &mut Desk) {
        match command {
            CallCommand::Connect(negotiated) => {
                let own = desk.own.clone();
                let is_own = |address: SocketAddr| own.contains(address, now);
                if self.carrier.connect(*negotiated, &is_own, now).is_err() {
                    let text = "the carrier's keys are of a suite that is not supported";
                    self.tell(Event::Fault(text.to_string()), desk);
                }
                self.pace.set_period(period_of(&self.carrier));
            }
            CallCommand::Apply(levels) => self.carrier.apply(levels, now),
            CallCommand::Dtmf(digits) => self.carrier.send_dtmf(&digits),
            CallCommand::Mute(muted) => self.muted = muted,
            CallCommand::Tap(tap) => self.tap = Some(tap),
            CallCommand::Open(_)
            | CallCommand::HangUp(_)
            | CallCommand::Close
            | CallCommand::Stop => {}
            #[cfg(test)]
            CallCommand::Panic => self.panics = true,
        }
    }

    /// Take a transport that stands.
    pub fn adopt(&mut self, side: u8, held: Box<HeldPeer>, now: Instant, desk: &mut Desk) {
        if let Some(old) = self.peers[usize::from(side & 1)].replace(held) {
            self.lose(old, desk);
        }
        if side == 0 {
            self.room = Room { since: Some(now), last: now - KEEP_ALIVE };
        }
    }

    pub fn peer_command(&mut self, side: u8, command: PeerCommand, now: Instant, desk: &mut Desk) {
        let peer = &mut self.peers[usize::from(side & 1)];
        if matches!(command, PeerCommand::Close) {
            if let Some(held) = peer.take() {
                self.lose(held, desk);
            }
        } else if let Some(held) = peer {
            command.run(&mut held.peer, now, &mut desk.outputs);
            self.heed(side, now, desk);
        }
    }

    /// Read one datagram of the carrier's RTP socket.
    pub fn carrier_datagram(&mut self, now: Instant, desk: &mut Desk) {
        #[cfg(test)]
        assert!(!self.panics, "asked to panic");
        let Some(line) = &self.line else { return };
        let Some((length, from)) = line.rtp.receive(&mut desk.buffer[..]) else { return };
        let own = &desk.own;
        let is_own = |address: SocketAddr| own.contains(address, now);
        let datagram = &mut desk.buffer[..length];
        if let Some(forward) = self.carrier.receive(datagram, from, &is_own, now) {
            if let Some(tap) = &mut self.tap {
                tap.caller(forward.timestamp, self.track, forward.payload, now);
            }
            if !self.muted
                && let Some(held) = &mut self.peers[0]
            {
                self.room.last = now;
                held.peer.forward(
                    forward.sequence,
                    forward.timestamp,
                    forward.marker,
                    forward.level,
                    forward.payload,
                    now,
                    &mut desk.outputs,
                );
            }
        }
        if !desk.outputs.is_empty() {
            self.heed(0, now, desk);
        }
        self.notices(desk);
    }

    /// Read one datagram of the carrier's RTCP socket.
    pub fn carrier_control(&mut self, now: Instant, desk: &mut Desk) {
        let Some(line) = &self.line else { return };
        let Some((length, from)) = line.rtcp.receive(&mut desk.buffer[..]) else { return };
        self.carrier.receive_rtcp(&mut desk.buffer[..length], from, now);
        self.notices(desk);
    }

    /// Read one datagram of a transport.
    pub fn peer_datagram(&mut self, side: u8, now: Instant, desk: &mut Desk) {
        let Some(held) = &mut self.peers[usize::from(side & 1)] else { return };
        held.peer.receive(now, &mut desk.outputs);
        self.heed(side, now, desk);
    }

    /// A transport's time has come.
    pub fn peer_timer(&mut self, side: u8, now: Instant, desk: &mut Desk) {
        let Some(held) = &mut self.peers[usize::from(side & 1)] else { return };
        held.peer.tick(now, &mut desk.outputs);
        self.heed(side, now, desk);
    }

    /// The steady clock: what is due leaves for the carrier. *at*: the tick, since the origin.
    pub fn play(&mut self, at: Duration, now: Instant, desk: &mut Desk) {
        #[cfg(test)]
        assert!(!self.panics, "asked to panic");
        let turn = self.pace.turn(at);
        if turn.skip > 0 {
            self.carrier.skip(turn.skip);
            desk.missed += u64::from(turn.skip);
        }
        for _ in 0..turn.send {
            self.play_one(now, desk);
        }
        if turn.send > 0 {
            self.slew(at, now, desk.tick);
        }
    }

    fn play_one(&mut self, now: Instant, desk: &mut Desk) {
        let mut pcm = [0i16; MAX_SAMPLES];
        let samples = self.carrier.samples().min(MAX_SAMPLES);
        let heard = if self.carrier.wants_audio() {
            self.mixer.pull(&mut pcm[..samples], now)
        } else {
            self.mixer.discard(now);
            false
        };
        let pcm = heard.then_some(&pcm[..samples]);
        desk.packet.clear();
        if let Some(to) = self.carrier.send(pcm, &mut desk.packet, now)
            && let Some(line) = &self.line
        {
            line.rtp.send(&desk.packet, to);
            self.sent = true;
            if let (Some(tap), Some(pcm)) = (&mut self.tap, pcm) {
                tap.sent(pcm, now);
            }
        }
    }

    /// Move the clock towards where a packet of the room waits for its buffer only. The packet
    /// that left at *at* is past; what moves is the next one.
    fn slew(&mut self, at: Duration, now: Instant, tick: Duration) {
        let period = self.pace.period();
        if !self.sent {
            // Nobody heard the clock yet: it starts where it stands best.
            if let Some(until) = self.mixer.slot(now, period) {
                self.pace.restart(at + until, tick);
            }
            return;
        }
        let planned = self.pace.settles().as_micros() as i64 - at.as_micros() as i64;
        let off = self.mixer.ready_in(now, period).map(|ready| ready - planned);
        if let Some(by) = self.phase.judge(off, tick) {
            self.pace.slew(by, tick, at);
        }
    }

    /// What is done once a packet time besides playing.
    pub fn housekeeping(&mut self, now: Instant, wall: SystemTime, desk: &mut Desk) {
        desk.packet.clear();
        if let Some(to) = self.carrier.poll(now, wall, &mut desk.packet)
            && let Some(line) = &self.line
        {
            line.rtcp.send(&desk.packet, to);
        }
        self.notices(desk);
        self.tap.take_if(|tap| tap.is_abandoned());
        self.announce(now, desk);
        if now >= self.stats_due {
            self.stats_due = now + STATS_INTERVAL;
            self.write_stats();
        }
    }

    /// Send silence into the room where nothing else flows.
    fn announce(&mut self, now: Instant, desk: &mut Desk) {
        let (false, Some(since)) = (self.muted, self.room.since) else { return };
        let quiet = now.saturating_duration_since(self.room.last);
        let announcing = now.saturating_duration_since(since) < ANNOUNCE;
        let wait = if announcing { Duration::from_millis(18) } else { KEEP_ALIVE };
        if quiet < wait {
            return;
        }
        let Some(held) = &mut self.peers[0] else { return };
        if !held.peer.connected() {
            return;
        }
        self.room.last = now;
        self.silence += 1;
        held.peer.silence(&[silence_byte(self.track); 160], now, &mut desk.outputs);
        self.heed(0, now, desk);
    }

    pub fn write_stats(&self) {
        let peers = std::array::from_fn(|side| {
            self.peers[side].as_ref().map(|held| held.peer.stats()).unwrap_or_default()
        });
        self.stats.write(CallStats {
            carrier: self.carrier.stats(),
            playout: self.mixer.stats(),
            peers,
            silence: self.silence,
        });
    }

    /// React to what a transport put out.
    fn heed(&mut self, side: u8, now: Instant, desk: &mut Desk) {
        let mut outputs = std::mem::take(&mut desk.outputs);
        for output in outputs.drain(..) {
            match output {
                Output::Rtp { ssrc, sequence, timestamp, codec, red: None, payload } => {
                    self.mixer.push(ssrc, sequence, timestamp, codec, &payload, now);
                }
                Output::Rtp { ssrc, sequence, timestamp, codec, red: Some(of), payload } => {
                    self.mixer.push_red(ssrc, sequence, timestamp, codec, of, &payload, now);
                }
                Output::Forget { ssrc } => self.mixer.remove(ssrc),
                told => self.tell_of(side, told, desk),
            }
        }
        desk.outputs = outputs;
    }

    fn tell_of(&mut self, side: u8, output: Output, desk: &mut Desk) {
        let at = usize::from(side & 1);
        let Some(held) = &self.peers[at] else { return };
        match report(self.id, side, held, output) {
            Told::Event(report) => desk.reports.push_back(report),
            Told::Nothing => {}
            Told::Over(report) => {
                desk.reports.push_back(report);
                if let Some(held) = self.peers[at].take() {
                    self.lose(held, desk);
                }
            }
        }
    }

    /// A transport is over: so are the tracks that were heard on it.
    fn lose(&mut self, held: Box<HeldPeer>, desk: &mut Desk) {
        for ssrc in held.peer.sources() {
            self.mixer.remove(ssrc);
        }
        desk.retired.push(held);
    }

    fn notices(&mut self, desk: &mut Desk) {
        for notice in self.carrier.take_notices() {
            let event = match notice {
                CarrierNotice::TimedOut { ever } => Event::TimedOut { ever },
                CarrierNotice::NotAuthentic => Event::NotAuthentic,
                CarrierNotice::Key { digit, duration_ms } => Event::Key { digit, duration_ms },
            };
            desk.reports.extend(Report::bounded(self.id, 0, event, &self.backlog));
        }
    }

    fn tell(&self, event: Event, desk: &mut Desk) {
        desk.reports.push_back(Report::rare(self.id, 0, event));
    }

    /// End the carrier's side. Returns where its stream stands.
    pub fn part(
        &mut self,
        parting: Parting,
        now: Instant,
        wall: SystemTime,
        desk: &mut Desk,
    ) -> Event {
        desk.packet.clear();
        if parting == Parting::Goodbye
            && let Some(line) = &self.line
            && let Some(to) = self.carrier.goodbye(now, wall, &mut desk.packet)
        {
            line.rtcp.send(&desk.packet, to);
        }
        self.write_stats();
        self.position()
    }

    /// When it plays next, since the engine's start; never once it was hung up.
    pub fn due(&self) -> Duration {
        if self.line.is_some() { self.pace.due() } else { Duration::MAX }
    }

    pub fn position(&self) -> Event {
        let (sequence, timestamp, packets) = self.carrier.position();
        Event::Closed { sequence, timestamp, packets }
    }
}

/// What an output of a transport becomes.
pub enum Told {
    Event(Report),
    Nothing,
    /// The last event of this transport.
    Over(Report),
}

/// The report of *output*; more data than may wait ends the transport.
pub fn report(call: u64, side: u8, held: &HeldPeer, output: Output) -> Told {
    let rare = |event| Report::rare(call, held.generation, event);
    let event = match output {
        Output::Offer(sdp) => Event::Offer { side, sdp },
        Output::Answer(sdp) => Event::Answer { side, sdp },
        Output::Connected => Event::Connected { side },
        Output::Disconnected => Event::Disconnected { side },
        Output::Ended(why) => return Told::Over(rare(Event::PeerClosed { side, why })),
        Output::Channel { label, stream } => {
            return told_or_over(call, held, Event::Channel { side, label, stream }, side);
        }
        Output::Data { label, data } => {
            return told_or_over(call, held, Event::Data { side, label, data }, side);
        }
        // Never more of them than messages that we sent.
        Output::Delivered { label, count } => Event::Delivered { side, label, count },
        Output::Track { mid } => {
            let event = Event::Track { side, mid };
            let report = Report::bounded(call, held.generation, event, &held.backlog);
            return report.map_or(Told::Nothing, Told::Event);
        }
        Output::Rtp { .. } | Output::Forget { .. } => return Told::Nothing,
    };
    Told::Event(rare(event))
}

/// What the far end makes as much of as it likes, and may not be lost without being told.
fn told_or_over(call: u64, held: &HeldPeer, event: Event, side: u8) -> Told {
    match Report::bounded(call, held.generation, event, &held.backlog) {
        Some(report) => Told::Event(report),
        None => {
            let over = Event::PeerClosed { side, why: "overflow" };
            Told::Over(Report::rare(call, held.generation, over))
        }
    }
}

fn period_of(carrier: &Carrier) -> Duration {
    let samples = carrier.samples().clamp(80, MAX_SAMPLES) as u64;
    Duration::from_micros(samples * 125)
}
