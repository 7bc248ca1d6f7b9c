//! The packets of one track that wait, by sequence number. No allocation after warm-up.

/// Packets that can wait: more than 200 ms of the shortest.
pub const CAPACITY: u64 = 128;
/// Payloads kept for reuse.
const POOL: usize = 16;
/// Octets of a payload that are taken; what is larger came in no datagram of a sane network.
pub const MAX_PAYLOAD: usize = 2048;

pub struct Packet {
    pub sequence: u64,
    /// Unwrapped, in samples of 8 kHz.
    pub timestamp: i64,
    /// Samples of 8 kHz that it decodes to; 0: nothing (a packet of padding).
    pub samples: i64,
    /// Microseconds.
    pub arrived: i64,
    /// It was lost; this is the copy of it in a later packet.
    pub copied: bool,
    pub payload: Vec<u8>,
}

impl Packet {
    /// One without its payload, see `Packets::insert`.
    pub fn new(sequence: u64, timestamp: i64, samples: i64, arrived: i64) -> Packet {
        Packet { sequence, timestamp, samples, arrived, copied: false, payload: Vec::new() }
    }
}

pub struct Packets {
    slots: Vec<Option<Packet>>,
    pool: Vec<Vec<u8>>,
    count: usize,
}

impl Packets {
    pub fn new() -> Packets {
        let slots = (0..CAPACITY).map(|_| None).collect();
        Packets { slots, pool: Vec::new(), count: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Keep a packet; the caller has seen to it that it is within `CAPACITY` of the others.
    pub fn insert(&mut self, mut packet: Packet, payload: &[u8]) {
        let mut kept = self.pool.pop().unwrap_or_default();
        kept.clear();
        kept.extend_from_slice(payload);
        packet.payload = kept;
        let slot = (packet.sequence % CAPACITY) as usize;
        match self.slots[slot].replace(packet) {
            Some(old) => self.recycle(old.payload),
            None => self.count += 1,
        }
    }

    pub fn get(&self, sequence: u64) -> Option<&Packet> {
        self.slots[(sequence % CAPACITY) as usize].as_ref().filter(|p| p.sequence == sequence)
    }

    pub fn get_mut(&mut self, sequence: u64) -> Option<&mut Packet> {
        self.slots[(sequence % CAPACITY) as usize].as_mut().filter(|p| p.sequence == sequence)
    }

    pub fn take(&mut self, sequence: u64) -> Option<Packet> {
        let slot = &mut self.slots[(sequence % CAPACITY) as usize];
        let packet = slot.take_if(|p| p.sequence == sequence)?;
        self.count -= 1;
        Some(packet)
    }

    /// The first packet from *sequence* on.
    pub fn first_from(&self, sequence: u64) -> Option<&Packet> {
        if self.count == 0 {
            return None;
        }
        (sequence..sequence.saturating_add(CAPACITY)).find_map(|n| self.get(n))
    }

    /// Take the first packet from *sequence* on.
    pub fn take_first(&mut self, sequence: u64) -> Option<Packet> {
        let first = self.first_from(sequence)?.sequence;
        self.take(first)
    }

    /// Give the memory of a payload back.
    pub fn recycle(&mut self, payload: Vec<u8>) {
        if self.pool.len() < POOL {
            self.pool.push(payload);
        }
    }

    pub fn clear(&mut self) {
        if self.count == 0 {
            return;
        }
        for at in 0..self.slots.len() {
            if let Some(packet) = self.slots[at].take() {
                self.recycle(packet.payload);
            }
        }
        self.count = 0;
    }
}
