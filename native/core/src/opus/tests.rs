//! Both ways of decoding against each other, on what libopus itself encodes.

use super::*;

/// One setting of the encoder: bits per second, ms of a frame, channels, bandwidth, FEC.
#[derive(Clone, Copy)]
struct Setting {
    bitrate: i32,
    samples: usize,
    channels: i32,
    bandwidth: i32,
    fec: bool,
}

/// A voice of 130 Hz with overtones and pauses, at 48 kHz.
fn voice(n: usize) -> f32 {
    let t = n as f32 / 48_000.0;
    let loud =
        ((t * 2.3).sin().max(0.0) * 0.6 + 0.02) * if (t * 0.7).fract() < 0.8 { 1.0 } else { 0.05 };
    let pitch = 130.0 + 20.0 * (t * 3.1).sin();
    (1..20).map(|k| (std::f32::consts::TAU * pitch * k as f32 * t).sin() / k as f32).sum::<f32>()
        * loud
        * 0.3
}

fn encoded(setting: Setting, packets: usize) -> Vec<Vec<u8>> {
    let (mut error, mut all) = (0, Vec::new());
    // SAFETY: valid constants; the encoder is used and freed here only, with buffers that hold
    // what is said; each request takes one int.
    unsafe {
        let application = sys::OPUS_APPLICATION_VOIP;
        let encoder = sys::opus_encoder_create(48_000, setting.channels, application, &mut error);
        assert_eq!(error, sys::OPUS_OK);
        sys::opus_encoder_ctl(encoder, sys::OPUS_SET_BITRATE_REQUEST, setting.bitrate);
        sys::opus_encoder_ctl(encoder, sys::OPUS_SET_BANDWIDTH_REQUEST, setting.bandwidth);
        sys::opus_encoder_ctl(encoder, sys::OPUS_SET_INBAND_FEC_REQUEST, i32::from(setting.fec));
        let loss = if setting.fec { 20 } else { 0 };
        sys::opus_encoder_ctl(encoder, sys::OPUS_SET_PACKET_LOSS_PERC_REQUEST, loss);
        for n in 0..packets {
            let pcm: Vec<f32> = (0..setting.samples * setting.channels as usize)
                .map(|i| voice(n * setting.samples + i / setting.channels as usize))
                .collect();
            let mut packet = vec![0; 1500];
            let (frame, room) = (setting.samples as i32, packet.len() as i32);
            let size =
                sys::opus_encode_float(encoder, pcm.as_ptr(), frame, packet.as_mut_ptr(), room);
            packet.truncate(usize::try_from(size).expect("encoded"));
            all.push(packet);
        }
        sys::opus_encoder_destroy(encoder);
    }
    all
}

const WIDE: i32 = sys::OPUS_BANDWIDTH_WIDEBAND;
const FULL: i32 = sys::OPUS_BANDWIDTH_FULLBAND;

fn setting(bitrate: i32, ms: usize, channels: i32, bandwidth: i32, fec: bool) -> Setting {
    Setting { bitrate, samples: ms * 48, channels, bandwidth, fec }
}

/// Energy of the difference below that of the sound, dB.
fn likeness(a: &[i16], b: &[i16]) -> f64 {
    let energy: f64 = a.iter().map(|s| f64::from(*s).powi(2)).sum();
    let noise: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    10.0 * (energy / noise.max(1.0)).log10()
}

fn is_hybrid(packet: &[u8]) -> bool {
    (12..16).contains(&(packet[0] >> 3))
}

/// Decode *packets*, each third of a ten lost and recovered where *fec*.
fn decoded(decoder: &mut Decoder, packets: &[Vec<u8>], lossy: bool) -> Vec<i16> {
    let (mut all, mut out) = (Vec::new(), [0; MAX_SAMPLES]);
    for (n, packet) in packets.iter().enumerate() {
        let length = samples(packet).expect("a packet");
        let n = match (lossy && n % 10 == 3, packets.get(n + 1)) {
            (true, Some(next)) if has_fec(next) => decoder.recover(next, length, &mut out),
            (true, _) => decoder.conceal(length, &mut out),
            (false, _) => decoder.decode(packet, &mut out),
        };
        assert_eq!(n, length);
        all.extend_from_slice(&out[..n]);
    }
    all
}

#[test]
fn the_seam_below_libopus_is_the_one_that_is_known() {
    let silk = Silk::new().expect("the known version");
    assert!(silk.octets() < 16_000, "{}", silk.octets());
}

