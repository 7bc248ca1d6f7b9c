//! The threads: one that sets connections up, others that move packets.
//!
//! [`Engine`] is what a process has one of. Its methods return at once: they put a command into
//! a ring and wake a thread. What comes of it is drained as [`Event`]s, in order for each call.
//!
//! - `setup`: makes WebRTC connections, drives them until they stand, buries them;
//! - `media`: has the calls, dealt round robin; a turn each tick;
//! - `call`: one call on its media thread; `pace` and `phase`: its steady clock;
//! - `command`, `event`, `stats`: what travels between the threads and who uses them.

mod call;
mod command;
mod event;
mod media;
mod pace;
mod phase;
mod setup;
mod stats;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use command::Parting;
pub use event::Event;
pub use stats::{CallStats, Turns};

use crate::net::{EventFd, OwnPorts, Udp};
use crate::peer::{MAX_MESSAGE, Options};
use crate::tap::{self, Reader};
use crate::types::{CarrierSetup, Law, Levels, Negotiated};
use command::{CallCommand, OpenCall, OpenPeer, PeerCommand, RING, Sender, SetupCommand};
use event::{Backlog, Outbox, Permit, Report};
use media::{Media, Seat};
use rtrb::RingBuffer;
use setup::{Bench, Setup};
use stats::{Counters, StatsCell};
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The network that *text* names: in CIDR notation, or one address.
pub fn network(text: &str) -> Option<ipnet::IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(ipnet::IpNet::from))
}

/// Transports on their way back from a media thread.
const RETIRED: usize = 1024;

/// Messages of one call that may be under way to its data channels, and their octets: a thread
/// that stands still holds no more.
const MAX_OUTGOING: usize = 4096;
const MAX_OUTGOING_BYTES: usize = 4 << 20;

/// How the threads are to be.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Media threads.
    pub threads: usize,
    /// Their SCHED_FIFO priority; 0: the usual scheduler.
    pub priority: i32,
    /// Time between two turns.
    pub tick: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config { threads: 1, priority: 10, tick: Duration::from_micros(2500) }
    }
}

/// What cannot be done, and why.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// The engine was stopped, or a thread does not keep up by tens of thousands of commands.
    Unavailable,
    /// A message that no data channel takes: too long, or empty.
    Unsendable,
}

/// A call as its users know it.
struct Entry {
    thread: usize,
    track: Law,
    /// Which transport of each side is meant; 0: none. Events of others are stale.
    generations: [u32; 2],
    closing: bool,
    stats: Arc<StatsCell>,
    backlog: Arc<Backlog>,
    /// Messages that were sent and have not reached their channel.
    outgoing: Arc<Backlog>,
    /// The generation of the transport that had too many of them: it takes no more.
    overflown: u32,
}

#[derive(Default)]
struct Directory {
    calls: HashMap<u64, Entry>,
    next: u64,
    generation: u32,
    media: Vec<Sender<(u64, CallCommand)>>,
    setup: Option<Sender<SetupCommand>>,
    threads: Vec<JoinHandle<()>>,
}

/// See the module.
pub struct Engine {
    directory: Mutex<Directory>,
    outbox: Arc<Outbox>,
    counters: Vec<Arc<Counters>>,
    start: Instant,
}

