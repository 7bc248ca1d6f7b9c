//! The threads of the core, for `bridge.media.direct`.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::time::Duration;

use pyo3::exceptions::{PyKeyError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use trunkbridge_core::engine::{
    CallStats, Config, Engine, Event, Parting, Refused, Turns, network,
};
use trunkbridge_core::types::{CarrierSetup, Crypto, Law, Levels, MasterKey, Negotiated};

use crate::playout::TapReader;

/// (secret, mki, lifetime)
type Key = (Vec<u8>, Vec<u8>, Option<u64>);
/// (suite, key that we send with, keys that we receive with, window of replay protection)
type Keys = (String, Key, Vec<Key>, Option<usize>);

#[pyclass(frozen, name = "Core", module = "trunkbridge_native")]
struct Core {
    engine: Engine,
}

#[pymethods]
impl Core {
    #[new]
    #[pyo3(signature = (*, threads=1, priority=10, tick=0.0025))]
    fn new(threads: usize, priority: i32, tick: f64) -> PyResult<Self> {
        if !(1..=64).contains(&threads) || !(0..=99).contains(&priority) {
            return Err(PyValueError::new_err("threads: 1 to 64; priority: 0 to 99"));
        }
        let tick = seconds("tick", tick)?;
        let engine = Engine::start(Config { threads, priority, tick })?;
        Ok(Core { engine })
    }

    fn fileno(&self) -> RawFd {
        self.engine.fileno()
    }

    fn drain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let told = PyList::empty(py);
        for (call, event) in self.engine.drain() {
            told.append(note(py, call, event)?)?;
        }
        Ok(told)
    }

    fn turns(&self) -> CoreTurns {
        CoreTurns::of(self.engine.turns())
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.engine.stop());
    }

    #[pyo3(signature = (rtp_fd, rtcp_fd, *, ssrc, sequence, timestamp, track="PCMU", signalling, allow, cname))]
    #[allow(clippy::too_many_arguments)]
    fn open(
        &self,
        rtp_fd: RawFd,
        rtcp_fd: RawFd,
        ssrc: u32,
        sequence: u16,
        timestamp: u32,
        track: &str,
        signalling: &str,
        allow: Vec<String>,
        cname: String,
    ) -> PyResult<u64> {
        let allowed = |text: &String| {
            network(text).ok_or_else(|| PyValueError::new_err("allow: not a network"))
        };
        let setup = CarrierSetup {
            ssrc,
            sequence,
            timestamp,
            track: law(track)?,
            // A name, or nothing: the peer of the dialog gives no hint.
            signalling: signalling.parse::<IpAddr>().ok().map(|address| address.to_canonical()),
            allow: allow.iter().map(allowed).collect::<PyResult<_>>()?,
            cname,
        };
        self.engine.open(rtp_fd, rtcp_fd, setup).map_err(|e| PyOSError::new_err(e.to_string()))
    }

    #[pyo3(signature = (
        call, *, remote, remote_rtcp_port, codec, payload_type, receive_codecs,
        dtmf_payload_type, receive_dtmf_payload_type, ptime, crypto
    ))]
    #[allow(clippy::too_many_arguments)]
    fn connect(
        &self,
        call: u64,
        remote: Option<(String, u16)>,
        remote_rtcp_port: u16,
        codec: &str,
        payload_type: u8,
        receive_codecs: Vec<(u8, String)>,
        dtmf_payload_type: Option<u8>,
        receive_dtmf_payload_type: Option<u8>,
        ptime: u32,
        crypto: Option<Keys>,
    ) -> PyResult<()> {
        let receive = receive_codecs.iter().map(|(format, codec)| Ok((*format, law(codec)?)));
        let negotiated = Negotiated {
            remote: remote.and_then(|(host, port)| address(&host, port)),
            remote_rtcp_port,
            send: law(codec)?,
            payload_type,
            receive: receive.collect::<PyResult<_>>()?,
            dtmf_payload_type,
            receive_dtmf_payload_type,
            ptime: ptime.clamp(10, 60),
            crypto: crypto.map(keys),
        };
        self.engine.connect(call, negotiated).map_err(refused)
    }

    #[pyo3(signature = (call, *, transmit, agent_audio, caller_audio, watchdog, watchdog_initial))]
    fn apply(
        &self,
        call: u64,
        transmit: bool,
        agent_audio: bool,
        caller_audio: bool,
        watchdog: Option<f64>,
        watchdog_initial: Option<f64>,
    ) -> PyResult<()> {
        let watchdog = watchdog.map(|time| seconds("watchdog", time)).transpose()?;
        let initial = watchdog_initial.map(|time| seconds("watchdog_initial", time)).transpose()?;
        let levels =
            Levels { transmit, agent_audio, caller_audio, watchdog, watchdog_initial: initial };
        self.engine.apply(call, levels).map_err(refused)
    }

    fn send_dtmf(&self, call: u64, digits: String) -> PyResult<()> {
        self.engine.send_dtmf(call, digits).map_err(refused)
    }

    fn stats(&self, call: u64) -> PyResult<CoreStats> {
        let stats = self.engine.stats(call).ok_or_else(|| PyKeyError::new_err(call))?;
        Ok(CoreStats::of(&stats))
    }

    #[pyo3(signature = (call, *, goodbye=true))]
    fn hang_up(&self, call: u64, goodbye: bool) -> PyResult<()> {
        let parting = if goodbye { Parting::Goodbye } else { Parting::Handover };
        self.engine.hang_up(call, parting).map_err(refused)
    }

    fn tap(&self, call: u64) -> PyResult<TapReader> {
        let reader = self.engine.tap(call).map_err(refused)?;
        reader.map(TapReader::new).ok_or_else(|| PyKeyError::new_err(call))
    }

    fn close(&self, call: u64) -> PyResult<()> {
        self.engine.close(call).map_err(refused)
    }

    #[pyo3(signature = (call, side, *, address, track, receivers))]
    fn peer_open(
        &self,
        call: u64,
        side: u8,
        address: &str,
        track: Option<String>,
        receivers: u32,
    ) -> PyResult<()> {
        let address = address.parse::<IpAddr>();
        let address = address.map_err(|_| PyValueError::new_err("address: no IP address"))?;
        self.engine.peer_open(call, checked(side)?, address, track, receivers).map_err(refused)
    }

    fn peer_answer(&self, call: u64, side: u8, sdp: String) -> PyResult<()> {
        self.engine.peer_answer(call, checked(side)?, sdp).map_err(refused)
    }

    fn peer_offer(&self, call: u64, side: u8, sdp: String) -> PyResult<()> {
        self.engine.peer_offer(call, checked(side)?, sdp).map_err(refused)
    }

    fn peer_candidate(&self, call: u64, side: u8, text: String) -> PyResult<()> {
        self.engine.peer_candidate(call, checked(side)?, text).map_err(refused)
    }

    fn peer_receivers(&self, call: u64, side: u8, count: u32) -> PyResult<()> {
        self.engine.peer_receivers(call, checked(side)?, count).map_err(refused)
    }

    fn peer_restart_ice(&self, call: u64, side: u8) -> PyResult<()> {
        self.engine.peer_restart_ice(call, checked(side)?).map_err(refused)
    }

    fn peer_send(&self, call: u64, label: String, data: Vec<u8>) -> PyResult<()> {
        self.engine.peer_send(call, label, data).map_err(refused)
    }

    fn peer_mute(&self, call: u64, muted: bool) -> PyResult<()> {
        self.engine.mute(call, muted).map_err(refused)
    }

    fn peer_close(&self, call: u64, side: u8) -> PyResult<()> {
        self.engine.peer_close(call, checked(side)?).map_err(refused)
    }
}

