//! The figures that the RFCs print.

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.bytes().filter_map(|byte| char::from(byte).to_digit(16)).map(|n| n as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn drawn(master: &Master, label: u8, size: usize) -> Vec<u8> {
    let mut out = vec![0; size];
    master.draw(label, &mut out).expect("drawn");
    out
}

#[test]
fn session_keys_are_those_of_rfc_3711_b_3() {
    let secret = hex("E1F97A0D3E018BE0D64FA32C06DE4139 0EC675AD498AFEEBB6960B3AABE6");
    let master = Master::new(Suite::AesCm128HmacSha1_80, &secret).expect("a key");
    assert_eq!(drawn(&master, 0, 16), hex("C61E7A93744F39EE10734AFE3FF7A087"));
    assert_eq!(drawn(&master, 2, 14), hex("30CBBC08863D8C85D49DB34A9AE1"));
    let authentication = "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4 8F0A0ACF3C34E2359E6CDBCE \
        E049646C43D9327AD175578EF7227098 6371C10C9A369AC2F94A8C5FBCDDDC25 \
        6D6E919A48B610EF17C2041E47403576 6B68642C59BBFC2F34DB60DBDFB2";
    assert_eq!(drawn(&master, 1, 94), hex(authentication));
}

#[test]
fn the_key_stream_is_that_of_rfc_3711_b_2() {
    let counter = Counter {
        key: counter_key(&hex("2B7E151628AED2A6ABF7158809CF4F3C")).expect("a key"),
        salt: *hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").first_chunk().expect("14 bytes"),
        mac: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &[]),
        tag: 10,
    };
    let mut data = vec![0; 48];
    counter.mix(0, 0, &mut data).expect("mixed");
    let wanted = "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB \
        41E95B3BB0A2E8DD477901E4FCA894C0";
    assert_eq!(data, hex(wanted));
}

/// Session keys as RFC 7714 16 and 17 give them, the same for SRTP and for SRTCP.
fn quid_pro_quo(algorithm: &'static aead::Algorithm) -> Keys {
    let key: Vec<u8> = (0..algorithm.key_len() as u8).collect();
    let mut salt = [0; 14];
    salt[..12].copy_from_slice(b"Quid pro quo");
    let cipher = || gcm(algorithm, &key, &salt).expect("a key");
    Keys { rtp: cipher(), rtcp: cipher() }
}

fn gallia() -> Vec<u8> {
    [&hex("8040F17B8041F8D35501A0B2"), &b"Gallia est omnis divisa in partes tres"[..]].concat()
}

#[test]
fn srtp_with_gcm_is_that_of_rfc_7714_16() {
    for (algorithm, wanted) in [
        (
            &aead::AES_128_GCM,
            "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a\
             51c7d19b36de3adf8833899d7f27beb16a9152cf765ee4390cce",
        ),
        (
            &aead::AES_256_GCM,
            "8040f17b8041f8d35501a0b232b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a02\
             76ffae0f1ba63799b87b7aa3db36dfffd6b0f9bb7878d7a76c13",
        ),
    ] {
        let keys = quid_pro_quo(algorithm);
        let mut packet = gallia();
        keys.seal_rtp(&mut packet, 0xF17B, &[]).expect("sealed");
        assert_eq!(packet, hex(wanted));
        let length = keys.open_rtp(&mut packet, 0xF17B, 0).expect("opened");
        assert_eq!(packet[..length], gallia());
    }
}

#[test]
fn srtcp_with_gcm_is_that_of_rfc_7714_17() {
    let plain = hex("81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61\
         deadbeefdeadbeefdeadbeefdeadbeefdeadbeef");
    for (algorithm, wanted) in [
        (
            &aead::AES_128_GCM,
            "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda\
             4ce09b4686303ded0bb9275bc84aa45896cf4d2fc5abf87245d9eade800005d4",
        ),
        (
            &aead::AES_256_GCM,
            "81c8000d4d617273d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50a2eaa5c1110555be\
             8415f658c61de0476f1b6fad1d1eb30c4446839f57ff6f6cb26ac3be800005d4",
        ),
    ] {
        let keys = quid_pro_quo(algorithm);
        let mut packet = plain.clone();
        keys.seal_rtcp(&mut packet, 0x5D4, &[]).expect("sealed");
        assert_eq!(packet, hex(wanted));
        assert_eq!(keys.rtcp_index(&packet, 0), Some(0x5D4));
        let length = keys.open_rtcp(&mut packet, 0x5D4, 0).expect("opened");
        assert_eq!(packet[..length], plain);
    }
}

#[test]
fn what_is_encrypted_begins_after_the_csrcs_and_the_extension() {
    let mut packet = hex("92080001 00000001 00000007 0000000A 0000000B BEDE0001 51AA0000 D5D5");
    let header = packet[..packet.len() - 2].to_vec();
    assert_eq!(rtp_header(&packet), Some(header.len()));
    let secret = [7; 30];
    let keys = Keys::derive(Suite::AesCm128HmacSha1_80, &secret).expect("keys");
    keys.seal_rtp(&mut packet, 1, &[]).expect("sealed");
    assert_eq!(packet[..header.len()], header);
    assert_ne!(packet[header.len()..header.len() + 2], [0xD5, 0xD5]);
    for cut in ["92080001 00000001 00000007 0000000A 0000000B BEDE0001 51AA00", "9F", ""] {
        assert_eq!(rtp_header(&hex(cut)), None);
    }
}