impl Engine {
    /// Start the threads.
    pub fn start(config: Config) -> io::Result<Engine> {
        let start = Instant::now();
        let provider = str0m::crypto::from_feature_flags();
        let certificate = provider
            .dtls_provider
            .generate_certificate()
            .ok_or_else(|| io::Error::other("no certificate can be made"))?;
        let outbox = Arc::new(Outbox::new()?);
        let own = Arc::new(OwnPorts::new(start));
        let setup_wake = Arc::new(EventFd::new()?);
        let (setup_send, setup_commands) = RingBuffer::new(RING);
        let mut directory = Directory { next: 1, ..Directory::default() };
        let (mut to_media, mut from_media, mut counters) = (vec![], vec![], vec![]);
        let begun = Arc::new(Barrier::new(config.threads.max(1) + 1));
        for number in 0..config.threads.max(1) {
            let wake = Arc::new(EventFd::new()?);
            let (send, commands) = RingBuffer::new(RING);
            let (hand, handovers) = RingBuffer::new(RING);
            let (retire, retired) = RingBuffer::new(RETIRED);
            directory.media.push(Sender::new(send, wake.clone()));
            to_media.push(Sender::new(hand, wake.clone()));
            from_media.push(retired);
            let counted = Arc::new(Counters::default());
            counters.push(counted.clone());
            let seat = Seat {
                priority: config.priority,
                tick: config.tick.max(Duration::from_micros(500)),
                origin: start,
                wake,
                commands,
                handovers,
                retired: retire,
                setup_wake: setup_wake.clone(),
                outbox: outbox.clone(),
                own: own.clone(),
                counters: counted,
                begun: begun.clone(),
            };
            directory.threads.push(spawn(format!("media-{number}"), || Media::run(seat))?);
        }
        directory.setup = Some(Sender::new(setup_send, setup_wake.clone()));
        let bench = Bench {
            wake: setup_wake,
            commands: setup_commands,
            media: to_media,
            retired: from_media,
            outbox: outbox.clone(),
            certificate,
        };
        directory.threads.push(spawn("media-setup".to_string(), || Setup::run(bench))?);
        begun.wait();
        Ok(Engine { directory: Mutex::new(directory), outbox, counters, start })
    }

    /// Readable while `drain` has something.
    pub fn fileno(&self) -> RawFd {
        self.outbox.ready.raw()
    }

    /// What happened since the last time, in order for each call. Of transports that were
    /// closed or replaced nothing is told, of calls that were closed only `Event::Closed`.
    pub fn drain(&self) -> Vec<(u64, Event)> {
        let reports = self.outbox.drain();
        let mut directory = self.lock();
        directory.flush();
        let mut told = Vec::with_capacity(reports.len());
        for report in reports {
            let Some(entry) = directory.calls.get_mut(&report.call) else { continue };
            let last = matches!(report.event, Event::Closed { .. });
            if entry.closing && !last {
                continue;
            }
            if let Some(side) = report.event.side() {
                let generation = &mut entry.generations[usize::from(side & 1)];
                if *generation != report.generation {
                    continue;
                }
                if matches!(report.event, Event::PeerClosed { .. }) {
                    *generation = 0;
                }
            }
            if last {
                directory.calls.remove(&report.call);
            }
            told.push((report.call, report.event));
        }
        told
    }

    /// How the media threads are. Asked for regularly, it gives them what waits as well.
    pub fn turns(&self) -> Turns {
        self.lock().flush();
        Turns::of(self.counters.iter().map(|counters| &**counters), self.start)
    }

    /// Begin a call on these sockets, which are duplicated. Nothing flows yet.
    pub fn open(&self, rtp: RawFd, rtcp: RawFd, setup: CarrierSetup) -> io::Result<u64> {
        let (rtp, rtcp) = (Udp::duplicate(rtp)?, Udp::duplicate(rtcp)?);
        let mut directory = self.lock();
        let id = directory.next;
        let thread = usize::try_from(id).unwrap_or(0) % directory.media.len().max(1);
        let entry = Entry {
            thread,
            track: setup.track,
            generations: [0; 2],
            closing: false,
            stats: Arc::default(),
            backlog: Arc::default(),
            outgoing: Arc::new(Backlog::new(MAX_OUTGOING, MAX_OUTGOING_BYTES)),
            overflown: 0,
        };
        let (stats, backlog) = (entry.stats.clone(), entry.backlog.clone());
        let open = Box::new(OpenCall { setup, rtp, rtcp, stats, backlog });
        let sender = directory.media.get_mut(thread).ok_or_else(stopped)?;
        sender.send((id, CallCommand::Open(open))).map_err(|_| stopped())?;
        directory.next += 1;
        directory.calls.insert(id, entry);
        Ok(id)
    }

    /// Take what was negotiated; again on each change.
    pub fn connect(&self, call: u64, negotiated: Negotiated) -> Result<(), Refused> {
        self.command(call, CallCommand::Connect(Box::new(negotiated)))
    }

