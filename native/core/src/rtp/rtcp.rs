//! RTCP: minimal sender and receiver reports, and what theirs say (RFC 3550 section 6).

use std::fmt;
use std::time::{Duration, SystemTime};

pub const SENDER_REPORT: u8 = 200;
pub const RECEIVER_REPORT: u8 = 201;
pub const SOURCE_DESCRIPTION: u8 = 202;
pub const GOODBYE: u8 = 203;

const BLOCK_SIZE: usize = 24;
const SENDER_SIZE: usize = 24; // with the SSRC before it
/// Seconds from 1900, where NTP counts from, to 1970.
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// A datagram is not a compound RTCP packet; the text says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtcpError(pub &'static str);

impl fmt::Display for RtcpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for RtcpError {}

/// What one side received of the other's *ssrc* (RFC 3550 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportBlock {
    pub ssrc: u32,
    /// In 1/256.
    pub fraction_lost: u8,
    /// 24 bits, signed.
    pub cumulative_lost: i32,
    pub highest_sequence: u32,
    /// In timestamp units.
    pub jitter: u32,
    /// LSR: the middle 32 bits of an NTP time.
    pub last_report: u32,
    /// DLSR, in 1/65536 s.
    pub delay: u32,
}

/// The sender's part of an SR; `ntp` is 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderInfo {
    pub ntp: u64,
    pub timestamp: u32,
    pub packets: u32,
    pub octets: u32,
}

/// One SR (with `sender`) or RR of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub ssrc: u32,
    pub sender: Option<SenderInfo>,
    pub block: Option<ReportBlock>,
}

/// What of theirs is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RtcpPacket {
    Report { ssrc: u32, sender: Option<SenderInfo>, blocks: Vec<ReportBlock> },
    Goodbye,
}

/// Returns *wall* as a 64-bit NTP timestamp (RFC 3550 4); of era 0 as of any other.
pub fn ntp(wall: SystemTime) -> u64 {
    let start = SystemTime::UNIX_EPOCH - Duration::from_secs(NTP_TO_UNIX);
    fixed_point(wall.duration_since(start).unwrap_or_default())
}

/// Returns *passed* in 1/2^32 s, modulo 2^64.
pub fn fixed_point(passed: Duration) -> u64 {
    let fraction = (u64::from(passed.subsec_nanos()) << 32) / 1_000_000_000;
    passed.as_secs() << 32 | fraction
}

/// Returns the middle 32 bits of a 64-bit NTP timestamp.
pub fn middle(ntp_time: u64) -> u32 {
    (ntp_time >> 16) as u32
}

/// Returns the round trip that *block*, arrived at the NTP time *now*, proves.
///
/// Nothing when they had no report of ours, or the figures make no sense.
/// RFC 3550 6.4.1: A - LSR - DLSR.
pub fn round_trip(block: &ReportBlock, now: u64) -> Option<Duration> {
    if block.last_report == 0 {
        return None;
    }
    let trip = middle(now).wrapping_sub(block.last_report).wrapping_sub(block.delay);
    (trip < 60 << 16).then(|| Duration::from_nanos((u64::from(trip) * 1_000_000_000) >> 16))
}

/// Writes *report* and its SDES CNAME as one compound packet.
///
/// RFC 3550 6.1: an SDES packet containing a CNAME item MUST be included in
/// each compound RTCP packet.
pub fn build(report: &Report, cname: &str, out: &mut Vec<u8>) {
    out.clear();
    let kind = if report.sender.is_some() { SENDER_REPORT } else { RECEIVER_REPORT };
    let start = open_packet(kind, u8::from(report.block.is_some()), out);
    out.extend_from_slice(&report.ssrc.to_be_bytes());
    if let Some(sender) = &report.sender {
        out.extend_from_slice(&sender.ntp.to_be_bytes());
        for word in [sender.timestamp, sender.packets, sender.octets] {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }
    if let Some(block) = &report.block {
        let loss = u32::from(block.fraction_lost) << 24 | block.cumulative_lost as u32 & 0xFF_FFFF;
        let figures = [block.highest_sequence, block.jitter, block.last_report, block.delay];
        for word in [block.ssrc, loss].into_iter().chain(figures) {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }
    close_packet(start, out);
    describe(report.ssrc, cname, out);
}

/// Writes *report* as `build` does, with our BYE at its end (RFC 3550 6.1, 6.6).
pub fn build_last(report: &Report, cname: &str, out: &mut Vec<u8>) {
    build(report, cname, out);
    let start = open_packet(GOODBYE, 1, out);
    out.extend_from_slice(&report.ssrc.to_be_bytes());
    close_packet(start, out);
}

fn open_packet(kind: u8, count: u8, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0x80 | count, kind, 0, 0]);
    start
}

