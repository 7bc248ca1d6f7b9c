//! The carrier's side alone, on a clock of the test's: replays the RTP vectors.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use trunkbridge_core::carrier::Carrier;
use trunkbridge_core::types::{
    CarrierNotice, CarrierSetup, Crypto, Law, Levels, MasterKey, Negotiated,
};

/// Seconds from 1900 to 1970: NTP time is then the test's own.
const NTP_TO_UNIX: Duration = Duration::from_secs(2_208_988_800);

type Address = (String, u16);
/// Sequence, timestamp, marker, level in dBov, payload in the track's law.
type Forwarded<'py> = (u64, u32, bool, i8, Bound<'py, PyBytes>);
/// A datagram and where it goes.
type Sent<'py> = (Bound<'py, PyBytes>, Address);
/// Master key and salt, its identifier, its lifetime in packets.
type Key = (Vec<u8>, Vec<u8>, Option<u64>);
/// Suite, our key, theirs, replay window.
type Keys = (String, Key, Vec<Key>, Option<usize>);

/// One call's carrier side; `now` is seconds on the test's clock, from 0.
#[pyclass]
struct CarrierReplay {
    carrier: Carrier,
    start: Instant,
    own: Vec<SocketAddr>,
}

#[pymethods]
impl CarrierReplay {
    #[new]
    #[pyo3(signature = (*, signalling, allow, own, track, ssrc=1, sequence=0, timestamp=0, cname=""))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        signalling: &str,
        allow: Vec<String>,
        own: Vec<Address>,
        track: &str,
        ssrc: u32,
        sequence: u16,
        timestamp: u32,
        cname: &str,
    ) -> PyResult<CarrierReplay> {
        let networks: Result<Vec<_>, _> = allow.iter().map(|text| text.parse()).collect();
        let setup = CarrierSetup {
            ssrc,
            sequence,
            timestamp,
            track: law(track)?,
            signalling: address(signalling),
            allow: networks.map_err(|_| PyValueError::new_err("no network"))?,
            cname: cname.to_owned(),
        };
        let start = Instant::now();
        let own = own.iter().filter_map(socket_address).collect();
        Ok(CarrierReplay { carrier: Carrier::new(setup, start), start, own })
    }

    #[pyo3(signature = (now, *, remote, receive_codecs, receive_dtmf_payload_type, remote_rtcp_port=0,
        codec="PCMA", payload_type=8, dtmf_payload_type=None, ptime=20, crypto=None))]
    #[allow(clippy::too_many_arguments)]
    fn connect(
        &mut self,
        now: f64,
        remote: Option<Address>,
        receive_codecs: Vec<(u8, String)>,
        receive_dtmf_payload_type: Option<u8>,
        remote_rtcp_port: u16,
        codec: &str,
        payload_type: u8,
        dtmf_payload_type: Option<u8>,
        ptime: u32,
        crypto: Option<Keys>,
    ) -> PyResult<()> {
        let receive: PyResult<Vec<_>> =
            receive_codecs.iter().map(|(number, name)| Ok((*number, law(name)?))).collect();
        let negotiated = Negotiated {
            remote: remote.as_ref().and_then(socket_address),
            remote_rtcp_port,
            send: law(codec)?,
            payload_type,
            receive: receive?,
            dtmf_payload_type,
            receive_dtmf_payload_type,
            ptime,
            crypto: crypto.map(keys),
        };
        let (now, own) = (self.at(now)?, &self.own);
        self.carrier
            .connect(negotiated, &|source| own.contains(&source), now)
            .map_err(|why| PyValueError::new_err(why.0))
    }

    #[pyo3(signature = (now, *, transmit, agent_audio, caller_audio, watchdog=None, watchdog_initial=None))]
    fn apply(
        &mut self,
        now: f64,
        transmit: bool,
        agent_audio: bool,
        caller_audio: bool,
        watchdog: Option<f64>,
        watchdog_initial: Option<f64>,
    ) -> PyResult<()> {
        let watchdog = watchdog.map(seconds).transpose()?;
        let watchdog_initial = watchdog_initial.map(seconds).transpose()?;
        let levels = Levels { transmit, agent_audio, caller_audio, watchdog, watchdog_initial };
        let now = self.at(now)?;
        self.carrier.apply(levels, now);
        Ok(())
    }

    fn window(&mut self, now: f64) -> PyResult<()> {
        let now = self.at(now)?;
        self.carrier.open_window(now);
        Ok(())
    }

    fn send_dtmf(&mut self, digits: &str) {
        self.carrier.send_dtmf(digits);
    }

    /// Take a datagram of the RTP socket: whether it counted, and what the room gets of it.
    fn receive<'py>(
        &mut self,
        py: Python<'py>,
        data: &[u8],
        source: Address,
        now: f64,
    ) -> PyResult<(bool, Option<Forwarded<'py>>)> {
        let now = self.at(now)?;
        let from = socket_address(&source);
        let from = from.ok_or_else(|| PyValueError::new_err("no address"))?;
        let before = self.carrier.stats().packets_received;
        let (own, mut datagram) = (&self.own, data.to_vec());
        let forward =
            self.carrier.receive(&mut datagram, from, &|source| own.contains(&source), now);
        let forwarded = forward.map(|packet| {
            let payload = PyBytes::new(py, packet.payload);
            (packet.sequence, packet.timestamp, packet.marker, packet.level, payload)
        });
        Ok((self.carrier.stats().packets_received > before, forwarded))
    }

    fn receive_rtcp(&mut self, data: &[u8], source: Address, now: f64) -> PyResult<()> {
        let now = self.at(now)?;
        if let Some(from) = socket_address(&source) {
            self.carrier.receive_rtcp(&mut data.to_vec(), from, now);
        }
        Ok(())
    }

    fn samples(&self) -> usize {
        self.carrier.samples()
    }

    fn wants_audio(&self) -> bool {
        self.carrier.wants_audio()
    }

    /// Return the next packet of the clock; *pcm* is 16-bit little-endian.
    #[pyo3(signature = (pcm, now))]
    fn send<'py>(
        &mut self,
        py: Python<'py>,
        pcm: Option<&[u8]>,
        now: f64,
    ) -> PyResult<Option<Sent<'py>>> {
        let now = self.at(now)?;
        let pcm: Option<Vec<i16>> = pcm.map(|bytes| {
            bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
        });
        let mut out = Vec::new();
        let to = self.carrier.send(pcm.as_deref(), &mut out, now);
        Ok(sent(py, to, &out))
    }

    fn skip(&mut self, packets: u32) {
        self.carrier.skip(packets);
    }

    /// Look after keys and silence; return a report that is due.
    fn poll<'py>(&mut self, py: Python<'py>, now: f64) -> PyResult<Option<Sent<'py>>> {
        let (at, wall) = (self.at(now)?, wall(now)?);
        let mut out = Vec::new();
        let to = self.carrier.poll(at, wall, &mut out);
        Ok(sent(py, to, &out))
    }

    fn goodbye<'py>(&mut self, py: Python<'py>, now: f64) -> PyResult<Option<Sent<'py>>> {
        let (at, wall) = (self.at(now)?, wall(now)?);
        let mut out = Vec::new();
        let to = self.carrier.goodbye(at, wall, &mut out);
        Ok(sent(py, to, &out))
    }

    /// Return what happened: ("key", digit, ms), ("timed_out", ever), ("not_authentic",).
    fn notices<'py>(&mut self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let tell = |notice| match notice {
            CarrierNotice::Key { digit, duration_ms } => {
                Ok(("key", digit, duration_ms).into_pyobject(py)?.into_any())
            }
            CarrierNotice::TimedOut { ever } => {
                Ok(("timed_out", ever).into_pyobject(py)?.into_any())
            }
            CarrierNotice::NotAuthentic => Ok(("not_authentic",).into_pyobject(py)?.into_any()),
        };
        self.carrier.take_notices().into_iter().map(tell).collect()
    }

    fn target(&self) -> Option<Address> {
        self.carrier.target().map(text)
    }

    fn position(&self) -> (u16, u32, u64) {
        self.carrier.position()
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.carrier.stats();
        let told = PyDict::new(py);
        told.set_item("received", stats.packets_received)?;
        told.set_item("refused", stats.packets_refused)?;
        told.set_item("lost", stats.packets_lost)?;
        told.set_item("sent", stats.packets_sent)?;
        told.set_item("forwarded", stats.packets_forwarded)?;
        told.set_item("unauthentic", stats.packets_unauthentic)?;
        told.set_item("jitter_ms", stats.jitter_ms)?;
        told.set_item("round_trip_ms", stats.round_trip_ms)?;
        Ok(told)
    }
}

