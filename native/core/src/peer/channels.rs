//! Data channels: messages wait here in order until SCTP takes them.

use std::collections::VecDeque;
use str0m::Rtc;
use str0m::channel::{ChannelConfig, ChannelId, Reliability};

/// What may wait on one channel. Beyond it the transport is ended: a message is never lost
/// without being told.
pub const MAX_WAITING_MESSAGES: usize = 256;
pub const MAX_WAITING_BYTES: usize = 1 << 20;

/// The longest message: what SCTP of either end takes (LiveKit's own limit is 15 KiB).
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Channels that the far end may open.
const MAX_CHANNELS: usize = 16;

/// The channel of which it is told what the far end has.
const RELIABLE: &str = "_reliable";

/// Our two channels, as LiveKit's clients open them.
pub fn configurations() -> [ChannelConfig; 2] {
    [
        ChannelConfig { label: RELIABLE.to_string(), ..ChannelConfig::default() },
        ChannelConfig {
            label: "_lossy".to_string(),
            ordered: false,
            reliability: Reliability::MaxRetransmits { retransmits: 0 },
            ..ChannelConfig::default()
        },
    ]
}

#[derive(Debug)]
struct Channel {
    id: Option<ChannelId>,
    label: String,
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Messages that SCTP took and that are not known to have arrived.
    under_way: usize,
}

impl Channel {
    fn new(id: Option<ChannelId>, label: &str) -> Channel {
        let (label, waiting) = (label.to_string(), VecDeque::new());
        Channel { id, label, waiting, bytes: 0, under_way: 0 }
    }
}

/// More than may wait was to be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Overflow;

/// The channels of one transport by label.
#[derive(Debug, Default)]
pub struct Channels {
    channels: Vec<Channel>,
}

impl Channels {
    /// Channel *label* stands; what waited is sent by the next `flush`.
    pub fn opened(&mut self, id: ChannelId, label: &str) {
        // One that the far end opens under the name of a channel that stands is only heard:
        // ours goes on.
        let waits = |channel: &&mut Channel| channel.label == label && channel.id.is_none();
        if let Some(channel) = self.channels.iter_mut().find(waits) {
            channel.id = Some(id);
        } else if self.channels.len() < MAX_CHANNELS {
            self.channels.push(Channel::new(Some(id), label));
        }
    }

    pub fn closed(&mut self, id: ChannelId) {
        if let Some(channel) = self.channels.iter_mut().find(|channel| channel.id == Some(id)) {
            channel.id = None;
        }
    }

    pub fn label(&self, id: ChannelId) -> Option<&str> {
        let channel = self.channels.iter().find(|channel| channel.id == Some(id))?;
        Some(&channel.label)
    }

    /// Channels that stand.
    pub fn standing(&self) -> usize {
        self.channels.iter().filter(|channel| channel.id.is_some()).count()
    }

    /// Put *message* behind what waits on channel *label*, which may be yet to open.
    pub fn push(&mut self, label: &str, message: Vec<u8>) -> Result<(), Overflow> {
        let at = self.channels.iter().position(|channel| channel.label == label);
        if at.is_none() && self.channels.len() >= MAX_CHANNELS {
            return Err(Overflow);
        }
        let at = at.unwrap_or_else(|| {
            self.channels.push(Channel::new(None, label));
            self.channels.len() - 1
        });
        let channel = &mut self.channels[at];
        let bytes = channel.bytes + message.len();
        if channel.waiting.len() >= MAX_WAITING_MESSAGES || bytes > MAX_WAITING_BYTES {
            return Err(Overflow);
        }
        channel.bytes = bytes;
        channel.waiting.push_back(message);
        Ok(())
    }

    /// Give SCTP what it takes now; true: it took something.
    pub fn flush(&mut self, rtc: &mut Rtc) -> bool {
        let mut sent = false;
        for channel in &mut self.channels {
            let Some(id) = channel.id else { continue };
            while let Some(message) = channel.waiting.front() {
                // Not taken: the buffer is full, or the channel is not quite there. It waits.
                let Some(mut open) = rtc.channel(id) else { break };
                if !open.write(true, message).unwrap_or(false) {
                    break;
                }
                channel.bytes -= message.len();
                channel.waiting.pop_front();
                channel.under_way += 1;
                sent = true;
            }
        }
        sent
    }

    /// Messages on the reliable channel that have arrived, since the last time: its label and how
    /// many. Told only when nothing is under way any more: SCTP tells how many octets are, not of
    /// which messages, and a later one may arrive before an earlier one that was lost.
    pub fn delivered(&mut self, rtc: &mut Rtc) -> Option<(&str, usize)> {
        let channel = self.channels.iter_mut().find(|channel| channel.label == RELIABLE)?;
        let (1.., Some(id)) = (channel.under_way, channel.id) else { return None };
        // A channel that is gone has nothing under way either: it is not asked.
        let arrived = rtc.channel(id).is_some_and(|mut open| open.buffered_amount() == 0);
        arrived.then(|| (&*channel.label, std::mem::take(&mut channel.under_way)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn messages_wait_for_their_channel_up_to_a_bound() {
        let mut channels = Channels::default();
        for _ in 0..MAX_WAITING_MESSAGES {
            channels.push("_reliable", vec![0; 10]).unwrap();
        }
        assert_eq!(channels.push("_reliable", vec![]), Err(Overflow));
        for _ in 0..16 {
            channels.push("_lossy", vec![0; MAX_MESSAGE]).unwrap();
        }
        assert_eq!(channels.push("_lossy", vec![0]), Err(Overflow));
    }

    #[test]
    fn labels_that_grow_without_end_are_an_overflow() {
        let mut channels = Channels::default();
        for n in 0..MAX_CHANNELS {
            channels.push(&n.to_string(), vec![]).unwrap();
        }
        assert_eq!(channels.push("one more", vec![]), Err(Overflow));
    }
}