/// Fills in the length: 32-bit words after the first.
fn close_packet(start: usize, out: &mut [u8]) {
    let words = ((out.len() - start) / 4 - 1) as u16;
    if let Some(field) = out.get_mut(start + 2..start + 4) {
        field.copy_from_slice(&words.to_be_bytes());
    }
}

/// Writes an SDES packet with one CNAME item, ended by zeros (RFC 3550 6.5).
fn describe(ssrc: u32, cname: &str, out: &mut Vec<u8>) {
    let text = &cname.as_bytes()[..cname.len().min(255)];
    let start = open_packet(SOURCE_DESCRIPTION, 1, out);
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(&[1, text.len() as u8]);
    out.extend_from_slice(text);
    let zeros = 4 - (out.len() - start) % 4;
    out.resize(out.len() + zeros, 0);
    close_packet(start, out);
}

/// Returns the reports and goodbyes in *data*; other packets are passed over.
///
/// An error when *data* is not a valid compound packet (RFC 3550 A.2).
/// A single RR or BYE (reduced size, RFC 5506) is accepted.
pub fn parse(data: &[u8]) -> Result<Vec<RtcpPacket>, RtcpError> {
    if data.is_empty() {
        return Err(RtcpError("empty datagram"));
    }
    let mut packets = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        let [first, kind, high, low, ref after @ ..] = *rest else {
            return Err(RtcpError("shorter than an RTCP header"));
        };
        if first >> 6 != 2 {
            return Err(RtcpError("RTCP version is not 2"));
        }
        let size = 4 * usize::from(u16::from_be_bytes([high, low]));
        let Some((body, following)) = after.split_at_checked(size) else {
            return Err(RtcpError("RTCP packet runs past the end"));
        };
        packets.extend(parse_body(kind, usize::from(first & 0x1F), body)?);
        rest = following;
    }
    Ok(packets)
}

fn parse_body(kind: u8, count: usize, body: &[u8]) -> Result<Option<RtcpPacket>, RtcpError> {
    match kind {
        SENDER_REPORT => {
            let Some((info, blocks)) = body.split_first_chunk::<SENDER_SIZE>() else {
                return Err(RtcpError("sender report is too short"));
            };
            let sender = SenderInfo {
                ntp: u64::from(word(info, 1)) << 32 | u64::from(word(info, 2)),
                timestamp: word(info, 3),
                packets: word(info, 4),
                octets: word(info, 5),
            };
            let (ssrc, blocks) = (word(info, 0), parse_blocks(blocks, count)?);
            Ok(Some(RtcpPacket::Report { ssrc, sender: Some(sender), blocks }))
        }
        RECEIVER_REPORT => {
            let Some((head, blocks)) = body.split_first_chunk::<4>() else {
                return Err(RtcpError("report is too short"));
            };
            let (ssrc, blocks) = (word(head, 0), parse_blocks(blocks, count)?);
            Ok(Some(RtcpPacket::Report { ssrc, sender: None, blocks }))
        }
        GOODBYE if body.len() < 4 * count => Err(RtcpError("goodbye is too short")),
        GOODBYE => Ok(Some(RtcpPacket::Goodbye)),
        _ => Ok(None),
    }
}

/// The 32-bit word at *index*; 0 past the end.
fn word(data: &[u8], index: usize) -> u32 {
    match data.get(index * 4..index * 4 + 4) {
        Some(&[a, b, c, d]) => u32::from_be_bytes([a, b, c, d]),
        _ => 0,
    }
}

fn parse_blocks(body: &[u8], count: usize) -> Result<Vec<ReportBlock>, RtcpError> {
    if body.len() < count * BLOCK_SIZE {
        return Err(RtcpError("report block runs past the end"));
    }
    Ok(body.chunks_exact(BLOCK_SIZE).take(count).map(parse_block).collect())
}

fn parse_block(body: &[u8]) -> ReportBlock {
    let loss = word(body, 1);
    ReportBlock {
        ssrc: word(body, 0),
        fraction_lost: (loss >> 24) as u8,
        cumulative_lost: (loss << 8) as i32 >> 8,
        highest_sequence: word(body, 2),
        jitter: word(body, 3),
        last_report: word(body, 4),
        delay: word(body, 5),
    }
}

#[cfg(test)]
mod tests;