/// All media threads together.
#[pyclass(frozen, get_all, name = "Turns", module = "trunkbridge_native")]
struct CoreTurns {
    turns: u64,
    late: f64,
    missed: u64,
    datagrams: u64,
    calls: usize,
    faults: u64,
    realtime: bool,
    behind: f64,
}

impl CoreTurns {
    fn of(turns: Turns) -> Self {
        CoreTurns {
            turns: turns.turns,
            late: turns.late.as_secs_f64(),
            missed: turns.missed,
            datagrams: turns.datagrams,
            calls: turns.calls,
            faults: turns.faults,
            realtime: turns.realtime,
            behind: turns.behind.as_secs_f64(),
        }
    }
}

/// One call: the carrier's side first, `room_*` what the server reports of our track and what
/// we play of its tracks.
#[pyclass(frozen, get_all, name = "CallStats", module = "trunkbridge_native")]
struct CoreStats {
    packets_received: u64,
    packets_sent: u64,
    packets_lost: u64,
    packets_refused: u64,
    packets_unauthentic: u64,
    packets_forwarded: u64,
    jitter_ms: f64,
    round_trip_ms: Option<f64>,
    packets_late: u64,
    packets_shed: u64,
    room_packets_sent: u64,
    room_packets_silence: u64,
    room_packets_received: u64,
    room_packets_lost: u64,
    room_round_trip_ms: Option<f64>,
    room_loss: Option<f32>,
    room_jitter_ms: f64,
    playout_lost: u64,
    playout_concealed_ms: u64,
    playout_fec_ms: u64,
    playout_target_ms: f32,
    playout_depth_ms: f32,
    playout_wait_mean_ms: f32,
    playout_wait_max_ms: f32,
    playout_jitter_ms: f32,
}

