//! The room's side: a stand-in SFU, or a participant's media at a real one, for many rooms at once.
//!
//! Each leg sends the same pre-encoded Opus, 50 packets a second, and takes what comes. One thread,
//! a tick of 1 ms; as an SFU one socket for all, as participants one for each (a real server tells its
//! clients by their address). `sfu pack=FILE [marker=FILE]`; with `marker` leg 0 plays that
//! second, whose burst begins with packet 45. Orders (`SDP` has the octet 0x1f for CRLF):
//! - `offer N SDP`: as an SFU, answered by `{"answer":N,"sdp":SDP}`;
//! - `join N`: as a participant of a room, answered by `{"offer":N,"sdp":SDP}` (two data channels, a
//!   section to receive, one to send Opus); `answer N SDP` takes the answer, `candidate N TEXT` one candidate;
//! - `more N COUNT`: offer COUNT sections more to receive (0: as it is);
//! - `close N`; `zero`: forget what was counted; `stats`: tell.
//!
//! Told without being asked: `{"connected":N}`. `stats` are of all legs: `sent`, `own` (how late they
//! were sent), `received`, `lost`, `codecs`, `delay` (of payloads that begin with their time), and of
//! leg 0 the marker's `marks` and the bursts `heard` (CLOCK_REALTIME, ns).

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::channel::{ChannelConfig, Reliability};
use str0m::config::{CryptoProvider, DtlsCert};
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{Extension, RtpPacket, RtpWrite};
use str0m::{Candidate, Event, Input, Output, Rtc};
use trunkbridge_bench::clock::{self, PTIME, SECOND};
use trunkbridge_bench::json::Object;
use trunkbridge_bench::lines::{Options, orders, say};
use trunkbridge_bench::onset::Onset;
use trunkbridge_bench::opus::{Decoder, LONGEST};
use trunkbridge_bench::rtp::Seen;
use trunkbridge_bench::udp::{Epoll, Udp};
use trunkbridge_bench::{g711, pack};

const TICK: u64 = 1_000_000;
const OPUS: u8 = 111;
/// Packet of the marker's second with which the burst begins.
const BURST: u64 = 45;
/// A stamp older than this is none.
const PLAUSIBLE: u64 = 5 * SECOND;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

struct Leg {
    number: usize,
    rtc: Rtc,
    udp: Rc<Udp>,
    pending: Option<SdpPendingOffer>,
    mid: Option<Mid>,
    up: bool,
    /// When str0m next needs time.
    wakes: Instant,
    /// When the next packet is due (CLOCK_MONOTONIC, ns).
    due: u64,
    turn: u64,
    seen: HashMap<u32, Seen>,
}

struct Sfu {
    udp: Rc<Udp>,
    /// The sockets of participants, by their numbers.
    own: Epoll,
    provider: Arc<CryptoProvider>,
    certificate: DtlsCert,
    packets: Vec<Arc<[u8]>>,
    marker: Option<Vec<Arc<[u8]>>>,
    legs: BTreeMap<usize, Leg>,
    by_address: HashMap<SocketAddr, usize>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    sent: u64,
    own: Vec<u64>,
    delays: Vec<u64>,
    codecs: BTreeMap<u8, u64>,
    marks: Vec<u64>,
    decoder: Decoder,
    onset: Onset,
}

fn main() {
    let options = Options::read();
    clock::be_punctual();
    let orders = orders();
    let mut sfu = Sfu::new(&options).expect("a socket and a certificate");
    say(&Object::default().raw("port", sfu.udp.local.port()).end());
    let (mut buffer, mut ready) = ([0u8; 2048], Vec::new());
    loop {
        clock::sleep_until((clock::monotonic() / TICK + 1) * TICK);
        while let Ok(line) = orders.try_recv() {
            if let Err(error) = sfu.obey(&line) {
                let what = line.split(' ').take(2).collect::<Vec<_>>().join(" ");
                let text = format!("{what}: {error}").replace(['"', '\\', '\n'], " ");
                say(&Object::default().raw("error", format!("\"{text}\"")).end());
            }
        }
        while let Some((length, from, at)) = sfu.udp.receive(&mut buffer) {
            sfu.take(&buffer[..length], from, at);
        }
        sfu.own.ready(&mut ready);
        for number in &ready {
            let Some(leg) = sfu.legs.get_mut(&(*number as usize)) else { continue };
            while let Some((length, from, at)) = leg.udp.receive(&mut buffer) {
                leg.take(&buffer[..length], from, at, &mut sfu.counts);
            }
        }
        sfu.play();
    }
}

