//! A safe wrapper of the libopus decoder at 8 kHz, mono.
//!
//! libopus decodes every Opus stream (any bandwidth, mono or stereo, 2.5 to 120 ms) straight to
//! the rate that it was created with (RFC 6716 4.2.9, 4.3.7), so nothing is resampled here. What
//! cannot be decoded is concealed as if it had been lost: no input is an error to the caller.

use opusic_sys as sys;
use std::ptr::{self, NonNull};

use crate::types::RATE;

/// Samples of the longest packet, 120 ms (RFC 6716 3.2.5).
pub const MAX_SAMPLES: usize = 960;
/// Samples of the shortest frame, 2.5 ms; every duration is a multiple of it (RFC 6716 2.1.4).
pub const UNIT: usize = 20;

/// The decoder of one stream. About 19 kB of state.
pub struct Decoder {
    /// `None`: there was no memory for it; everything is silence then.
    state: Option<NonNull<sys::OpusDecoder>>,
    /// Samples of the last packet: what is concealed for one that says nothing.
    frame: usize,
}

// SAFETY: the state is plain memory that only this value points to, without thread affinity.
unsafe impl Send for Decoder {}
// SAFETY: nothing reads or writes the state through a shared reference.
unsafe impl Sync for Decoder {}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    pub fn new() -> Self {
        let mut error = 0;
        // SAFETY: rate and channels are valid constants, `error` outlives the call; the result
        // is null or a state that we own.
        let state = unsafe { sys::opus_decoder_create(RATE as i32, 1, &mut error) };
        Decoder { state: NonNull::new(state), frame: 8 * UNIT }
    }

    /// Decode *packet* into the front of *out*; return its samples.
    ///
    /// A packet that is none (junk, empty) is concealed for the duration of the last one.
    pub fn decode(&mut self, packet: &[u8], out: &mut [i16; MAX_SAMPLES]) -> usize {
        if packet.is_empty() {
            return self.conceal(self.frame, out);
        }
        match self.call(Some(packet), out, false) {
            Some(n) => {
                self.frame = n;
                n
            }
            None => self.conceal(self.frame, out),
        }
    }

    /// Recover the *samples* before *next* from its in-band FEC (RFC 6716 2.1.7), concealing
    /// what it does not cover; return how many were written.
    pub fn recover(&mut self, next: &[u8], samples: usize, out: &mut [i16; MAX_SAMPLES]) -> usize {
        let samples = whole(samples);
        match self.call(Some(next), &mut out[..samples], true) {
            Some(n) => n,
            None => self.conceal(samples, out),
        }
    }

    /// Conceal *samples* (taken up to whole frames of 2.5 ms, 120 ms at most); return how many
    /// were written.
    pub fn conceal(&mut self, samples: usize, out: &mut [i16; MAX_SAMPLES]) -> usize {
        let samples = whole(samples);
        let Some(n) = self.call(None, &mut out[..samples], false) else {
            out[..samples].fill(0);
            return samples;
        };
        n
    }

    /// Forget the stream: the next packet is the first of another.
    pub fn reset(&mut self) {
        if let Some(state) = self.state {
            // SAFETY: the state is live and ours; this request takes no further argument.
            unsafe { sys::opus_decoder_ctl(state.as_ptr(), sys::OPUS_RESET_STATE) };
        }
    }

    fn call(&mut self, packet: Option<&[u8]>, out: &mut [i16], fec: bool) -> Option<usize> {
        let state = self.state?.as_ptr();
        let (data, size) = match packet {
            Some(packet) => (packet.as_ptr(), i32::try_from(packet.len()).ok()?),
            None => (ptr::null(), 0),
        };
        let room = i32::try_from(out.len()).ok()?;
        // SAFETY: the state is live and ours, `data` is null or valid for `size` bytes, `out` for
        // `room` samples of one channel. libopus checks the packet itself and returns an error.
        let n =
            unsafe { sys::opus_decode(state, data, size, out.as_mut_ptr(), room, i32::from(fec)) };
        usize::try_from(n).ok().filter(|n| (1..=out.len()).contains(n))
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        if let Some(state) = self.state {
            // SAFETY: made by opus_decoder_create, freed once.
            unsafe { sys::opus_decoder_destroy(state.as_ptr()) }
        }
    }
}

/// Samples of *packet* at 8 kHz, or `None` if it is no Opus packet.
pub fn samples(packet: &[u8]) -> Option<usize> {
    let size = i32::try_from(packet.len()).ok().filter(|n| *n > 0)?;
    // SAFETY: `packet` is valid for `size` bytes and not empty.
    let n = unsafe { sys::opus_packet_get_nb_samples(packet.as_ptr(), size, RATE as i32) };
    usize::try_from(n).ok().filter(|n| (1..=MAX_SAMPLES).contains(n))
}

/// Whether *packet* carries a copy of the one before it (in-band FEC, RFC 6716 2.1.7).
pub fn has_fec(packet: &[u8]) -> bool {
    let Ok(size @ 1..) = i32::try_from(packet.len()) else { return false };
    // SAFETY: `packet` is valid for `size` bytes and not empty.
    unsafe { sys::opus_packet_has_lbrr(packet.as_ptr(), size) == 1 }
}

/// Whether *packet* says that there is nothing to hear for a while: no more than its TOC and a
/// frame of at most one byte (RFC 6716 2.1.9, RFC 7587 3.1.3).
pub fn is_dtx(packet: &[u8]) -> bool {
    packet.len() <= 2
}

/// *samples* in whole units of 2.5 ms, up to 120 ms.
fn whole(samples: usize) -> usize {
    samples.div_ceil(UNIT).clamp(1, MAX_SAMPLES / UNIT) * UNIT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn junk_is_concealed_and_never_an_error() {
        let mut decoder = Decoder::new();
        let mut out = [0; MAX_SAMPLES];
        for n in 0..400usize {
            let junk: Vec<u8> = (0..n % 97).map(|i| (i * 31 + n * 7) as u8).collect();
            let got = decoder.decode(&junk, &mut out);
            assert!((UNIT..=MAX_SAMPLES).contains(&got) && got.is_multiple_of(UNIT));
            assert!(decoder.recover(&junk, 160, &mut out) == 160);
        }
    }

    #[test]
    fn any_duration_can_be_concealed() {
        let mut decoder = Decoder::new();
        let mut out = [0; MAX_SAMPLES];
        assert_eq!(decoder.conceal(1, &mut out), 20);
        assert_eq!(decoder.conceal(160, &mut out), 160);
        assert_eq!(decoder.conceal(5000, &mut out), 960);
    }

    #[test]
    fn the_silence_that_a_server_sends_while_muted_lasts_20_ms() {
        assert_eq!(samples(&[0xf8, 0xff, 0xfe]), Some(160));
        assert_eq!(samples(&[]), None);
        assert!(!has_fec(&[0xf8, 0xff, 0xfe]) && !has_fec(&[]));
    }
}
