//! A safe wrapper of the libopus decoder at 8 kHz, mono.
//!
//! libopus decodes every Opus stream (any bandwidth, mono or stereo, 2.5 to 120 ms) straight to
//! the rate that it was created with (RFC 6716 4.2.9, 4.3.7), so nothing is resampled here. What
//! cannot be decoded is concealed as if it had been lost: no input is an error to the caller.
//!
//! Packets with a SILK layer go to [`silk`], the others to the public decoder; where a stream
//! changes, both are cross-faded.

mod silk;

use opusic_sys as sys;
use std::ptr::{self, NonNull};

use crate::types::RATE;
use silk::Silk;

/// Samples of the longest packet, 120 ms (RFC 6716 3.2.5).
pub const MAX_SAMPLES: usize = 960;
/// Samples of the shortest frame, 2.5 ms; every duration is a multiple of it (RFC 6716 2.1.4).
pub const UNIT: usize = 20;
const RATE_HZ: i32 = RATE as i32;
/// Frames of a packet, at most (RFC 6716 3.2.5).
const MAX_FRAMES: usize = 48;
/// Samples over which one decoder takes over from the other, 5 ms.
const TAKE_OVER: usize = 2 * UNIT;

/// One frame of a packet.
struct Frame<'a> {
    /// The configuration number of the packet: mode, bandwidth and frame size.
    configuration: u8,
    stereo: bool,
    /// Samples of it at 8 kHz.
    samples: usize,
    payload: &'a [u8],
}

/// Who decoded last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Nobody,
    Silk,
    Whole,
}

/// The decoder of one stream. About 10 kB of state, and 19 more for a stream that needs both.
pub struct Decoder {
    /// `None`: another libopus; then `whole` decodes everything.
    silk: Option<Silk>,
    whole: Whole,
    last: Last,
    /// Samples of the last packet: what is concealed for one that says nothing.
    frame: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    pub fn new() -> Self {
        Decoder { silk: Silk::new(), whole: Whole(None), last: Last::Nobody, frame: 8 * UNIT }
    }

    /// The same by the public interface of libopus alone.
    pub fn public_only() -> Self {
        Decoder { silk: None, ..Self::new() }
    }

    /// Decode *packet* into the front of *out*; return its samples.
    ///
    /// A packet that is none (junk, empty) is concealed for the duration of the last one.
    pub fn decode(&mut self, packet: &[u8], out: &mut [i16; MAX_SAMPLES]) -> usize {
        let Some(n) = samples(packet) else { return self.conceal(self.frame, out) };
        self.frame = n;
        let wanted = self.who_decodes(packet);
        let mut before = [0; MAX_SAMPLES];
        let changes = wanted != self.last && self.last != Last::Nobody;
        if changes {
            self.conceal(TAKE_OVER, &mut before);
        }
        self.begin(wanted);
        let decoded = match wanted {
            Last::Silk => self.decode_silk(packet, out),
            _ => self.whole.call(Some(packet), out, false).is_some(),
        };
        if !decoded {
            return self.conceal(n, out);
        }
        if changes {
            take_over(&before, out);
        }
        n
    }

    /// Recover the *samples* before *next* from its in-band FEC (RFC 6716 2.1.7), concealing
    /// what it does not cover; return how many were written.
    pub fn recover(&mut self, next: &[u8], samples: usize, out: &mut [i16; MAX_SAMPLES]) -> usize {
        let samples = whole_units(samples);
        let recovered = match (self.last, &mut self.silk) {
            (Last::Silk, Some(silk)) => recover_silk(silk, next, &mut out[..samples]),
            _ => self.whole.call(Some(next), &mut out[..samples], true).is_some(),
        };
        if recovered { samples } else { self.conceal(samples, out) }
    }

    /// Conceal *samples* (taken up to whole frames of 2.5 ms, 120 ms at most); return how many
    /// were written.
    pub fn conceal(&mut self, samples: usize, out: &mut [i16; MAX_SAMPLES]) -> usize {
        let samples = whole_units(samples);
        match (self.last, &mut self.silk) {
            (Last::Nobody, _) => out[..samples].fill(0),
            (Last::Silk, Some(silk)) => silk.conceal(&mut out[..samples]),
            _ => {
                if self.whole.call(None, &mut out[..samples], false).is_none() {
                    out[..samples].fill(0);
                }
            }
        }
        samples
    }

    /// Forget the stream: the next packet is the first of another.
    pub fn reset(&mut self) {
        self.last = Last::Nobody;
    }

    fn who_decodes(&self, packet: &[u8]) -> Last {
        match packet.first() {
            // A frame of at most an octet says: go on as before (RFC 6716 2.1.9).
            Some(_) if is_dtx(packet) && self.last != Last::Nobody => self.last,
            // Configurations 16 and up are CELT alone (RFC 6716 3.1).
            Some(toc) if toc >> 3 < 16 && self.silk.is_some() => Last::Silk,
            _ => Last::Whole,
        }
    }