impl Sfu {
    fn new(options: &Options) -> Outcome<Sfu> {
        let read = |name: &str| -> Option<Vec<Arc<[u8]>>> {
            let packets = pack::read(Path::new(options.text(name)?)).expect("a pack");
            Some(packets.into_iter().map(Arc::from).collect())
        };
        let provider = Arc::new(str0m::crypto::from_feature_flags());
        let certificate =
            provider.dtls_provider.generate_certificate().ok_or("no certificate was made")?;
        Ok(Sfu {
            udp: Rc::new(Udp::bind(16 << 20)?),
            own: Epoll::new()?,
            provider,
            certificate,
            packets: read("pack").expect("pack=FILE"),
            marker: read("marker"),
            legs: BTreeMap::new(),
            by_address: HashMap::new(),
            counts: Counts::default(),
        })
    }

    fn obey(&mut self, line: &str) -> Outcome<()> {
        let mut words = line.splitn(3, ' ');
        let (order, number) = (words.next().unwrap_or_default(), words.next().map(str::parse));
        let rest = words.next().unwrap_or_default().replace('\u{1f}', "\r\n");
        match (order, number) {
            ("zero", None) => self.zero(),
            ("stats", None) => say(&self.stats()),
            ("offer", Some(Ok(n))) => self.answer(n, &rest)?,
            ("join", Some(Ok(n))) => self.join(n)?,
            ("answer", Some(Ok(n))) => self.accept(n, &rest)?,
            ("candidate", Some(Ok(n))) => {
                let leg = self.legs.get_mut(&n).ok_or("no such leg")?;
                leg.rtc.add_remote_candidate(Candidate::from_sdp_string(&rest)?);
                leg.drain(&mut self.counts);
            }
            ("more", Some(Ok(n))) => self.more(n, rest.parse()?)?,
            ("close", Some(Ok(n))) => {
                if let Some(mut leg) = self.legs.remove(&n) {
                    let _ = leg.rtc.close();
                    leg.drain(&mut self.counts);
                    self.by_address.retain(|_, number| *number != n);
                }
            }
            _ => return Err("not understood".into()),
        }
        Ok(())
    }

    fn leg(&self, number: usize, udp: Rc<Udp>) -> Outcome<Leg> {
        let now = Instant::now();
        let mut rtc = Rtc::builder()
            .set_crypto_provider(self.provider.clone())
            .set_rtp_mode(true)
            .set_dtls_cert(self.certificate.clone())
            .set_stats_interval(None)
            .clear_codecs()
            .enable_opus(true, false)
            .enable_pcmu(true, false)
            .enable_pcma(true, false)
            .clear_extension_map()
            .set_extension(1, Extension::AudioLevel)
            .set_extension(4, Extension::RtpMid)
            .build(now);
        rtc.add_local_candidate(Candidate::host(udp.local, "udp")?);
        let start = clock::monotonic() + 2 * PTIME;
        Ok(Leg {
            number,
            rtc,
            udp,
            pending: None,
            mid: None,
            up: false,
            wakes: now,
            // The golden ratio spreads any number of phases evenly; whole ticks.
            due: (start / PTIME) * PTIME
                + ((number as f64 * 0.618_033_988_75).fract() * 20.0) as u64 * TICK,
            turn: 17 * number as u64,
            seen: HashMap::new(),
        })
    }

    fn answer(&mut self, number: usize, sdp: &str) -> Outcome<()> {
        let offer = SdpOffer::from_sdp_string(sdp)?;
        let mut leg = match self.legs.remove(&number) {
            Some(leg) => leg,
            None => self.leg(number, self.udp.clone())?,
        };
        let answer = leg.rtc.sdp_api().accept_offer(offer)?;
        tell_sdp("answer", number, &answer.to_sdp_string());
        leg.drain(&mut self.counts);
        self.legs.insert(number, leg);
        Ok(())
    }

