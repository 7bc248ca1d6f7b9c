//! SRTP alone, for tests against another implementation.

use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use trunkbridge_core::srtp::Line;
use trunkbridge_core::types::{Crypto, MasterKey};

/// A key as Python has it: master key and salt, its identifier, its lifetime in packets.
type Key = (Vec<u8>, Vec<u8>, Option<u64>);

/// Both directions of one call's SRTP, on a clock of the test's (seconds).
#[pyclass]
struct SrtpLine {
    line: Line,
    start: Instant,
}

impl SrtpLine {
    fn at(&self, now: f64) -> PyResult<Instant> {
        let since = Duration::try_from_secs_f64(now).ok();
        let at = since.and_then(|since| self.start.checked_add(since));
        at.ok_or_else(|| PyValueError::new_err("no time"))
    }
}

#[pymethods]
impl SrtpLine {
    #[new]
    fn new() -> SrtpLine {
        SrtpLine { line: Line::new(), start: Instant::now() }
    }

    #[pyo3(signature = (suite, send, receive, window, now))]
    fn agree(
        &mut self,
        suite: String,
        send: Key,
        receive: Vec<Key>,
        window: Option<usize>,
        now: f64,
    ) -> PyResult<()> {
        let receive = receive.into_iter().map(master).collect();
        let crypto = Crypto { suite, send: master(send), receive, window };
        let now = self.at(now)?;
        self.line.agree(&crypto, now).map_err(|why| PyValueError::new_err(why.0))
    }

    fn protect_rtp<'py>(&mut self, py: Python<'py>, data: &[u8]) -> Option<Bound<'py, PyBytes>> {
        let mut packet = data.to_vec();
        self.line.protect_rtp(&mut packet).then(|| PyBytes::new(py, &packet))
    }

    fn protect_rtcp<'py>(&mut self, py: Python<'py>, data: &[u8]) -> Option<Bound<'py, PyBytes>> {
        let mut packet = data.to_vec();
        self.line.protect_rtcp(&mut packet).then(|| PyBytes::new(py, &packet))
    }

    fn open_rtp<'py>(
        &mut self,
        py: Python<'py>,
        data: &[u8],
        now: f64,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let (mut data, now) = (data.to_vec(), self.at(now)?);
        let length = self.line.open_rtp(&mut data, now);
        Ok(length.and_then(|length| data.get(..length)).map(|plain| PyBytes::new(py, plain)))
    }

    fn open_rtcp<'py>(
        &mut self,
        py: Python<'py>,
        data: &[u8],
        now: f64,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let (mut data, now) = (data.to_vec(), self.at(now)?);
        let length = self.line.open_rtcp(&mut data, now);
        Ok(length.and_then(|length| data.get(..length)).map(|plain| PyBytes::new(py, plain)))
    }

    #[getter]
    fn failures(&self) -> u64 {
        self.line.failures()
    }
}

fn master((secret, mki, lifetime): Key) -> MasterKey {
    MasterKey { secret, mki, lifetime }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<SrtpLine>()
}
