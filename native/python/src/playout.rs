//! The jitter buffers and decoders alone, for tests and measurements.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use trunkbridge_core::playout::{Mixer, RoomCodec};
use trunkbridge_core::tap::{Piece, Reader};
use trunkbridge_core::types::Law;

/// The payload type of Opus in RED.
const OPUS: u8 = 111;

/// Samples that one pull may ask for: a second.
const MAX_PULL: usize = 8000;

/// All the room's tracks of one call, on a clock of the caller's: times are seconds since any
/// moment, and never go back.
#[pyclass]
struct Playout {
    origin: Instant,
    mixer: Mixer,
    pcm: Vec<i16>,
}

impl Playout {
    fn at(&self, seconds: f64) -> PyResult<Instant> {
        Ok(self.origin + duration(seconds)?)
    }
}

#[pymethods]
impl Playout {
    #[new]
    fn new() -> Playout {
        let origin = Instant::now();
        Playout { origin, mixer: Mixer::new(origin), pcm: Vec::new() }
    }

    /// Take a packet; *codec* is `opus`, `red` (of Opus, payload type 111), `PCMU` or `PCMA`.
    #[pyo3(signature = (at, ssrc, sequence, timestamp, codec, payload))]
    fn push(
        &mut self,
        at: f64,
        ssrc: u32,
        sequence: u64,
        timestamp: u32,
        codec: &str,
        payload: &[u8],
    ) -> PyResult<()> {
        let now = self.at(at)?;
        let codec = match codec {
            "red" => {
                let (codec, of) = (RoomCodec::Opus, OPUS);
                self.mixer.push_red(ssrc, sequence, timestamp, codec, of, payload, now);
                return Ok(());
            }
            "opus" => RoomCodec::Opus,
            "PCMU" => RoomCodec::G711(Law::Mu),
            "PCMA" => RoomCodec::G711(Law::A),
            _ => return Err(PyValueError::new_err("codec is opus, red, PCMU or PCMA")),
        };
        self.mixer.push(ssrc, sequence, timestamp, codec, payload, now);
        Ok(())
    }

    /// Return the next *samples* of the mix (PCM16, 8 kHz), or `None` when there is nothing to
    /// say.
    fn pull<'py>(
        &mut self,
        py: Python<'py>,
        at: f64,
        samples: usize,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        if samples > MAX_PULL {
            return Err(PyValueError::new_err("more than a second"));
        }
        let now = self.at(at)?;
        self.pcm.clear();
        self.pcm.resize(samples, 0);
        if !self.mixer.pull(&mut self.pcm, now) {
            return Ok(None);
        }
        Ok(Some(pcm16(py, &self.pcm)))
    }

    /// Drop what waits: the gate is closed.
    fn discard(&mut self, at: f64) -> PyResult<()> {
        let now = self.at(at)?;
        self.mixer.discard(now);
        Ok(())
    }

    /// The track *ssrc* has ended.
    fn remove(&mut self, ssrc: u32) {
        self.mixer.remove(ssrc);
    }

    /// Seconds from *at* until the best next tick of a clock of *period* seconds.
    fn slot(&self, at: f64, period: f64) -> PyResult<Option<f64>> {
        Ok(self.mixer.slot(self.at(at)?, duration(period)?).map(|d| d.as_secs_f64()))
    }

    /// Seconds from *at* until the next packet has waited for its buffer where one clock tick
    /// takes *period*; less than 0: it has waited longer. `None`: nothing is playing.
    fn ready_in(&self, at: f64, period: f64) -> PyResult<Option<f64>> {
        let ready = self.mixer.ready_in(self.at(at)?, duration(period)?);
        Ok(ready.map(|ready| ready as f64 / 1e6))
    }

    /// What was counted, by the names of `PlayoutStats`.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.mixer.stats();
        let dict = PyDict::new(py);
        dict.set_item("packets", stats.packets)?;
        dict.set_item("lost", stats.lost)?;
        dict.set_item("late", stats.late)?;
        dict.set_item("invalid", stats.invalid)?;
        dict.set_item("concealed_ms", stats.concealed_ms)?;
        dict.set_item("fec_ms", stats.fec_ms)?;
        dict.set_item("shed_ms", stats.shed_ms)?;
        dict.set_item("stretched_ms", stats.stretched_ms)?;
        dict.set_item("skipped_ms", stats.skipped_ms)?;
        dict.set_item("target_ms", stats.target_ms)?;
        dict.set_item("depth_ms", stats.depth_ms)?;
        dict.set_item("wait_mean_ms", stats.wait_mean_ms)?;
        dict.set_item("wait_max_ms", stats.wait_max_ms)?;
        dict.set_item("jitter_ms", stats.jitter_ms)?;
        Ok(dict)
    }
}

/// Both directions of one call for a recorder. Reads never wait.
#[pyclass]
pub struct TapReader {
    // One thread reads at a time.
    reader: Mutex<Reader>,
}

impl TapReader {
    pub fn new(reader: Reader) -> TapReader {
        TapReader { reader: Mutex::new(reader) }
    }

    fn locked(&self) -> MutexGuard<'_, Reader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two tracks as PCM16 octets, and samples dropped so far.
type TapPiece<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>, u64);

#[pymethods]
impl TapReader {
    /// What is complete of both tracks, as many samples of each: what the caller said and what
    /// went out to the caller, PCM16 of 8 kHz; and how many samples were dropped so far.
    fn read<'py>(&self, py: Python<'py>) -> TapPiece<'py> {
        tap_piece(py, self.locked().read())
    }

    /// The rest, after the call: call it until the tracks are empty.
    fn finish<'py>(&self, py: Python<'py>) -> TapPiece<'py> {
        tap_piece(py, self.locked().finish())
    }
}

fn tap_piece(py: Python<'_>, piece: Piece) -> TapPiece<'_> {
    (pcm16(py, &piece.caller), pcm16(py, &piece.sent), piece.dropped)
}

fn pcm16<'py>(py: Python<'py>, pcm: &[i16]) -> Bound<'py, PyBytes> {
    let octets: Vec<u8> = pcm.iter().flat_map(|s| s.to_le_bytes()).collect();
    PyBytes::new(py, &octets)
}

fn duration(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|_| PyValueError::new_err("not a time"))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Playout>()?;
    module.add_class::<TapReader>()
}