#[test]
fn silk_alone_is_what_the_public_decoder_says_sample_by_sample() {
    let narrow = sys::OPUS_BANDWIDTH_NARROWBAND;
    let medium = sys::OPUS_BANDWIDTH_MEDIUMBAND;
    for (ms, channels, bandwidth) in [
        (20, 1, WIDE),
        (10, 1, WIDE),
        (40, 1, WIDE),
        (60, 1, narrow),
        (20, 2, WIDE),
        (20, 1, medium),
    ] {
        let packets = encoded(setting(16_000 * channels, ms, channels, bandwidth, true), 100);
        assert!(packets.iter().all(|p| p[0] >> 3 < 12));
        for lossy in [false, true] {
            let ours = decoded(&mut Decoder::new(), &packets, lossy);
            let theirs = decoded(&mut Decoder::public_only(), &packets, lossy);
            assert!(ours == theirs, "{ms} ms, {channels} channels, {bandwidth}, lossy {lossy}");
        }
    }
}

#[test]
fn hybrid_loses_nothing_that_is_below_4_khz() {
    for (bitrate, ms, channels) in
        [(24_000, 20, 1), (40_000, 20, 1), (32_000, 10, 1), (64_000, 20, 2)]
    {
        let packets = encoded(setting(bitrate, ms, channels, FULL, false), 100);
        let hybrid = packets.iter().filter(|p| is_hybrid(p)).count();
        assert!(hybrid > 50, "{hybrid}");
        let ours = decoded(&mut Decoder::new(), &packets, false);
        let theirs = decoded(&mut Decoder::public_only(), &packets, false);
        // Where the encoder changes to CELT and back, libopus cross-fades in another way.
        let steady = |n: usize| (n.saturating_sub(3)..=n).all(|n| is_hybrid(&packets[n]));
        let only = |pcm: &[i16]| -> Vec<i16> {
            let frames = pcm.chunks(pcm.len() / packets.len()).enumerate();
            frames.filter(|(n, _)| steady(*n)).flat_map(|(_, frame)| frame.to_vec()).collect()
        };
        let alike = likeness(&only(&theirs), &only(&ours));
        assert!(alike > 30.0, "{bitrate} {ms} {channels}: {alike} dB, {hybrid} hybrid");
    }
}

#[test]
fn a_change_between_silk_and_celt_is_no_click() {
    let silk = encoded(setting(24_000, 20, 1, FULL, false), 60);
    let celt = encoded(setting(128_000, 20, 1, FULL, false), 60);
    assert!(celt.iter().skip(5).all(|p| p[0] >> 3 >= 16));
    let mixed: Vec<Vec<u8>> =
        (0..60).map(|n| if n / 15 % 2 == 0 { silk[n].clone() } else { celt[n].clone() }).collect();
    let steepest = |pcm: &[i16]| {
        pcm.windows(2).map(|w| (i32::from(w[1]) - i32::from(w[0])).abs()).max().unwrap_or(0)
    };
    let clean = decoded(&mut Decoder::new(), &celt, false);
    let ours = decoded(&mut Decoder::new(), &mixed, false);
    assert!(steepest(&ours) < steepest(&clean) * 3 / 2, "{} {}", steepest(&ours), steepest(&clean));
}

#[test]
fn junk_is_concealed_and_never_an_error() {
    for mut decoder in [Decoder::new(), Decoder::public_only()] {
        let mut out = [0; MAX_SAMPLES];
        let mut state = 7u32;
        for n in 0..2000usize {
            let junk: Vec<u8> = std::iter::repeat_with(|| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .take(n % 97)
            .collect();
            let got = decoder.decode(&junk, &mut out);
            assert!((UNIT..=MAX_SAMPLES).contains(&got) && got.is_multiple_of(UNIT));
            assert_eq!(decoder.recover(&junk, 160, &mut out), 160);
            if n % 100 == 0 {
                decoder.reset();
            }
        }
    }
}

#[test]
fn any_duration_can_be_concealed() {
    let mut decoder = Decoder::new();
    let mut out = [0; MAX_SAMPLES];
    let packets = encoded(setting(24_000, 20, 1, FULL, false), 10);
    decoded(&mut decoder, &packets, false);
    for (wanted, written) in [(1, 20), (160, 160), (100, 100), (330, 340), (5000, 960)] {
        assert_eq!(decoder.conceal(wanted, &mut out), written);
    }
}

#[test]
fn the_silence_that_a_server_sends_while_muted_lasts_20_ms() {
    assert_eq!(samples(&[0xf8, 0xff, 0xfe]), Some(160));
    assert_eq!(samples(&[]), None);
    assert!(!has_fec(&[0xf8, 0xff, 0xfe]) && !has_fec(&[]));
}
