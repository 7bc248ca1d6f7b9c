//! G.711: tables between the laws and 16-bit PCM, and the audio level of RFC 6464.
//!
//! Every value is that of ITU-T G.711, so that both engines put the same bytes on the wire.

use crate::types::Law;

/// 16-bit value of each byte.
static MU_DECODE: [i16; 256] = decode_table(Law::Mu);
static A_DECODE: [i16; 256] = decode_table(Law::A);
/// Squares of those values, for the level.
static MU_SQUARE: [u32; 256] = squares(&MU_DECODE);
static A_SQUARE: [u32; 256] = squares(&A_DECODE);
/// Each byte of one law in the other, without a way over PCM.
static MU_TO_A: [u8; 256] = translation(&MU_DECODE, Law::A);
static A_TO_MU: [u8; 256] = translation(&A_DECODE, Law::Mu);

/// The most that a law can say; 0 dBov is a square wave of it (RFC 6464 3).
const MU_OVERLOAD: f32 = 32124.0;
const A_OVERLOAD: f32 = 32256.0;
/// The level of digital silence, dBov (RFC 6464 3).
pub const SILENT_LEVEL: i8 = -127;

/// What zero amplitude is in *law*.
#[inline]
pub const fn silence_byte(law: Law) -> u8 {
    match law {
        Law::Mu => 0xFF,
        Law::A => 0xD5,
    }
}

/// The sample that *byte* stands for.
#[inline]
pub fn decode_byte(law: Law, byte: u8) -> i16 {
    decoding(law)[byte as usize]
}

/// Decodes *payload* into *pcm* as far as both reach; returns the samples written.
#[inline]
pub fn decode(law: Law, payload: &[u8], pcm: &mut [i16]) -> usize {
    let table = decoding(law);
    for (sample, byte) in pcm.iter_mut().zip(payload) {
        *sample = table[*byte as usize];
    }
    payload.len().min(pcm.len())
}

/// Appends *pcm* in *law* to *out*.
#[inline]
pub fn encode(law: Law, pcm: &[i16], out: &mut Vec<u8>) {
    match law {
        Law::Mu => out.extend(pcm.iter().map(|sample| mu_byte(*sample))),
        Law::A => out.extend(pcm.iter().map(|sample| a_byte(*sample))),
    }
}

/// Turns *payload* from *source* into *target*, in place.
#[inline]
pub fn translate(source: Law, target: Law, payload: &mut [u8]) {
    let table = match (source, target) {
        (Law::Mu, Law::A) => &MU_TO_A,
        (Law::A, Law::Mu) => &A_TO_MU,
        (Law::Mu, Law::Mu) | (Law::A, Law::A) => return,
    };
    for byte in payload {
        *byte = table[*byte as usize];
    }
}

/// The level of *payload*, -127 to 0 dBov (RFC 6464 3: the power of the frame's samples).
#[inline]
pub fn level(law: Law, payload: &[u8]) -> i8 {
    let (table, overload) = match law {
        Law::Mu => (&MU_SQUARE, MU_OVERLOAD),
        Law::A => (&A_SQUARE, A_OVERLOAD),
    };
    let sum: u64 = payload.iter().map(|byte| u64::from(table[*byte as usize])).sum();
    if sum == 0 {
        return SILENT_LEVEL;
    }
    let mean = sum as f32 / payload.len() as f32;
    // In range and never NaN: the mean is at least 1/1600 and at most the overload's square.
    (10.0 * (mean / (overload * overload)).log10()).round().clamp(-127.0, 0.0) as i8
}

#[inline]
fn decoding(law: Law) -> &'static [i16; 256] {
    match law {
        Law::Mu => &MU_DECODE,
        Law::A => &A_DECODE,
    }
}

const fn mu_value(byte: u8) -> i16 {
    let inverted = !byte;
    let segment = (inverted >> 4 & 7) as i32;
    let magnitude = (((((inverted & 0x0F) as i32) << 3) + 0x84) << segment) - 0x84;
    (if inverted & 0x80 != 0 { -magnitude } else { magnitude }) as i16
}

const fn a_value(byte: u8) -> i16 {
    let toggled = byte ^ 0x55; // even bits are inverted on the line
    let segment = (toggled >> 4 & 7) as i32;
    let step = ((toggled & 0x0F) as i32) << 4;
    let magnitude = if segment == 0 { step + 8 } else { (step + 0x108) << (segment - 1) };
    (if toggled & 0x80 != 0 { magnitude } else { -magnitude }) as i16
}

/// The exponent and the upper four bits of the mantissa of *magnitude*, as one number.
///
/// Both laws are floating point of that shape; so written, the compiler does four at once.
const fn exponent_and_step(magnitude: i32) -> i32 {
    ((magnitude as f32).to_bits() >> 19) as i32
}

