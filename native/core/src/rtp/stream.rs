//! Our stream towards the carrier.

/// An outgoing stream: constant SSRC, sequence and timestamp that never go back.
///
/// `skip` advances the timestamp over what was not sent; the next packet then
/// carries the marker (RFC 3551 4.1: the first packet of a talkspurt).
#[derive(Debug)]
pub struct Stream {
    pub ssrc: u32,
    pub sequence: u16,
    pub timestamp: u32,
    pub packets: u64,
    pub octets: u64,
    marker: bool,
}

impl Stream {
    pub fn new(ssrc: u32, sequence: u16, timestamp: u32) -> Stream {
        Stream { ssrc, sequence, timestamp, packets: 0, octets: 0, marker: true }
    }

    /// Writes the next packet into *out*, its payload by *fill*, and moves on by *samples*.
    #[inline]
    pub fn packet(
        &mut self,
        payload_type: u8,
        samples: u32,
        out: &mut Vec<u8>,
        fill: impl FnOnce(&mut Vec<u8>),
    ) {
        self.pack(payload_type, self.timestamp, self.marker, out, fill);
        self.marker = false;
        self.timestamp = self.timestamp.wrapping_add(samples);
    }

    /// Writes a packet of a telephone-event that began at *timestamp*.
    ///
    /// The stream's own timestamp advances by *samples*, as the event lasts.
    pub fn event(
        &mut self,
        payload_type: u8,
        payload: &[u8],
        timestamp: u32,
        marker: bool,
        samples: u32,
        out: &mut Vec<u8>,
    ) {
        self.pack(payload_type, timestamp, marker, out, |out| out.extend_from_slice(payload));
        self.skip(samples);
    }

    /// Lets *samples* pass unsent.
    #[inline]
    pub fn skip(&mut self, samples: u32) {
        self.timestamp = self.timestamp.wrapping_add(samples);
        self.marker = true;
    }

    #[inline]
    fn pack(
        &mut self,
        payload_type: u8,
        timestamp: u32,
        marker: bool,
        out: &mut Vec<u8>,
        fill: impl FnOnce(&mut Vec<u8>),
    ) {
        out.clear();
        out.extend_from_slice(&[0x80, payload_type & 0x7F | if marker { 0x80 } else { 0 }]);
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&timestamp.to_be_bytes());
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        let header = out.len();
        fill(out);
        self.sequence = self.sequence.wrapping_add(1);
        self.packets += 1;
        self.octets += (out.len() - header) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::packet::{Header, parse};

    fn next(stream: &mut Stream) -> Header {
        let mut out = Vec::new();
        stream.packet(8, 160, &mut out, |out| out.extend_from_slice(b"abc"));
        parse(&out).expect("a packet")
    }

    #[test]
    fn a_stream_counts_over_both_wraps_and_marks_only_its_first_packet() {
        let mut stream = Stream::new(7, 0xFFFF, 0xFFFF_FFFF);
        let packets: Vec<_> = (0..3)
            .map(|_| next(&mut stream))
            .map(|packet| (packet.sequence, packet.timestamp, packet.marker))
            .collect();
        assert_eq!(packets, [(0xFFFF, 0xFFFF_FFFF, true), (0, 159, false), (1, 319, false)]);
        assert_eq!((stream.packets, stream.octets), (3, 9));
    }

    #[test]
    fn a_gap_advances_the_timestamp_alone_and_is_followed_by_a_marker() {
        let mut stream = Stream::new(7, 0xFFFF, 0xFFFF_FFFF);
        next(&mut stream);
        stream.skip(1600);
        let after = next(&mut stream);
        assert_eq!((after.sequence, after.timestamp, after.marker), (0, 1759, true));
    }

    #[test]
    fn audio_after_an_event_has_gone_on_in_time_and_is_marked() {
        let mut stream = Stream::new(7, 10, 1000);
        next(&mut stream);
        let mut out = Vec::new();
        for index in 0..3 {
            stream.event(101, b"", 1160, index == 0, 160, &mut out);
            let event = parse(&out).expect("a packet");
            assert_eq!((event.sequence, event.timestamp), (11 + index, 1160));
            assert_eq!(event.marker, index == 0);
        }
        let after = next(&mut stream);
        assert_eq!((after.sequence, after.timestamp, after.marker), (14, 1640, true));
    }
}