impl CoreStats {
    fn of(stats: &CallStats) -> Self {
        let CallStats { carrier, playout, peers, silence } = stats;
        let round_trip = peers[0].round_trip;
        CoreStats {
            packets_received: carrier.packets_received,
            packets_sent: carrier.packets_sent,
            packets_lost: carrier.packets_lost,
            packets_refused: carrier.packets_refused,
            packets_unauthentic: carrier.packets_unauthentic,
            packets_forwarded: carrier.packets_forwarded,
            jitter_ms: carrier.jitter_ms,
            round_trip_ms: carrier.round_trip_ms,
            packets_late: playout.late,
            packets_shed: playout.shed_ms / 20,
            room_packets_sent: peers[0].sent,
            room_packets_silence: *silence,
            room_packets_received: peers[0].received + peers[1].received,
            room_packets_lost: peers[0].lost,
            room_round_trip_ms: round_trip.map(|time| time.as_secs_f64() * 1000.0),
            room_loss: peers[0].loss,
            room_jitter_ms: f64::from(peers[0].jitter) / 8.0,
            playout_lost: playout.lost,
            playout_concealed_ms: playout.concealed_ms,
            playout_fec_ms: playout.fec_ms,
            playout_target_ms: playout.target_ms,
            playout_depth_ms: playout.depth_ms,
            playout_wait_mean_ms: playout.wait_mean_ms,
            playout_wait_max_ms: playout.wait_max_ms,
            playout_jitter_ms: playout.jitter_ms,
        }
    }
}

/// *event* of *call* as Python reads it: (call, kind, fields…).
fn note<'py>(py: Python<'py>, call: u64, event: Event) -> PyResult<Bound<'py, PyTuple>> {
    match event {
        Event::Offer { side, sdp } => (call, "offer", side, sdp).into_pyobject(py),
        Event::Answer { side, sdp } => (call, "answer", side, sdp).into_pyobject(py),
        Event::Connected { side } => (call, "connected", side).into_pyobject(py),
        Event::Disconnected { side } => (call, "disconnected", side).into_pyobject(py),
        Event::PeerClosed { side, why } => (call, "peer_closed", side, why).into_pyobject(py),
        Event::Channel { side, label, stream } => {
            (call, "channel", side, label, stream).into_pyobject(py)
        }
        Event::Data { side, label, data } => {
            (call, "data", side, label, PyBytes::new(py, &data)).into_pyobject(py)
        }
        Event::Delivered { side, label, count } => {
            (call, "delivered", side, label, count).into_pyobject(py)
        }
        Event::Track { side, mid } => (call, "track", side, mid).into_pyobject(py),
        Event::TimedOut { ever } => (call, "timed_out", ever).into_pyobject(py),
        Event::Key { digit, duration_ms } => (call, "key", digit, duration_ms).into_pyobject(py),
        Event::NotAuthentic => (call, "not_authentic").into_pyobject(py),
        Event::HungUp { sequence, timestamp, packets } => {
            (call, "hung_up", sequence, timestamp, packets).into_pyobject(py)
        }
        Event::Closed { sequence, timestamp, packets } => {
            (call, "closed", sequence, timestamp, packets).into_pyobject(py)
        }
        Event::Fault(text) => (call, "fault", text).into_pyobject(py),
    }
}

fn law(name: &str) -> PyResult<Law> {
    match name {
        "PCMU" => Ok(Law::Mu),
        "PCMA" => Ok(Law::A),
        _ => Err(PyValueError::new_err("codec: PCMU or PCMA")),
    }
}

/// `None`: a name that is no address, or no port; nothing is sent there.
fn address(host: &str, port: u16) -> Option<SocketAddr> {
    let address = host.parse::<IpAddr>().ok()?;
    (port != 0).then(|| SocketAddr::new(address.to_canonical(), port))
}

fn keys((suite, send, receive, window): Keys) -> Crypto {
    let key = |(secret, mki, lifetime): Key| MasterKey { secret, mki, lifetime };
    Crypto { suite, send: key(send), receive: receive.into_iter().map(key).collect(), window }
}

fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    let checked = Duration::try_from_secs_f64(value);
    checked.map_err(|_| PyValueError::new_err(format!("{name}: not a time")))
}

fn checked(side: u8) -> PyResult<u8> {
    if side < 2 { Ok(side) } else { Err(PyValueError::new_err("side: 0 or 1")) }
}

fn refused(why: Refused) -> PyErr {
    match why {
        Refused::Unavailable => PyRuntimeError::new_err("the media threads take no commands"),
        Refused::Unsendable => PyValueError::new_err("a message of 0 or more than 64 KiB"),
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Core>()?;
    module.add_class::<CoreTurns>()?;
    module.add_class::<CoreStats>()
}
