//! What the threads have to tell, on its way to who drains it.

use crate::net::EventFd;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// What of one call may wait to be drained; beyond it a message ends its transport, and a key
/// or a track is not told.
pub const MAX_MESSAGES: usize = 1024;
pub const MAX_BYTES: usize = 1 << 20;

/// Something that happened to a call.
#[derive(Debug, PartialEq)]
pub enum Event {
    Offer {
        side: u8,
        sdp: String,
    },
    Answer {
        side: u8,
        sdp: String,
    },
    Connected {
        side: u8,
    },
    Disconnected {
        side: u8,
    },
    PeerClosed {
        side: u8,
        why: &'static str,
    },
    Channel {
        side: u8,
        label: String,
        stream: u16,
    },
    Data {
        side: u8,
        label: String,
        data: Vec<u8>,
    },
    Delivered {
        side: u8,
        label: String,
        count: usize,
    },
    Track {
        side: u8,
        mid: String,
    },
    TimedOut {
        ever: bool,
    },
    Key {
        digit: char,
        duration_ms: u32,
    },
    NotAuthentic,
    /// The carrier's side is over, its sockets are closed.
    HungUp {
        sequence: u16,
        timestamp: u32,
        packets: u64,
    },
    Closed {
        sequence: u16,
        timestamp: u32,
        packets: u64,
    },
    Fault(String),
}

impl Event {
    /// The transport that it is about.
    pub fn side(&self) -> Option<u8> {
        match self {
            Event::Offer { side, .. }
            | Event::Answer { side, .. }
            | Event::Connected { side }
            | Event::Disconnected { side }
            | Event::PeerClosed { side, .. }
            | Event::Channel { side, .. }
            | Event::Data { side, .. }
            | Event::Delivered { side, .. }
            | Event::Track { side, .. } => Some(*side),
            _ => None,
        }
    }

    fn size(&self) -> usize {
        match self {
            Event::Data { label, data, .. } => label.len() + data.len(),
            Event::Channel { label, .. } => label.len(),
            _ => 0,
        }
    }
}

/// An event of *call*; for a transport also which one of its side it was.
#[derive(Debug)]
pub struct Report {
    pub call: u64,
    pub generation: u32,
    pub event: Event,
    _permit: Option<Permit>,
}

impl Report {
    /// One that there are only a few of in a call.
    pub fn rare(call: u64, generation: u32, event: Event) -> Self {
        Report { call, generation, event, _permit: None }
    }

    /// One that the far end makes as many of as it likes; `None`: too many wait already.
    pub fn bounded(
        call: u64,
        generation: u32,
        event: Event,
        backlog: &Arc<Backlog>,
    ) -> Option<Self> {
        let _permit = Some(Permit::take(backlog, event.size())?);
        Some(Report { call, generation, event, _permit })
    }
}

/// How much of one call waits, and how much may.
#[derive(Debug)]
pub struct Backlog {
    messages: AtomicUsize,
    bytes: AtomicUsize,
    max_messages: usize,
    max_bytes: usize,
}

impl Backlog {
    pub fn new(max_messages: usize, max_bytes: usize) -> Self {
        Backlog { messages: 0.into(), bytes: 0.into(), max_messages, max_bytes }
    }
}

impl Default for Backlog {
    /// Of what waits to be drained.
    fn default() -> Self {
        Self::new(MAX_MESSAGES, MAX_BYTES)
    }
}

/// A place in a backlog, given back when what it is for was taken or dropped.
#[derive(Debug)]
pub struct Permit {
    backlog: Arc<Backlog>,
    bytes: usize,
}

impl Permit {
    pub fn take(backlog: &Arc<Backlog>, bytes: usize) -> Option<Self> {
        let messages = backlog.messages.fetch_add(1, Relaxed);
        let before = backlog.bytes.fetch_add(bytes, Relaxed);
        let permit = Permit { backlog: backlog.clone(), bytes };
        (messages < backlog.max_messages && before + bytes <= backlog.max_bytes).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.backlog.messages.fetch_sub(1, Relaxed);
        self.backlog.bytes.fetch_sub(self.bytes, Relaxed);
    }
}

/// The queue of all threads, and the descriptor that is readable while it has something.
#[derive(Debug)]
pub struct Outbox {
    queue: Mutex<VecDeque<Report>>,
    pub ready: EventFd,
}

impl Outbox {
    pub fn new() -> io::Result<Self> {
        Ok(Outbox { queue: Mutex::default(), ready: EventFd::new()? })
    }

    /// Everything that waits, in order.
    pub fn drain(&self) -> VecDeque<Report> {
        self.ready.clear();
        std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Put *reports* behind what waits.
    pub fn publish(&self, reports: &mut VecDeque<Report>) {
        if reports.is_empty() {
            return;
        }
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).append(reports);
        self.ready.signal();
    }

    /// The same without waiting: where the queue is being drained this very moment, *reports*
    /// stay for the next turn. For threads that keep time.
    pub fn try_publish(&self, reports: &mut VecDeque<Report>) {
        if reports.is_empty() {
            return;
        }
        if let Ok(mut queue) = self.queue.try_lock() {
            queue.append(reports);
            drop(queue);
            self.ready.signal();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn message(size: usize) -> Event {
        Event::Data { side: 0, label: "_reliable".to_string(), data: vec![0; size] }
    }

    #[test]
    fn more_than_a_call_may_have_waiting_is_refused_until_it_is_drained() {
        let outbox = Outbox::new().unwrap();
        let backlog = Arc::new(Backlog::default());
        let mut reports: VecDeque<_> = (0..MAX_MESSAGES)
            .map(|_| Report::bounded(1, 0, message(3), &backlog).unwrap())
            .collect();
        assert!(Report::bounded(1, 0, message(0), &backlog).is_none());
        outbox.publish(&mut reports);
        assert_eq!(outbox.drain().len(), MAX_MESSAGES);
        let room = MAX_BYTES - "_reliable".len();
        assert!(Report::bounded(1, 0, message(room), &backlog).is_some());
        assert!(Report::bounded(1, 0, message(room + 1), &backlog).is_none());
    }
}
