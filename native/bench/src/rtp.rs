//! RTP headers (RFC 3550 5.1): what is needed to send a stream and to count one.

/// Bytes of a header without contributing sources and extensions.
pub const HEADER: usize = 12;

/// One stream that we send.
pub struct Stream {
    pub payload_type: u8,
    pub ssrc: u32,
    pub sequence: u16,
    pub timestamp: u32,
    /// Of one packet, in the codec's clock.
    pub step: u32,
}

impl Stream {
    /// Write the next header to the start of `out` and go on by one packet.
    pub fn next(&mut self, out: &mut [u8], marker: bool) {
        out[0] = 0x80;
        out[1] = self.payload_type | if marker { 0x80 } else { 0 };
        out[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        out[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        out[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(self.step);
    }
}

/// Sequence number, payload type and where the payload begins; `None`: no RTP (or RTCP).
pub fn parse(packet: &[u8]) -> Option<(u16, u8, usize)> {
    if packet.len() < HEADER || packet[0] >> 6 != 2 || (192..224).contains(&packet[1]) {
        return None;
    }
    let mut at = HEADER + 4 * usize::from(packet[0] & 0x0F);
    if packet[0] & 0x10 != 0 {
        let words = packet.get(at + 2..at + 4)?;
        at += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
    }
    if at > packet.len() {
        return None;
    }
    Some((u16::from_be_bytes([packet[2], packet[3]]), packet[1] & 0x7F, at))
}

/// Counts what a stream lost, by its sequence numbers.
#[derive(Clone, Copy, Default)]
pub struct Seen {
    next: Option<u16>,
    pub received: u64,
    pub lost: u64,
    /// Came after one that was sent later, or twice.
    pub late: u64,
}

impl Seen {
    /// Take one sequence number.
    pub fn take(&mut self, sequence: u16) {
        self.received += 1;
        let ahead = self.next.map_or(0, |next| sequence.wrapping_sub(next));
        if ahead >= 0x8000 {
            self.late += 1;
            self.lost = self.lost.saturating_sub(1);
            return;
        }
        self.lost += u64::from(ahead);
        self.next = Some(sequence.wrapping_add(1));
    }

    /// Begin to count anew; the stream goes on.
    pub fn zero(&mut self) {
        *self = Seen { next: self.next, ..Seen::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_lost_until_it_comes_late() {
        let mut seen = Seen::default();
        for sequence in [65534, 65535, 1, 2] {
            seen.take(sequence);
        }
        assert_eq!((seen.received, seen.lost, seen.late), (4, 1, 0));
        seen.take(0);
        assert_eq!((seen.received, seen.lost, seen.late), (5, 0, 1));
    }

    #[test]
    fn the_payload_is_found_behind_an_extension() {
        let mut packet = [0u8; 24];
        Stream { payload_type: 111, ssrc: 1, sequence: 7, timestamp: 0, step: 960 }
            .next(&mut packet, false);
        assert_eq!(parse(&packet), Some((7, 111, 12)));
        packet[0] |= 0x10;
        packet[15] = 1;
        assert_eq!(parse(&packet), Some((7, 111, 20)));
        packet[15] = 200;
        assert_eq!(parse(&packet), None);
    }
}
