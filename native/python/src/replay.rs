//! The carrier's side alone, on a clock of the test's: replays the RTP vectors.

use pyo3::prelude::*;

pub fn register(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