    /// Open or close what may flow.
    pub fn apply(&self, call: u64, levels: Levels) -> Result<(), Refused> {
        self.command(call, CallCommand::Apply(levels))
    }

    /// Queue keys towards the carrier.
    pub fn send_dtmf(&self, call: u64, digits: String) -> Result<(), Refused> {
        self.command(call, CallCommand::Dtmf(digits))
    }

    /// Send nothing on our track in the room; a level, kept over everything.
    pub fn mute(&self, call: u64, muted: bool) -> Result<(), Refused> {
        self.command(call, CallCommand::Mute(muted))
    }

    /// End the carrier's side and close its sockets; the room's transports go on. Makes
    /// `Event::HungUp`, after which no packet leaves for the carrier.
    pub fn hang_up(&self, call: u64, parting: Parting) -> Result<(), Refused> {
        self.command(call, CallCommand::HangUp(parting))
    }

    /// Listen to both directions of a call from now on; replaces who listened. `None`: there is
    /// no such call.
    pub fn tap(&self, call: u64) -> Result<Option<Reader>, Refused> {
        if self.lock().calls.get(&call).is_none_or(|entry| entry.closing) {
            return Ok(None);
        }
        let (tap, reader) = tap::tap(Instant::now());
        self.command(call, CallCommand::Tap(Box::new(tap)))?;
        Ok(Some(reader))
    }

    /// End a call and its transports; `Event::Closed` is the last that is told of it.
    pub fn close(&self, call: u64) -> Result<(), Refused> {
        let mut directory = self.lock();
        let Some(entry) = directory.calls.get_mut(&call) else { return Ok(()) };
        if std::mem::replace(&mut entry.closing, true) {
            return Ok(());
        }
        let thread = entry.thread;
        directory.tell_setup(SetupCommand::CloseCall { call })?;
        directory.tell_media(thread, call, CallCommand::Close)
    }

    /// The figures of a call, at most a tenth of a second old; `None`: there is no such call.
    pub fn stats(&self, call: u64) -> Option<CallStats> {
        let stats = self.lock().calls.get(&call)?.stats.clone();
        Some(stats.read())
    }

    /// Make a transport. Side 0 makes the first offer, side 1 waits for the server's.
    pub fn peer_open(
        &self,
        call: u64,
        side: u8,
        address: IpAddr,
        track: Option<String>,
        receivers: u32,
    ) -> Result<(), Refused> {
        let mut directory = self.lock();
        directory.generation = directory.generation.wrapping_add(1).max(1);
        let generation = directory.generation;
        let Some(entry) = directory.calls.get_mut(&call) else { return Ok(()) };
        if entry.closing {
            return Ok(()); // the set-up thread has forgotten the call: nobody would close it
        }
        entry.generations[usize::from(side & 1)] = generation;
        let law = entry.track;
        let options = Options { address, offers: side == 0, track, law, receivers };
        let (backlog, thread) = (entry.backlog.clone(), entry.thread);
        let open = Box::new(OpenPeer { options, generation, backlog, thread });
        let command = PeerCommand::Open(open);
        directory.tell_setup(SetupCommand::Peer { call, side, command })
    }

    /// Take the server's answer.
    pub fn peer_answer(&self, call: u64, side: u8, sdp: String) -> Result<(), Refused> {
        self.peer(call, side, PeerCommand::Answer(sdp))
    }

    /// Take the server's offer; makes `Event::Answer`.
    pub fn peer_offer(&self, call: u64, side: u8, sdp: String) -> Result<(), Refused> {
        self.peer(call, side, PeerCommand::Offer(sdp))
    }

    /// Take a candidate of the server.
    pub fn peer_candidate(&self, call: u64, side: u8, text: String) -> Result<(), Refused> {
        self.peer(call, side, PeerCommand::Candidate(text))
    }

    /// Offer again so that *count* more sections receive.
    pub fn peer_receivers(&self, call: u64, side: u8, count: u32) -> Result<(), Refused> {
        self.peer(call, side, PeerCommand::Receivers(count))
    }

    /// Offer again with new ICE credentials.
    pub fn peer_restart_ice(&self, call: u64, side: u8) -> Result<(), Refused> {
        self.peer(call, side, PeerCommand::RestartIce)
    }