impl CarrierReplay {
    fn at(&self, now: f64) -> PyResult<Instant> {
        let at = self.start.checked_add(seconds(now)?);
        at.ok_or_else(|| PyValueError::new_err("no time"))
    }
}

fn seconds(value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value).map_err(|_| PyValueError::new_err("no time"))
}

fn wall(now: f64) -> PyResult<SystemTime> {
    Ok(SystemTime::UNIX_EPOCH - NTP_TO_UNIX + seconds(now)?)
}

fn law(name: &str) -> PyResult<Law> {
    match name {
        "PCMU" => Ok(Law::Mu),
        "PCMA" => Ok(Law::A),
        _ => Err(PyValueError::new_err("no law")),
    }
}

fn keys((suite, send, receive, window): Keys) -> Crypto {
    let master = |(secret, mki, lifetime)| MasterKey { secret, mki, lifetime };
    let receive = receive.into_iter().map(master).collect();
    Crypto { suite, send: master(send), receive, window }
}

/// The address in *text*, without a zone; nothing when it is none.
fn address(text: &str) -> Option<IpAddr> {
    text.split('%').next()?.parse().ok()
}

fn socket_address((text, port): &Address) -> Option<SocketAddr> {
    Some(SocketAddr::new(address(text)?, *port))
}

fn text(address: SocketAddr) -> Address {
    (address.ip().to_string(), address.port())
}

fn sent<'py>(py: Python<'py>, to: Option<SocketAddr>, out: &[u8]) -> Option<Sent<'py>> {
    to.map(|to| (PyBytes::new(py, out), text(to)))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<CarrierReplay>()
}
