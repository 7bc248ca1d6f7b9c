//! RTP packets on the wire (RFC 3550 section 5.1).

use std::fmt;
use std::ops::Range;

pub const HEADER_SIZE: usize = 12;

/// A datagram is not an RTP packet; the text says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpError(pub &'static str);

impl fmt::Display for RtpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for RtpError {}

/// What a packet says of itself, and where in the datagram its payload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub payload_type: u8,
    pub marker: bool,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
    pub payload: Range<usize>,
}

/// Tells RTCP from RTP on one port by its packet type (RFC 5761 section 4).
#[inline]
pub fn is_rtcp(data: &[u8]) -> bool {
    matches!(data, [first, kind, ..] if first >> 6 == 2 && (192..=223).contains(kind))
}

/// Reads the header in *data*: CSRC list, extension and padding as well.
///
/// RFC 3550 5.1, A.1.
#[inline]
pub fn parse(data: &[u8]) -> Result<Header, RtpError> {
    let Some((fixed, rest)) = data.split_first_chunk::<HEADER_SIZE>() else {
        return Err(RtpError("shorter than an RTP header"));
    };
    let [first, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = *fixed;
    let payload =
        if first == 0x80 { HEADER_SIZE..data.len() } else { payload_of(data, first, rest)? };
    Ok(Header {
        payload_type: second & 0x7F,
        marker: second & 0x80 != 0,
        sequence: u16::from_be_bytes([s0, s1]),
        timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
        ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
        payload,
    })
}

/// Returns where the payload is when the packet is not a plain one.
#[cold]
fn payload_of(data: &[u8], first: u8, rest: &[u8]) -> Result<Range<usize>, RtpError> {
    if first >> 6 != 2 {
        return Err(RtpError("RTP version is not 2"));
    }
    let sources = 4 * usize::from(first & 0x0F);
    let Some(after) = rest.get(sources..) else {
        return Err(RtpError("CSRC list runs past the end"));
    };
    let mut start = HEADER_SIZE + sources;
    if first & 0x10 != 0 {
        let past = RtpError("header extension runs past the end");
        let [_, _, high, low, ..] = *after else { return Err(past) };
        start += 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
        if data.len() < start {
            return Err(past);
        }
    }
    Ok(start..data.len() - padding(data, first, start)?)
}

/// Returns the number of padding bytes at the end of *data*.
fn padding(data: &[u8], first: u8, start: usize) -> Result<usize, RtpError> {
    if first & 0x20 == 0 {
        return Ok(0);
    }
    // RFC 3550 5.1: the last octet of the padding contains a count of how many
    // padding octets should be ignored, including itself.
    let count = data.last().copied().map_or(0, usize::from);
    if count == 0 || count > data.len() - start {
        return Err(RtpError("padding count is wrong"));
    }
    Ok(count)
}

/// The signed distance of two 32-bit timestamps, modulo 2^32.
#[inline]
pub fn timestamp_distance(later: u32, earlier: u32) -> i32 {
    later.wrapping_sub(earlier) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(first: u8, tail: &[u8]) -> Vec<u8> {
        let mut data = vec![first, 0x88, 0x12, 0x34, 0, 0, 1, 0, 0xDE, 0xAD, 0xBE, 0xEF];
        data.extend_from_slice(tail);
        data
    }

    #[test]
    fn the_fields_stand_where_rfc_3550_puts_them() {
        let header = parse(&plain(0x80, b"abc")).expect("a packet");
        let wanted = Header {
            payload_type: 8,
            marker: true,
            sequence: 0x1234,
            timestamp: 256,
            ssrc: 0xDEAD_BEEF,
            payload: 12..15,
        };
        assert_eq!(header, wanted);
    }

    #[test]
    fn sources_extension_and_padding_are_not_payload() {
        let mut tail = vec![0; 8]; // two CSRC
        tail.extend_from_slice(&[0xBE, 0xDE, 0, 1, 9, 9, 9, 9]);
        tail.extend_from_slice(b"voice");
        tail.extend_from_slice(&[0, 0, 3]);
        let data = plain(0xB2, &tail);
        assert_eq!(&data[parse(&data).expect("a packet").payload], b"voice");
    }

    #[test]
    fn a_broken_packet_is_refused_with_its_reason() {
        let refused = [
            (vec![], "shorter than an RTP header"),
            (plain(0x40, b""), "RTP version is not 2"),
            (plain(0x81, &[0; 3]), "CSRC list runs past the end"),
            (plain(0x90, &[0; 3]), "header extension runs past the end"),
            (plain(0x90, &[0, 0, 0, 2, 0, 0, 0, 0]), "header extension runs past the end"),
            (plain(0xA0, &[0]), "padding count is wrong"),
            (plain(0xA0, &[2]), "padding count is wrong"),
        ];
        for (data, reason) in refused {
            assert_eq!(parse(&data), Err(RtpError(reason)));
        }
    }

    #[test]
    fn rtcp_is_told_from_rtp_by_its_type() {
        for (data, told) in
            [(vec![0x80, 200], true), (vec![0x81, 223], true), (vec![0x80, 0x88], false)]
        {
            assert_eq!(is_rtcp(&data), told);
        }
        assert!(!is_rtcp(&[0x40, 200]) && !is_rtcp(&[0x80]));
    }
}