    /// Send a message on our data channel *label*, in order. More than may be under way ends the
    /// transport (`Event::PeerClosed`), and what is sent on it after that goes nowhere.
    pub fn peer_send(&self, call: u64, label: String, data: Vec<u8>) -> Result<(), Refused> {
        // SCTP knows no empty messages (RFC 8831 6.6); what stands for one blocks the channel.
        if data.is_empty() || data.len() > MAX_MESSAGE {
            return Err(Refused::Unsendable);
        }
        let mut directory = self.lock();
        let Some(entry) = directory.calls.get_mut(&call) else { return Ok(()) };
        let generation = entry.generations[0];
        if entry.closing || generation == 0 || entry.overflown == generation {
            return Ok(()); // it is over: who asks will hear of it
        }
        let bytes = label.len() + data.len();
        let command = match Permit::take(&entry.outgoing, bytes) {
            Some(_permit) => PeerCommand::Send { label, data, _permit },
            None => {
                // Told here and now: the thread that would do it is the one that is late.
                entry.overflown = generation;
                let event = Event::PeerClosed { side: 0, why: "overflow" };
                self.outbox.publish(&mut [Report::rare(call, generation, event)].into());
                PeerCommand::Close
            }
        };
        directory.tell_setup(SetupCommand::Peer { call, side: 0, command })
    }

    /// Close a transport; nothing more is told of it.
    pub fn peer_close(&self, call: u64, side: u8) -> Result<(), Refused> {
        let mut directory = self.lock();
        let Some(entry) = directory.calls.get_mut(&call) else { return Ok(()) };
        entry.generations[usize::from(side & 1)] = 0;
        let command = PeerCommand::Close;
        directory.tell_setup(SetupCommand::Peer { call, side, command })
    }

    fn peer(&self, call: u64, side: u8, command: PeerCommand) -> Result<(), Refused> {
        let mut directory = self.lock();
        match directory.calls.get(&call) {
            Some(entry) if !entry.closing => {
                directory.tell_setup(SetupCommand::Peer { call, side: side & 1, command })
            }
            _ => Ok(()), // it is over: who asks will hear of it
        }
    }

    fn command(&self, call: u64, command: CallCommand) -> Result<(), Refused> {
        let mut directory = self.lock();
        match directory.calls.get(&call) {
            Some(entry) if !entry.closing => {
                let thread = entry.thread;
                directory.tell_media(thread, call, command)
            }
            _ => Ok(()),
        }
    }

    /// Close every call and end the threads; waits for them.
    pub fn stop(&self) {
        let mut directory = self.lock();
        let media = std::mem::take(&mut directory.media);
        let threads = std::mem::take(&mut directory.threads);
        let setup = directory.setup.take();
        drop(directory);
        for media in media {
            media.finish((0, CallCommand::Stop));
        }
        // The set-up thread last: it buries what the others give back.
        let mut threads = threads.into_iter();
        let last = threads.next_back();
        for thread in threads {
            let _ = thread.join();
        }
        if let Some(setup) = setup {
            setup.finish(SetupCommand::Stop);
        }
        if let Some(thread) = last {
            let _ = thread.join();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Directory> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Directory {
    fn tell_media(
        &mut self,
        thread: usize,
        call: u64,
        command: CallCommand,
    ) -> Result<(), Refused> {
        let sender = self.media.get_mut(thread).ok_or(Refused::Unavailable)?;
        sender.send((call, command)).map_err(|_| Refused::Unavailable)
    }

    fn tell_setup(&mut self, command: SetupCommand) -> Result<(), Refused> {
        let sender = self.setup.as_mut().ok_or(Refused::Unavailable)?;
        sender.send(command).map_err(|_| Refused::Unavailable)
    }

    /// Give the threads what their rings had no room for.
    fn flush(&mut self) {
        for media in &mut self.media {
            media.flush();
        }
        if let Some(setup) = &mut self.setup {
            setup.flush();
        }
    }
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(work)
}

fn stopped() -> io::Error {
    io::Error::other("the engine is stopped")
}