    fn begin(&mut self, who: Last) {
        if who == self.last {
            return;
        }
        match (who, &mut self.silk) {
            (Last::Silk, Some(silk)) => silk.reset(),
            _ => self.whole.reset(),
        }
        self.last = who;
    }

    fn decode_silk(&mut self, packet: &[u8], out: &mut [i16; MAX_SAMPLES]) -> bool {
        let Some(silk) = &mut self.silk else { return false };
        let mut at = 0;
        each_frame(packet, |frame| {
            let Some(out) = out.get_mut(at..at + frame.samples) else { return false };
            at += frame.samples;
            if frame.payload.len() > 1 {
                return silk.decode(&frame, out);
            }
            silk.conceal(out);
            true
        })
    }
}

/// Recover all of *out*, which comes right before *next*: its last part from FEC.
fn recover_silk(silk: &mut Silk, next: &[u8], out: &mut [i16]) -> bool {
    let mut done = None;
    each_frame(next, |frame| {
        let covers = frame.configuration < 16 && frame.samples <= out.len();
        if covers && frame.payload.len() > 1 {
            let (before, last) = out.split_at_mut(out.len() - frame.samples);
            silk.conceal(before);
            done = Some(silk.recover(&frame, last));
        }
        false
    });
    done == Some(true)
}

/// Call *each* with the frames of *packet* as long as it returns true; false: it stopped, or this
/// is no packet.
fn each_frame(packet: &[u8], mut each: impl FnMut(Frame<'_>) -> bool) -> bool {
    let (mut toc, mut offset) = (0, 0);
    let mut starts = [ptr::null(); MAX_FRAMES];
    let mut sizes = [0i16; MAX_FRAMES];
    let Ok(size @ 1..) = i32::try_from(packet.len()) else { return false };
    // SAFETY: `packet` is valid for `size` octets, the arrays hold the most frames there can be.
    let count = unsafe {
        sys::opus_packet_parse(
            packet.as_ptr(),
            size,
            &mut toc,
            starts.as_mut_ptr(),
            sizes.as_mut_ptr(),
            &mut offset,
        )
    };
    // SAFETY: reads the first octet, which is there.
    let samples = unsafe { sys::opus_packet_get_samples_per_frame(packet.as_ptr(), RATE_HZ) };
    let (Ok(count @ 1..), Ok(samples @ 1..)) = (usize::try_from(count), usize::try_from(samples))
    else {
        return false;
    };
    starts.iter().zip(sizes).take(count).all(|(start, size)| {
        let at = (*start as usize).wrapping_sub(packet.as_ptr() as usize);
        let payload = packet.get(at..at.saturating_add(size.max(0) as usize)).unwrap_or(&[]);
        each(Frame { configuration: toc >> 3, stereo: toc & 4 != 0, samples, payload })
    })
}

fn take_over(before: &[i16], pcm: &mut [i16]) {
    for (i, (to, from)) in pcm.iter_mut().zip(before).take(TAKE_OVER).enumerate() {
        let (share, total) = (i as i32 + 1, TAKE_OVER as i32 + 1);
        *to = ((i32::from(*from) * (total - share) + i32::from(*to) * share) / total) as i16;
    }
}

/// The public decoder of libopus, made when it is first needed.
struct Whole(Option<NonNull<sys::OpusDecoder>>);

// SAFETY: the state is plain memory that only this value points to, without thread affinity.
unsafe impl Send for Whole {}
// SAFETY: nothing reads or writes the state through a shared reference.
unsafe impl Sync for Whole {}

impl Whole {
    fn reset(&mut self) {
        if let Some(state) = self.0 {
            // SAFETY: the state is live and ours; this request takes no further argument.
            unsafe { sys::opus_decoder_ctl(state.as_ptr(), sys::OPUS_RESET_STATE) };
        }
    }

    /// `None`: libopus refused, or there is no memory.
    fn call(&mut self, packet: Option<&[u8]>, out: &mut [i16], fec: bool) -> Option<usize> {
        if self.0.is_none() {
            let mut error = 0;
            // SAFETY: rate and channels are valid constants, `error` outlives the call; the
            // result is null or a state that we own.
            self.0 = NonNull::new(unsafe { sys::opus_decoder_create(RATE_HZ, 1, &mut error) });
        }
        let state = self.0?.as_ptr();
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

impl Drop for Whole {
    fn drop(&mut self) {
        if let Some(state) = self.0 {
            // SAFETY: made by opus_decoder_create, freed once.
            unsafe { sys::opus_decoder_destroy(state.as_ptr()) }
        }
    }
}

/// Samples of *packet* at 8 kHz, or `None` if it is no Opus packet.
pub fn samples(packet: &[u8]) -> Option<usize> {
    let size = i32::try_from(packet.len()).ok().filter(|n| *n > 0)?;
    // SAFETY: `packet` is valid for `size` bytes and not empty.
    let n = unsafe { sys::opus_packet_get_nb_samples(packet.as_ptr(), size, RATE_HZ) };
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
fn whole_units(samples: usize) -> usize {
    samples.div_ceil(UNIT).clamp(1, MAX_SAMPLES / UNIT) * UNIT
}

#[cfg(test)]
mod tests;