/// mu-law of a sample's upper 14 bits, biased by 33: segment 0 begins at 2^5.
#[inline]
const fn mu_byte(sample: i16) -> u8 {
    let value = (sample >> 2) as i32;
    let (magnitude, mask) = if value < 0 { (-value, 0x7F) } else { (value, 0xFF) };
    let clipped = if magnitude > 8158 { 8158 } else { magnitude };
    (exponent_and_step(clipped + 33) - ((127 + 5) << 4)) as u8 ^ mask
}

/// A-law of a sample's upper 13 bits: segment 1 begins at 2^5, below it all steps are equal.
#[inline]
const fn a_byte(sample: i16) -> u8 {
    let value = (sample >> 3) as i32;
    let (magnitude, mask) = if value < 0 { (!value, 0x55) } else { (value, 0xD5) };
    let code = exponent_and_step(magnitude) - ((127 + 4) << 4);
    (if magnitude < 32 { magnitude >> 1 } else { code }) as u8 ^ mask
}

const fn decode_table(law: Law) -> [i16; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        table[index] = match law {
            Law::Mu => mu_value(index as u8),
            Law::A => a_value(index as u8),
        };
        index += 1;
    }
    table
}

const fn squares(values: &[i16; 256]) -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        table[index] = (values[index] as i32 * values[index] as i32) as u32;
        index += 1;
    }
    table
}

const fn translation(values: &[i16; 256], target: Law) -> [u8; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        table[index] = match target {
            Law::Mu => mu_byte(values[index]),
            Law::A => a_byte(values[index]),
        };
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAWS: [Law; 2] = [Law::Mu, Law::A];

    #[test]
    fn every_byte_survives_decoding_and_encoding() {
        for law in LAWS {
            for byte in 0..=255u8 {
                let mut back = Vec::new();
                encode(law, &[decode_byte(law, byte)], &mut back);
                // mu-law has two zeros; only the positive one comes back.
                let wanted = if law == Law::Mu && byte == 0x7F { 0xFF } else { byte };
                assert_eq!(back, [wanted], "{law:?} {byte:#x}");
            }
        }
    }

    #[test]
    fn known_values_of_g711() {
        let known = [(Law::Mu, 0xFF, 0), (Law::Mu, 0x00, -32124), (Law::Mu, 0x80, 32124)];
        let known_a = [(Law::A, 0xD5, 8), (Law::A, 0x55, -8), (Law::A, 0xAA, 32256)];
        for (law, byte, sample) in known.into_iter().chain(known_a) {
            assert_eq!(decode_byte(law, byte), sample, "{law:?} {byte:#x}");
        }
    }

    #[test]
    fn every_sample_is_encoded_as_the_nearest_or_the_one_below_it() {
        for law in LAWS {
            let mut last = i16::MIN;
            for sample in i16::MIN..=i16::MAX {
                let mut byte = Vec::new();
                encode(law, &[sample], &mut byte);
                let heard = decode_byte(law, byte[0]);
                assert!(heard >= last, "{law:?} {sample}: not monotonic");
                let error = (i32::from(heard) - i32::from(sample)).abs();
                let step = (i32::from(sample).abs() / 16).max(16);
                let clipped = i32::from(sample).abs() > 32124;
                assert!(error <= step || clipped, "{law:?} {sample} {heard}");
                last = heard;
            }
        }
    }

    #[test]
    fn the_table_gives_what_the_way_over_pcm_gives() {
        for (source, target) in [(Law::Mu, Law::A), (Law::A, Law::Mu)] {
            let mut all: Vec<u8> = (0..=255).collect();
            let mut pcm = [0; 256];
            assert_eq!(decode(source, &all, &mut pcm), 256);
            let mut wanted = Vec::new();
            encode(target, &pcm, &mut wanted);
            translate(source, target, &mut all);
            assert_eq!(all, wanted);
        }
    }

    #[test]
    fn the_level_is_that_of_rfc_6464() {
        assert_eq!(level(Law::Mu, &[0xFF; 160]), SILENT_LEVEL);
        assert_eq!(level(Law::Mu, &[]), SILENT_LEVEL);
        assert_eq!(level(Law::A, &[0xD5; 160]), -72); // A-law has no zero: 8 of 32256
        assert_eq!(level(Law::Mu, &[0x80; 160]), 0);
        assert_eq!(level(Law::A, &[0x2A; 1600]), 0);
        let half: Vec<u8> = (0..160).map(|n| if n % 2 == 0 { 0x80 } else { 0xFF }).collect();
        assert_eq!(level(Law::Mu, &half), -3);
    }
}