    fn join(&mut self, number: usize) -> Outcome<()> {
        let udp = Rc::new(Udp::bind(1 << 18)?);
        self.own.add(&udp, number as u64)?;
        let mut leg = self.leg(number, udp)?;
        let mut api = leg.rtc.sdp_api();
        // Receive sections come first: the server puts its tracks on the first idle one.
        api.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None);
        let (stream, track) = (Some("bench".into()), Some("mic".into()));
        leg.mid = Some(api.add_media(MediaKind::Audio, Direction::SendOnly, stream, track, None));
        api.add_channel("_reliable".into());
        api.add_channel_with_config(ChannelConfig {
            label: "_lossy".into(),
            ordered: false,
            reliability: Reliability::MaxRetransmits { retransmits: 0 },
            ..Default::default()
        });
        let (offer, pending) = api.apply().ok_or("nothing to offer")?;
        leg.pending = Some(pending);
        tell_sdp("offer", number, &offer.to_sdp_string());
        leg.drain(&mut self.counts);
        self.legs.insert(number, leg);
        Ok(())
    }

    fn accept(&mut self, number: usize, sdp: &str) -> Outcome<()> {
        let leg = self.legs.get_mut(&number).ok_or("no such leg")?;
        let pending = leg.pending.take().ok_or("no offer is pending")?;
        leg.rtc.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(sdp)?)?;
        leg.drain(&mut self.counts);
        Ok(())
    }

    fn more(&mut self, number: usize, count: usize) -> Outcome<()> {
        let leg = self.legs.get_mut(&number).ok_or("no such leg")?;
        let mut api = leg.rtc.sdp_api();
        for _ in 0..count.max(1) {
            // str0m makes no offer without a change, so 0 also adds one.
            api.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None);
        }
        let (offer, pending) = api.apply().ok_or("nothing to offer")?;
        leg.pending = Some(pending);
        tell_sdp("offer", number, &offer.to_sdp_string());
        Ok(())
    }

    fn take(&mut self, data: &[u8], from: SocketAddr, at: u64) {
        let known = self.by_address.get(&from).copied();
        let number = known.or_else(|| {
            let received = Receive::new(Protocol::Udp, from, self.udp.local, data).ok()?;
            let input = Input::Receive(Instant::now(), received);
            let found = self.legs.values().find(|leg| leg.rtc.accepts(&input))?.number;
            self.by_address.insert(from, found);
            Some(found)
        });
        let Some(leg) = number.and_then(|number| self.legs.get_mut(&number)) else { return };
        leg.take(data, from, at, &mut self.counts);
    }

    /// Send what is due, and give str0m its time.
    fn play(&mut self) {
        let (now, at) = (Instant::now(), clock::monotonic());
        for leg in self.legs.values_mut() {
            if leg.wakes <= now {
                let _ = leg.rtc.handle_input(Input::Timeout(now));
                leg.drain(&mut self.counts);
            }
            while leg.due <= at {
                let due = leg.due;
                leg.due += PTIME;
                let Some(mid) = leg.mid.filter(|_| leg.up) else { continue };
                let marker = self.marker.as_ref().filter(|_| leg.number == 0);
                let packets = marker.unwrap_or(&self.packets);
                let place = leg.turn % packets.len() as u64;
                if marker.is_some() && place == BURST {
                    self.counts.marks.push(clock::realtime());
                }
                let mut api = leg.rtc.direct_api();
                let Some(stream) = api.stream_tx_by_mid(mid, None) else { continue };
                let time = (leg.turn as u32).wrapping_mul(960);
                let payload = packets[place as usize].clone();
                // ROC 0: no run here is so long that sequence numbers wrap twice.
                let sequence = 100 + (leg.turn - 17 * leg.number as u64);
                stream.write_rtp(RtpWrite::new(OPUS.into(), sequence.into(), time, now, payload));
                leg.turn += 1;
                let _ = leg.rtc.handle_input(Input::Timeout(now));
                leg.drain(&mut self.counts);
                self.counts.sent += 1;
                self.counts.own.push(clock::monotonic() - due);
            }
        }
    }

    fn zero(&mut self) {
        let counts = &mut self.counts;
        counts.sent = 0;
        counts.codecs.clear();
        for list in
            [&mut counts.own, &mut counts.delays, &mut counts.marks, &mut counts.onset.heard]
        {
            list.clear();
        }
        for leg in self.legs.values_mut() {
            leg.seen.values_mut().for_each(Seen::zero);
        }
    }

    fn stats(&mut self) -> String {
        let seen: Vec<&Seen> = self.legs.values().flat_map(|leg| leg.seen.values()).collect();
        let codecs = self
            .counts
            .codecs
            .iter()
            .fold(Object::default(), |told, (pt, count)| told.raw(&pt.to_string(), count));
        let heard = |leg: &Leg| leg.seen.values().map(|seen| seen.received).sum::<u64>();
        Object::default()
            .raw("legs", self.legs.len())
            .raw("up", self.legs.values().filter(|leg| leg.up).count())
            .raw("sent", self.counts.sent)
            .raw("received", seen.iter().map(|seen| seen.received).sum::<u64>())
            .raw("lost", seen.iter().map(|seen| seen.lost).sum::<u64>())
            .raw("late", seen.iter().map(|seen| seen.late).sum::<u64>())
            .raw("silent", self.legs.values().filter(|leg| heard(leg) == 0).count())
            .raw("codecs", codecs.end())
            .durations("own", &mut self.counts.own.clone())
            .durations("delay", &mut self.counts.delays.clone())
            .list("marks", &self.counts.marks)
            .list("heard", &self.counts.onset.heard)
            .end()
    }
}

