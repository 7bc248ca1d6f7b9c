//! `trunkbridge_native`: the media core as a Python module. Nothing here thinks.

mod engine;
mod playout;
mod replay;
mod srtp;

use pyo3::prelude::*;

#[pymodule]
fn trunkbridge_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    engine::register(module)?;
    playout::register(module)?;
    replay::register(module)?;
    srtp::register(module)
}
