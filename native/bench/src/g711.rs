//! u-law and A-law (ITU-T G.711), by their definition.

/// Return the sample of one u-law octet.
pub fn from_ulaw(octet: u8) -> i16 {
    let code = !octet;
    let magnitude = ((i32::from(code & 0x0F) << 3) + 0x84) << ((code >> 4) & 7);
    let value = magnitude - 0x84;
    (if code & 0x80 != 0 { -value } else { value }) as i16
}

/// Return the sample of one A-law octet.
pub fn from_alaw(octet: u8) -> i16 {
    let code = octet ^ 0x55;
    let (exponent, mantissa) = ((code >> 4) & 7, i32::from(code & 0x0F) << 4);
    let value = match exponent {
        0 => mantissa + 8,
        more => (mantissa + 0x108) << (more - 1),
    };
    (if code & 0x80 != 0 { value } else { -value }) as i16
}

/// Return the u-law octet of one sample.
pub fn to_ulaw(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = (i32::from(sample).abs() + 0x84).min(0x7FFF);
    let exponent = (31 - (magnitude as u32).leading_zeros()).saturating_sub(7);
    let mantissa = (magnitude >> (exponent + 3)) & 0x0F;
    !(sign | (exponent as u8) << 4 | mantissa as u8)
}

/// All samples' octets: `table[(sample as u16) >> 2]`, as an encoder that hurries has it.
pub fn ulaw_table() -> Box<[u8]> {
    (0..=u16::MAX >> 2).map(|index| to_ulaw((index << 2) as i16)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ulaw_octet_comes_back() {
        for octet in 0..=255u8 {
            let again = to_ulaw(from_ulaw(octet));
            assert!(again == octet || (octet == 0x7F && again == 0xFF)); // there are two zeros
        }
    }

    #[test]
    fn known_values_of_both_laws() {
        assert_eq!((from_ulaw(0xFF), from_ulaw(0x00), from_ulaw(0x80)), (0, -32124, 32124));
        assert_eq!((from_alaw(0xD5), from_alaw(0xAA), from_alaw(0x2A)), (8, 32256, -32256));
    }
}
