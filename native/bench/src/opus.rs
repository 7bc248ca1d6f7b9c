//! libopus: a decoder at 8 kHz, and the encoder that makes the load.

use opusic_sys as sys;

/// Samples of 120 ms at 8 kHz, the longest packet.
pub const LONGEST: usize = 960;

/// Decodes one stream at 8 kHz mono.
pub struct Decoder(*mut sys::OpusDecoder);

impl Default for Decoder {
    fn default() -> Self {
        let mut error = 0;
        // SAFETY: `error` is valid to write to; the result is checked.
        let made = unsafe { sys::opus_decoder_create(8000, 1, &mut error) };
        assert!(!made.is_null() && error == 0, "opus_decoder_create: {error}");
        Decoder(made)
    }
}

impl Decoder {
    /// Decode one packet; returns how many samples were written.
    pub fn decode(&mut self, packet: &[u8], out: &mut [i16; LONGEST]) -> Option<usize> {
        // SAFETY: the pointers are to live memory of the lengths given.
        let count = unsafe {
            sys::opus_decode(
                self.0,
                packet.as_ptr(),
                packet.len() as i32,
                out.as_mut_ptr(),
                LONGEST as i32,
                0,
            )
        };
        (count > 0).then_some(count as usize)
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: made by opus_decoder_create, freed once.
        unsafe { sys::opus_decoder_destroy(self.0) }
    }
}

/// Encodes 20 ms of 48 kHz mono as an agent's SDK does.
pub struct Encoder(*mut sys::OpusEncoder);

impl Encoder {
    /// Make one for speech of `bits` a second.
    pub fn new(bits: i32) -> Encoder {
        let mut error = 0;
        // SAFETY: `error` is valid to write to; the results are checked.
        unsafe {
            let made = sys::opus_encoder_create(48_000, 1, sys::OPUS_APPLICATION_VOIP, &mut error);
            assert!(!made.is_null() && error == 0, "opus_encoder_create: {error}");
            let set = sys::opus_encoder_ctl(made, sys::OPUS_SET_BITRATE_REQUEST, bits);
            assert_eq!(set, 0, "opus_encoder_ctl");
            Encoder(made)
        }
    }

    /// Encode 960 samples.
    pub fn encode(&mut self, pcm: &[i16]) -> Vec<u8> {
        assert_eq!(pcm.len(), 960);
        let mut out = vec![0u8; 1500];
        // SAFETY: `pcm` has 960 samples, `out` the room that is told.
        let length = unsafe {
            sys::opus_encode(self.0, pcm.as_ptr(), 960, out.as_mut_ptr(), out.len() as i32)
        };
        assert!(length > 0, "opus_encode: {length}");
        out.truncate(length as usize);
        out
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // SAFETY: made by opus_encoder_create, freed once.
        unsafe { sys::opus_encoder_destroy(self.0) }
    }
}