impl Leg {
    fn take(&mut self, data: &[u8], from: SocketAddr, at: u64, counts: &mut Counts) {
        let Ok(received) = Receive::new(Protocol::Udp, from, self.udp.local, data) else { return };
        if self.rtc.handle_input(Input::Receive(Instant::now(), received)).is_ok() {
            self.drain_at(counts, at);
        }
    }

    fn drain(&mut self, counts: &mut Counts) {
        self.drain_at(counts, clock::realtime());
    }

    /// Send and note what str0m has; `at` is when the packet came that made it so.
    fn drain_at(&mut self, counts: &mut Counts, at: u64) {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Transmit(sent)) => {
                    self.udp.send(&sent.contents, sent.destination);
                }
                Ok(Output::Timeout(wakes)) => {
                    self.wakes = wakes;
                    return;
                }
                Ok(Output::Event(Event::Connected)) => {
                    self.up = true;
                    say(&Object::default().raw("connected", self.number).end());
                }
                Ok(Output::Event(Event::MediaAdded(media)))
                    if media.direction == Direction::SendOnly && self.mid.is_none() =>
                {
                    self.mid = Some(media.mid);
                }
                Ok(Output::Event(Event::RtpPacket(packet))) => self.hear(&packet, counts, at),
                Ok(Output::Event(_)) => {}
                Err(_) => {
                    self.up = false;
                    self.wakes = Instant::now() + Duration::from_secs(3600);
                    return;
                }
            }
        }
    }

    fn hear(&mut self, packet: &RtpPacket, counts: &mut Counts, at: u64) {
        let payload_type = *packet.header.payload_type;
        self.seen.entry(*packet.header.ssrc).or_default().take(packet.header.sequence_number);
        *counts.codecs.entry(payload_type).or_default() += 1;
        let payload = &packet.payload;
        if payload.len() >= 8 && payload_type != OPUS {
            let stamp = u64::from_be_bytes(payload[..8].try_into().expect("eight"));
            if stamp <= at && at - stamp < PLAUSIBLE {
                counts.delays.push(at - stamp);
            }
        }
        if self.number != 0 {
            return;
        }
        match payload_type {
            0 => counts.onset.listen(payload.iter().map(|octet| g711::from_ulaw(*octet)), at),
            8 => counts.onset.listen(payload.iter().map(|octet| g711::from_alaw(*octet)), at),
            _ => {
                let mut pcm = [0i16; LONGEST];
                let count = counts.decoder.decode(payload, &mut pcm).unwrap_or(0);
                counts.onset.listen(pcm[..count].iter().copied(), at);
            }
        }
    }
}

fn tell_sdp(kind: &str, number: usize, sdp: &str) {
    let text = sdp.replace(['"', '\\'], "").replace("\r\n", "\\r\\n");
    say(&Object::default().raw(kind, number).raw("sdp", format!("\"{text}\"")).end());
}
