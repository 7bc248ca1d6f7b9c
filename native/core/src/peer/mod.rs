//! One WebRTC transport towards the LiveKit server: an `Rtc` of str0m and its socket.
//!
//! It is driven from outside: [`Peer::receive`] when its socket can be read, [`Peer::tick`] at
//! [`Peer::wake_at`], and commands. What comes of each is put into a list of [`Output`]s. A peer
//! lives on one thread at a time and may be moved to another.

mod channels;
mod describe;
mod heard;
mod known;
mod numbering;
mod sdp;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use channels::MAX_MESSAGE;

use crate::net::Udp;
use crate::playout::RoomCodec;
use crate::types::Law;
use channels::Channels;
use heard::Heard;
use known::Known;
use numbering::Numbering;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use str0m::change::SdpPendingOffer;
use str0m::config::DtlsCert;
use str0m::format::{Codec, PayloadParams};
use str0m::media::{Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{Extension, ExtensionValues, RtpWrite};
use str0m::{Candidate, Event, IceConnectionState, Input, Rtc, RtcError};

/// Time from the first description of the far end until the transport must stand.
const SETUP_TIME: Duration = Duration::from_secs(20);

/// Time that a lost transport may take to come back, by itself or by an ICE restart.
const LOST_TIME: Duration = Duration::from_secs(30);

/// Between two checks of the far end's consent (RFC 7675), and how often one is sent again
/// before it counts as lost.
const CONSENT_INTERVAL: Duration = Duration::from_millis(2500);
const STUN_TRIES: usize = 5;

/// Between our RTCP reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Between two readings of what the far end reported about us.
const STATS_INTERVAL: Duration = Duration::from_secs(5);

/// Sections that receive; more are an error of who asks.
const MAX_RECEIVERS: u32 = 64;

/// What a level counts as voice above (dBov, RFC 6464).
const VOICE: i8 = -45;

/// The longest datagram that is read.
const MAX_DATAGRAM: usize = 2048;

/// What a transport does is said once, at its beginning.
#[derive(Debug, Clone)]
pub struct Options {
    /// Our address as the candidate says; the socket is bound to the wildcard of its family.
    pub address: IpAddr,
    /// We offer first and open the data channels; else the server does.
    pub offers: bool,
    /// Identity of the track that we send, if any.
    pub track: Option<String>,
    /// Its law.
    pub law: Law,
    /// Sections that receive, of the first offer.
    pub receivers: u32,
}

/// What came of an input.
#[derive(Debug)]
pub enum Output {
    Offer(String),
    Answer(String),
    /// ICE and DTLS stand, or ICE does again.
    Connected,
    Disconnected,
    /// Over: nothing comes after it. The word is one of `bridge.room.signal.port`.
    Ended(&'static str),
    Channel {
        label: String,
        stream: u16,
    },
    Data {
        label: String,
        data: Vec<u8>,
    },
    /// So many more of our messages on this channel have arrived.
    Delivered {
        label: String,
        count: usize,
    },
    /// The first packet of a remote track.
    Track {
        mid: String,
    },
    /// A packet of a remote track.
    Rtp {
        ssrc: u32,
        sequence: u64,
        timestamp: u32,
        codec: RoomCodec,
        /// The payload is packed with copies (RFC 2198), of this payload type.
        red: Option<u8>,
        payload: Arc<[u8]>,
    },
    /// A remote track is no more.
    Forget {
        ssrc: u32,
    },
}

/// What the far end told of our stream, and ICE of the way.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PeerStats {
    pub sent: u64,
    pub received: u64,
    pub round_trip: Option<Duration>,
    /// Fraction lost, of the last report.
    pub loss: Option<f32>,
    pub lost: u64,
    /// Timestamp units.
    pub jitter: u32,
}

/// What the next offer is to contain.
#[derive(Debug, Default, Clone, Copy)]
struct Wanted {
    receivers: Option<u32>,
    restart: bool,
}

#[derive(Debug)]
struct Transmit {
    mid: Mid,
    law: Law,
    numbering: Numbering,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Never stood; over when it does not by then (`None`: nothing was agreed yet).
    New(Option<Instant>),
    Connected,
    /// Stood; over when it does not again by then.
    Lost(Instant),
    Ended,
}

/// See the module.
pub struct Peer {
    rtc: Rtc,
    socket: Udp,
    /// Our candidate: where datagrams count as received.
    local: SocketAddr,
    state: State,
    transmit: Option<Transmit>,
    /// The offer that waits for its answer, and what it was made for.
    pending: Option<(SdpPendingOffer, Wanted)>,
    wanted: Wanted,
    receivers: Vec<Mid>,
    channels: Channels,
    heard: Heard,
    stats: PeerStats,
    timeout: Instant,
    known: Known,
}

impl Peer {
    /// Make a transport; with `options.offers` its first offer is put into *out*.
    pub fn open(
        options: &Options,
        certificate: &DtlsCert,
        now: Instant,
        out: &mut Vec<Output>,
    ) -> io::Result<Self> {
        let socket = Udp::wildcard(options.address)?;
        let local = SocketAddr::new(options.address, socket.local().port());
        let mut configuration = Rtc::builder();
        configuration.set_max_stun_rto(CONSENT_INTERVAL);
        configuration.set_max_stun_retransmits(STUN_TRIES);
        let mut rtc = configuration
            .set_rtp_mode(true)
            .set_dtls_cert(certificate.clone())
            .set_stats_interval(Some(STATS_INTERVAL))
            .set_send_buffer_audio(50)
            .set_rtcp_report_interval_audio(REPORT_INTERVAL)
            .clear_codecs()
            .enable_opus(true, true)
            .enable_pcmu(true, false)
            .enable_pcma(true, false)
            .clear_extension_map()
            .set_extension(1, Extension::AudioLevel)
            .set_extension(4, Extension::RtpMid)
            .build(now);
        let candidate = Candidate::host(local, "udp").map_err(io::Error::other)?;
        rtc.add_local_candidate(candidate);
        let mut peer = Peer {
            rtc,
            socket,
            local,
            state: State::New(None),
            transmit: None,
            pending: None,
            wanted: Wanted::default(),
            receivers: vec![],
            channels: Channels::default(),
            heard: Heard::default(),
            stats: PeerStats::default(),
            timeout: now,
            known: Known::default(),
        };
        if options.offers {
            peer.first_offer(options, out);
        }
        peer.drain(now, out);
        Ok(peer)
    }

    /// The descriptor to watch.
    pub fn fd(&self) -> i32 {
        self.socket.fd()
    }

    /// When `tick` is due.
    pub fn wake_at(&self) -> Instant {
        match self.state {
            State::New(Some(end)) | State::Lost(end) => self.timeout.min(end),
            _ => self.timeout,
        }
    }

    /// ICE and DTLS stand.
    pub fn connected(&self) -> bool {
        self.state == State::Connected
    }

    /// Data channels that stand.
    pub fn standing_channels(&self) -> usize {
        self.channels.standing()
    }

    pub fn stats(&self) -> PeerStats {
        self.stats
    }

    /// The remote tracks that were heard.
    pub fn sources(&self) -> impl Iterator<Item = u32> {
        self.heard.sources()
    }

    /// Send *data* on our channel *label*, behind what waits there.
    pub fn send(&mut self, label: &str, data: Vec<u8>, now: Instant, out: &mut Vec<Output>) {
        if self.state == State::Ended {
            return;
        }
        if self.channels.push(label, data).is_err() {
            return self.end("overflow", out);
        }
        if self.channels.flush(&mut self.rtc) {
            self.tick(now, out);
        }
    }

    /// Forward a packet of the carrier into the room.
    #[allow(clippy::too_many_arguments)]
    pub fn forward(
        &mut self,
        sequence: u64,
        timestamp: u32,
        marker: bool,
        level: i8,
        payload: &[u8],
        now: Instant,
        out: &mut Vec<Output>,
    ) {
        let Some(transmit) = &mut self.transmit else { return };
        if self.state != State::Connected {
            return;
        }
        let Some(numbered) = transmit.numbering.carrier(sequence, timestamp, now) else { return };
        self.write(numbered, marker || numbered.resumed, level, payload, now, out);
    }

    /// Send a packet of silence into the room.
    pub fn silence(&mut self, payload: &[u8], now: Instant, out: &mut Vec<Output>) {
        let Some(transmit) = &mut self.transmit else { return };
        if self.state != State::Connected {
            return;
        }
        let numbered = transmit.numbering.own(now);
        self.write(numbered, false, i8::MIN + 1, payload, now, out);
    }

    fn write(
        &mut self,
        numbered: numbering::Numbered,
        marker: bool,
        level: i8,
        payload: &[u8],
        now: Instant,
        out: &mut Vec<Output>,
    ) {
        let Some(transmit) = &self.transmit else { return };
        let (mid, law) = (transmit.mid, transmit.law);
        let mut api = self.rtc.direct_api();
        let Some(stream) = api.stream_tx_by_mid(mid, None) else { return };
        let extensions = ExtensionValues {
            audio_level: Some(level),
            voice_activity: Some(level > VOICE),
            ..ExtensionValues::default()
        };
        let (sequence, format) = (numbered.sequence.into(), sdp::payload_type(law).into());
        stream.write_rtp(
            RtpWrite::new(format, sequence, numbered.timestamp, now, payload)
                .marker(marker)
                .ext_vals(extensions),
        );
        self.stats.sent += 1;
        self.tick(now, out);
    }

    /// Read one datagram of the socket; false: there was none.
    pub fn receive(&mut self, now: Instant, out: &mut Vec<Output>) -> bool {
        let mut buffer = [0u8; MAX_DATAGRAM];
        let Some((length, from)) = self.socket.receive(&mut buffer) else { return false };
        if self.state == State::Ended || !self.known.may_send(from, &buffer[..length]) {
            return true;
        }
        let Ok(received) = Receive::new(Protocol::Udp, from, self.local, &buffer[..length]) else {
            return true; // no STUN, DTLS, RTP or RTCP
        };
        if self.rtc.handle_input(Input::Receive(now, received)).is_err() {
            self.end("fault", out);
            return true;
        }
        self.drain(now, out);
        true
    }

    /// Let time pass.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Output>) {
        match self.state {
            State::Ended => return,
            State::New(Some(end)) | State::Lost(end) if now >= end => {
                return self.end("timeout", out);
            }
            _ => {}
        }
        if self.rtc.handle_input(Input::Timeout(now)).is_err() {
            return self.end("fault", out);
        }
        self.drain(now, out);
    }

    /// Send everything that str0m has, and tell what happened.
    fn drain(&mut self, now: Instant, out: &mut Vec<Output>) {
        loop {
            self.pump(now, out);
            if self.state == State::Ended {
                return;
            }
            if !self.channels.flush(&mut self.rtc) {
                break;
            }
        }
        if let Some((label, count)) = self.channels.delivered(&mut self.rtc) {
            out.push(Output::Delivered { label: label.to_string(), count });
        }
    }

    fn pump(&mut self, now: Instant, out: &mut Vec<Output>) {
        loop {
            match self.rtc.poll_output() {
                Ok(str0m::Output::Transmit(packet)) => {
                    self.known.sent_to(packet.destination);
                    self.socket.send(&packet.contents, packet.destination);
                }
                Ok(str0m::Output::Event(event)) => {
                    self.event(event, now, out);
                    if self.state == State::Ended {
                        return;
                    }
                }
                Ok(str0m::Output::Timeout(at)) => {
                    self.timeout = at;
                    if !self.rtc.is_alive() {
                        self.end("remote", out);
                    }
                    return;
                }
                Err(error) => return self.end(word_of(&error), out),
            }
        }
    }

    fn event(&mut self, event: Event, now: Instant, out: &mut Vec<Output>) {
        match event {
            Event::RtpPacket(packet) => {
                self.stats.received += 1;
                let ssrc = packet.header.ssrc;
                let Some((codec, red)) = self.format_of(packet.header.payload_type) else { return };
                if !self.heard.knows(ssrc) {
                    self.new_source(*ssrc, packet.header.ext_vals.mid, out);
                }
                out.push(Output::Rtp {
                    ssrc: *ssrc,
                    sequence: *packet.seq_no,
                    timestamp: packet.header.timestamp,
                    codec,
                    red,
                    payload: packet.payload,
                });
            }
            Event::Connected => self.stands(out),
            Event::IceConnectionStateChange(state) => match state {
                IceConnectionState::Connected | IceConnectionState::Completed => {
                    if matches!(self.state, State::Lost(_)) {
                        self.stands(out);
                    }
                }
                IceConnectionState::Disconnected if self.state == State::Connected => {
                    self.state = State::Lost(now + LOST_TIME);
                    out.push(Output::Disconnected);
                }
                _ => {}
            },
            Event::ChannelOpen(id, label) => {
                self.channels.opened(id, &label);
                let stream = self.rtc.direct_api().sctp_stream_id_by_channel_id(id).unwrap_or(0);
                out.push(Output::Channel { label, stream });
            }
            Event::ChannelData(message) => {
                if let Some(label) = self.channels.label(message.id) {
                    out.push(Output::Data { label: label.to_string(), data: message.data });
                }
            }
            Event::ChannelClose(id) => self.channels.closed(id),
            Event::MediaChanged(change) if !change.direction.is_receiving() => {
                for ssrc in self.heard.forget_section(change.mid) {
                    self.forget(ssrc, out);
                }
            }
            Event::MediaEgressStats(stats) => {
                self.stats.loss = stats.loss;
                self.stats.round_trip = stats.rtt.or(self.stats.round_trip);
                if let Some(remote) = stats.remote {
                    self.stats.lost = remote.packets_lost;
                    self.stats.jitter = remote.jitter;
                }
            }
            Event::PeerStats(stats) => {
                let pair = stats.selected_candidate_pair;
                let measured = pair.and_then(|pair| pair.current_round_trip_time);
                self.stats.round_trip = measured.or(self.stats.round_trip);
            }
            Event::Closed => self.end("remote", out),
            _ => {}
        }
    }

    /// What the descriptions say that a payload type is, and which one is packed in it.
    fn format_of(&self, payload_type: Pt) -> Option<(RoomCodec, Option<u8>)> {
        let is_red = |format: &PayloadParams| format.red() == Some(payload_type);
        let mut formats = self.rtc.codec_config().iter();
        let format = formats.find(|format| format.pt() == payload_type || is_red(format))?;
        let codec = match format.spec().codec {
            Codec::Opus => RoomCodec::Opus,
            Codec::PCMU => RoomCodec::G711(Law::Mu),
            Codec::PCMA => RoomCodec::G711(Law::A),
            _ => return None,
        };
        Some((codec, is_red(format).then_some(*format.pt())))
    }

    fn new_source(&mut self, ssrc: u32, mid: Option<Mid>, out: &mut Vec<Output>) {
        let known = self.rtc.direct_api().stream_rx(&ssrc.into()).map(|stream| stream.mid());
        let Some(mid) = known.or(mid) else { return };
        for replaced in self.heard.add(ssrc.into(), mid) {
            self.forget(replaced, out);
        }
        out.push(Output::Track { mid: mid.to_string() });
    }

    fn forget(&mut self, ssrc: u32, out: &mut Vec<Output>) {
        self.rtc.direct_api().remove_stream_rx(ssrc.into());
        out.push(Output::Forget { ssrc });
    }

    fn stands(&mut self, out: &mut Vec<Output>) {
        if self.state != State::Ended {
            self.state = State::Connected;
            out.push(Output::Connected);
        }
    }

    fn end(&mut self, why: &'static str, out: &mut Vec<Output>) {
        if self.state == State::Ended {
            return;
        }
        self.state = State::Ended;
        self.timeout = far(self.timeout);
        out.extend(self.heard.sources().map(|ssrc| Output::Forget { ssrc }));
        out.push(Output::Ended(why));
    }

    /// Say good-bye to the far end, which may be gone. Nothing is told any more.
    pub fn close(&mut self, now: Instant) {
        let _ = self.rtc.close();
        let mut unheard = vec![];
        self.state = State::Ended;
        for _ in 0..64 {
            match self.rtc.poll_output() {
                Ok(str0m::Output::Transmit(packet)) => {
                    self.socket.send(&packet.contents, packet.destination);
                }
                Ok(str0m::Output::Event(event)) => self.event(event, now, &mut unheard),
                _ => break,
            }
        }
    }
}

fn word_of(error: &RtcError) -> &'static str {
    match error {
        RtcError::RemoteSdp(_) => "sdp",
        // The far end hung up before the association stood.
        RtcError::Sctp(_) => "remote",
        _ => "fault",
    }
}

/// A time that never comes.
fn far(from: Instant) -> Instant {
    from + Duration::from_secs(3600 * 24 * 365)
}

/// RFC 3550 5.1: the initial value SHOULD be random. Below 2**15, see `Numbering`.
fn first_sequence(local: SocketAddr) -> u16 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(local.port()) as u16 & 0x7fff
}
