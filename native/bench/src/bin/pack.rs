//! Makes a file of Opus packets of raw 48 kHz mono PCM (16 bits, little-endian) on standard input.
//!
//! `pack bits=24000 out=FILE [settle=1]`; with `settle` the input is encoded twice and the second
//! pass is kept, so that a file played in a loop has no beginning.

use std::io::Read;
use trunkbridge_bench::lines::Options;
use trunkbridge_bench::{opus::Encoder, pack};

fn main() {
    let options = Options::read();
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).expect("standard input");
    let pcm: Vec<i16> = bytes.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
    let mut encoder = Encoder::new(options.number("bits", 24_000) as i32);
    let passes = 1 + options.number("settle", 1);
    let mut packets = Vec::new();
    for _ in 0..passes {
        packets = pcm.chunks_exact(960).map(|frame| encoder.encode(frame)).collect();
    }
    let out = options.text("out").expect("out=FILE");
    std::fs::write(out, pack::join(&packets)).expect("the file");
}
