//! The SILK layer of libopus alone: all that SILK and hybrid packets say below 4 kHz.
//!
//! A hybrid packet is a SILK packet of 0 to 8 kHz with a CELT layer of what is above
//! (RFC 6716 3.1), of which nothing is left at 8 kHz; the public decoder decodes that layer all
//! the same, at 48 kHz, for 40 % of its time (ADR 24). This calls the functions below it.
//!
//! They are **private to libopus**: their shapes are those of libopus 1.6.1 in floating point,
//! without DRED and OSCE, as `opusic-sys` 0.7.7 bundles it, pinned exactly. With any other
//! version [`Silk::new`] gives `None` and the public decoder does everything; the tests compare
//! both, sample by sample.

use std::ffi::{CStr, c_int, c_uchar, c_void};

use opusic_sys as sys;

use super::{Frame, MAX_SAMPLES, RATE_HZ};

/// The only version whose shapes are known ("-fixed" would follow for fixed point).
const KNOWN: &[u8] = b"libopus 1.6.1";
/// Samples of 10 and 20 ms.
const TEN: usize = 80;
const TWENTY: usize = 160;

/// `silk_DecControlStruct` of silk/control.h.
#[repr(C)]
struct Control {
    channels_out: i32,
    channels: i32,
    rate_out: i32,
    rate: i32,
    payload_ms: c_int,
    previous_pitch_lag: c_int,
    deep_plc: c_int,
    // Grown by OSCE, which is off: room, should that be wrong.
    spare: [c_int; 8],
}

/// `ec_ctx` of celt/entcode.h (48 octets), with room; only libopus looks into it.
#[repr(C, align(16))]
struct RangeDecoder([u8; 128]);

unsafe extern "C" {
    fn silk_Get_Decoder_Size(octets: *mut c_int) -> c_int;
    fn silk_InitDecoder(state: *mut c_void) -> c_int;
    fn silk_ResetDecoder(state: *mut c_void) -> c_int;
    fn silk_Decode(
        state: *mut c_void,
        control: *mut Control,
        lost: c_int,
        first: c_int,
        range: *mut RangeDecoder,
        out: *mut f32,
        samples: *mut i32,
        arch: c_int,
    ) -> c_int;
    fn ec_dec_init(range: *mut RangeDecoder, octets: *mut c_uchar, size: u32);
    fn opus_select_arch() -> c_int;
}

/// What a frame is to `silk_Decode`.
#[derive(Clone, Copy)]
enum Lost {
    No = 0,
    Yes = 1,
    Recover = 2,
}

pub struct Silk {
    /// `silk_decoder`, aligned for anything in it.
    state: Vec<u128>,
    control: Control,
    arch: c_int,
    clip: f32,
    pcm: Box<[f32; MAX_SAMPLES + TWENTY]>,
}

impl Silk {
    /// `None`: another libopus than the one that is known.
    pub fn new() -> Option<Silk> {
        // SAFETY: returns a static string that ends with a zero.
        let version = unsafe { CStr::from_ptr(sys::opus_get_version_string()) };
        if version.to_bytes() != KNOWN {
            return None;
        }
        let mut octets = 0;
        // SAFETY: writes one int.
        unsafe { silk_Get_Decoder_Size(&mut octets) };
        let words = usize::try_from(octets).ok().filter(|n| *n > 0)?.div_ceil(16);
        let mut state = vec![0u128; words];
        // SAFETY: the state has the size that was asked for. The second call takes no argument.
        let arch = unsafe {
            silk_InitDecoder(state.as_mut_ptr().cast());
            opus_select_arch()
        };
        let control = Control {
            channels_out: 1,
            channels: 1,
            rate_out: RATE_HZ,
            rate: 16_000,
            payload_ms: 20,
            previous_pitch_lag: 0,
            deep_plc: 0,
            spare: [0; 8],
        };
        Some(Silk { state, control, arch, clip: 0.0, pcm: Box::new([0.0; MAX_SAMPLES + TWENTY]) })
    }

    /// Octets of state.
    #[cfg(test)]
    pub fn octets(&self) -> usize {
        self.state.len() * 16 + size_of_val(&*self.pcm)
    }

    pub fn reset(&mut self) {
        // SAFETY: an initialised state of ours.
        unsafe { silk_ResetDecoder(self.state.as_mut_ptr().cast()) };
        self.clip = 0.0;
    }

    /// Decode one *frame* into the front of *out*; false: libopus refused it.
    pub fn decode(&mut self, frame: &Frame<'_>, out: &mut [i16]) -> bool {
        self.configure(frame);
        self.run(Some(frame.payload), Lost::No, frame.samples, out)
    }

    /// Recover what came before *frame*, of its length, from its FEC.
    pub fn recover(&mut self, frame: &Frame<'_>, out: &mut [i16]) -> bool {
        self.configure(frame);
        self.run(Some(frame.payload), Lost::Recover, frame.samples, out)
    }

    /// Conceal all of *out*.
    pub fn conceal(&mut self, out: &mut [i16]) {
        let mut out = out;
        while !out.is_empty() {
            // SILK conceals 10 or 20 ms at a time.
            let n = if out.len() >= TWENTY { TWENTY } else { out.len().min(TEN) };
            let (piece, rest) = out.split_at_mut(n);
            if !self.run(None, Lost::Yes, n, piece) {
                piece.fill(0);
            }
            out = rest;
        }
    }

    fn configure(&mut self, frame: &Frame<'_>) {
        // The bandwidth by the configuration number (RFC 6716 3.1, table 2).
        self.control.rate = match frame.configuration {
            0..=3 => 8_000,
            4..=7 => 12_000,
            _ => 16_000,
        };
        self.control.channels = if frame.stereo { 2 } else { 1 };
    }

    fn run(&mut self, data: Option<&[u8]>, lost: Lost, samples: usize, out: &mut [i16]) -> bool {
        let samples = samples.min(MAX_SAMPLES).min(out.len());
        self.control.payload_ms = (samples.max(TEN) / 8) as c_int;
        let mut range = RangeDecoder([0; 128]);
        if let Some(data) = data {
            // SAFETY: the range decoder keeps a pointer to `data`, which outlives it, and only
            // reads there, up to the length that is given.
            unsafe { ec_dec_init(&mut range, data.as_ptr().cast_mut(), data.len() as u32) };
        }
        let mut done = 0;
        while done < samples {
            let mut n = 0;
            // SAFETY: state, control and range decoder are ours and initialised, of the shapes of
            // the version that `new` saw to. One call writes at most 20 ms, which is the room
            // beyond the longest packet.
            let failed = unsafe {
                silk_Decode(
                    self.state.as_mut_ptr().cast(),
                    &mut self.control,
                    lost as c_int,
                    c_int::from(done == 0),
                    &mut range,
                    self.pcm[done..].as_mut_ptr(),
                    &mut n,
                    self.arch,
                )
            };
            if failed != 0 || n <= 0 {
                return false;
            }
            done += n as usize;
        }
        let pcm = &mut self.pcm[..samples];
        // SAFETY: `samples` of one channel and its one state. As the public decoder does.
        unsafe {
            sys::opus_pcm_soft_clip(pcm.as_mut_ptr(), samples as c_int, 1, &mut self.clip);
        }
        for (to, from) in out.iter_mut().zip(pcm.iter()) {
            *to = (*from * 32768.0).round_ties_even().clamp(-32768.0, 32767.0) as i16;
        }
        true
    }
}
