//! Until `crate::carrier` is there: plain RTP with its agreed API. To be deleted.

use crate::types::{CarrierNotice, CarrierSetup, Law, Levels, Negotiated};
use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct CarrierStats {
    pub packets_received: u64,
    pub packets_sent: u64,
    pub packets_lost: u64,
    pub packets_refused: u64,
    pub jitter_ms: f64,
    pub round_trip_ms: Option<f64>,
    pub packets_unauthentic: u64,
    pub packets_forwarded: u64,
}

pub struct Forward<'a> {
    pub sequence: u64,
    pub timestamp: u32,
    pub marker: bool,
    pub level: i8,
    pub payload: &'a [u8],
}

pub struct Carrier {
    setup: CarrierSetup,
    negotiated: Option<Negotiated>,
    remote: Option<SocketAddr>,
    levels: Levels,
    stats: CarrierStats,
}

#[derive(Debug)]
pub struct Unsupported;

impl Carrier {
    pub fn new(setup: CarrierSetup, _now: Instant) -> Self {
        let stats = CarrierStats::default();
        Carrier { setup, negotiated: None, remote: None, levels: Levels::CLOSED, stats }
    }
    pub fn connect(
        &mut self,
        negotiated: Negotiated,
        _own: &dyn Fn(SocketAddr) -> bool,
        _now: Instant,
    ) -> Result<(), Unsupported> {
        self.remote = negotiated.remote;
        self.negotiated = Some(negotiated);
        Ok(())
    }
    pub fn apply(&mut self, levels: Levels, _now: Instant) {
        self.levels = levels;
    }
    pub fn send_dtmf(&mut self, _digits: &str) {}
    pub fn receive<'a>(
        &'a mut self,
        datagram: &'a mut [u8],
        from: SocketAddr,
        _own: &dyn Fn(SocketAddr) -> bool,
        _now: Instant,
    ) -> Option<Forward<'a>> {
        self.stats.packets_received += 1;
        self.remote = Some(from);
        if datagram.len() < 13 || !self.levels.caller_audio {
            return None;
        }
        let sequence = u64::from(u16::from_be_bytes([datagram[2], datagram[3]]));
        let timestamp = u32::from_be_bytes([datagram[4], datagram[5], datagram[6], datagram[7]]);
        let marker = datagram[1] & 0x80 != 0;
        Some(Forward { sequence, timestamp, marker, level: -20, payload: &datagram[12..] })
    }
    pub fn receive_rtcp(&mut self, _datagram: &mut [u8], _from: SocketAddr, _now: Instant) {}
    pub fn samples(&self) -> usize {
        self.negotiated.as_ref().map_or(160, |n| n.ptime as usize * 8)
    }
    pub fn wants_audio(&self) -> bool {
        self.levels.agent_audio
    }
    pub fn send(
        &mut self,
        pcm: Option<&[i16]>,
        out: &mut Vec<u8>,
        _now: Instant,
    ) -> Option<SocketAddr> {
        let samples = self.samples();
        self.setup.timestamp = self.setup.timestamp.wrapping_add(samples as u32);
        let (to, negotiated) = (self.remote?, self.negotiated.as_ref()?);
        if !self.levels.transmit {
            return None;
        }
        self.setup.sequence = self.setup.sequence.wrapping_add(1);
        self.stats.packets_sent += 1;
        out.clear();
        out.extend([0x80, negotiated.payload_type]);
        out.extend(self.setup.sequence.to_be_bytes());
        out.extend(self.setup.timestamp.to_be_bytes());
        out.extend(self.setup.ssrc.to_be_bytes());
        let _ = Law::Mu;
        match pcm {
            Some(pcm) => out.extend(pcm.iter().map(|s| encode(*s))),
            None => out.extend(std::iter::repeat_n(0xff, samples)),
        }
        Some(to)
    }
    pub fn skip(&mut self, packets: u32) {
        let samples = self.samples() as u32 * packets;
        self.setup.timestamp = self.setup.timestamp.wrapping_add(samples);
    }
    pub fn poll(
        &mut self,
        _now: Instant,
        _wall: SystemTime,
        _out: &mut Vec<u8>,
    ) -> Option<SocketAddr> {
        None
    }
    pub fn goodbye(
        &mut self,
        _now: Instant,
        _wall: SystemTime,
        _out: &mut Vec<u8>,
    ) -> Option<SocketAddr> {
        None
    }
    pub fn take_notices(&mut self) -> Vec<CarrierNotice> {
        vec![]
    }
    pub fn stats(&self) -> CarrierStats {
        self.stats.clone()
    }
    pub fn position(&self) -> (u16, u32, u64) {
        (self.setup.sequence, self.setup.timestamp, self.stats.packets_sent)
    }
}

fn encode(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = (i32::from(sample).abs() + 132).min(32767);
    let exponent = (31 - (magnitude as u32 >> 7).leading_zeros()).min(7);
    let mantissa = (magnitude >> (exponent + 3)) & 15;
    !(sign | (exponent << 4) as u8 | mantissa as u8)
}
