//! Session keys of one master key, and the transforms of packets under them.
//!
//! Everything is in place and nothing allocates: a packet that is sealed grows within the
//! capacity of its buffer when that has room for the tag.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;

use super::suite::Suite;

/// Bytes of the fixed RTP header (RFC 3550 5.1).
const RTP_HEADER: usize = 12;
/// Bytes of an RTCP header with its SSRC: all that SRTCP leaves readable (RFC 3711 3.4).
const RTCP_HEADER: usize = 8;
/// Bytes of the E flag and SRTCP index.
const RTCP_INDEX: usize = 4;
/// The E flag: the packet is encrypted.
const ENCRYPTED: u32 = 1 << 31;
const HMAC_KEY: usize = 20;
/// RFC 4568 6.2.2: the SRTCP authentication tag stays 80 bits long.
const RTCP_TAG: usize = 10;

/// Where in a packet what stands: `mki` and, in counter mode, the tag come last.
struct Parts {
    /// What the transform covers, with the tag of an AEAD.
    body: usize,
    mki: usize,
}

/// The session keys of one master key, both for SRTP and for SRTCP.
pub struct Keys {
    rtp: Cipher,
    rtcp: Cipher,
}

enum Cipher {
    Counter(Box<Counter>),
    Gcm { key: LessSafeKey, salt: [u8; 12] },
}

/// AES in counter mode, and HMAC-SHA1.
struct Counter {
    key: EncryptingKey,
    salt: [u8; 14],
    mac: hmac::Key,
    /// Bytes of the authentication tag.
    tag: usize,
}

impl Keys {
    /// Derive them from master key and salt, concatenated (RFC 3711 4.3, RFC 7714 11).
    pub fn derive(suite: Suite, secret: &[u8]) -> Option<Keys> {
        let master = Master::new(suite, secret)?;
        Some(Keys {
            rtp: master.cipher(suite, 0, suite.tag_len())?,
            rtcp: master.cipher(suite, 3, RTCP_TAG)?,
        })
    }

    /// Protect an RTP packet; `index` is its extended sequence number.
    pub fn seal_rtp(&self, packet: &mut Vec<u8>, index: u64, mki: &[u8]) -> Option<()> {
        let header = rtp_header(packet)?;
        let ssrc = word(packet, 8)?;
        match &self.rtp {
            Cipher::Counter(counter) => {
                counter.mix(ssrc, index, packet.get_mut(header..)?)?;
                let sum = counter.sum(packet, &rollovers(index));
                packet.extend_from_slice(mki);
                packet.extend_from_slice(sum.as_ref().get(..counter.tag)?);
            }
            Cipher::Gcm { key, salt } => {
                let (head, body) = packet.split_at_mut(header);
                let sum = key
                    .seal_in_place_separate_tag(nonce(salt, ssrc, index), Aad::from(&*head), body)
                    .ok()?;
                packet.extend_from_slice(sum.as_ref());
                packet.extend_from_slice(mki);
            }
        }
        Some(())
    }

    /// Open an RTP packet whose key has an `mki` of so many bytes; the length that is left.
    ///
    /// When it is not authentic, counter mode leaves it as it came; an AEAD does not.
    pub fn open_rtp(&self, data: &mut [u8], index: u64, mki: usize) -> Option<usize> {
        let header = rtp_header(data)?;
        let ssrc = word(data, 8)?;
        let Parts { body, .. } = self.rtp.parts(data.len(), mki)?;
        match &self.rtp {
            Cipher::Counter(counter) => {
                let covered = data.get(..body)?;
                counter.verify(covered, &rollovers(index), data)?;
                counter.mix(ssrc, index, data.get_mut(header..body)?)?;
                Some(body)
            }
            Cipher::Gcm { key, salt } => {
                let (head, rest) = data.split_at_mut_checked(header)?;
                let body = rest.get_mut(..body.checked_sub(header)?)?;
                let aad = Aad::from(&*head);
                let plain = key.open_in_place(nonce(salt, ssrc, index), aad, body).ok()?.len();
                Some(header + plain)
            }
        }
    }

    /// Protect compound RTCP under an SRTCP index.
    pub fn seal_rtcp(&self, packet: &mut Vec<u8>, index: u32, mki: &[u8]) -> Option<()> {
        let ssrc = word(packet, 4)?;
        let trailer = (ENCRYPTED | index).to_be_bytes();
        match &self.rtcp {
            Cipher::Counter(counter) => {
                counter.mix(ssrc, u64::from(index), packet.get_mut(RTCP_HEADER..)?)?;
                packet.extend_from_slice(&trailer);
                let sum = counter.sum(packet, &[]);
                packet.extend_from_slice(mki);
                packet.extend_from_slice(sum.as_ref().get(..counter.tag)?);
            }
            Cipher::Gcm { key, salt } => {
                let (head, body) = packet.split_at_mut_checked(RTCP_HEADER)?;
                let aad = Aad::from(rtcp_aad(head, trailer)?);
                let nonce = nonce(salt, ssrc, u64::from(index));
                let sum = key.seal_in_place_separate_tag(nonce, aad, body).ok()?;
                packet.extend_from_slice(sum.as_ref());
                packet.extend_from_slice(&trailer);
                packet.extend_from_slice(mki);
            }
        }
        Some(())
    }

    /// Return the SRTCP index of `data`; it counts when the packet has passed.
    ///
    /// `None` also for a packet that is not encrypted: UNENCRYPTED_SRTCP is never agreed
    /// (RFC 4568 6.3.2).
    pub fn rtcp_index(&self, data: &[u8], mki: usize) -> Option<u32> {
        let Parts { body, .. } = self.rtcp.parts(data.len(), mki)?;
        let trailer = word(data, body.checked_sub(RTCP_INDEX)?)?;
        (trailer & ENCRYPTED != 0).then_some(trailer & !ENCRYPTED)
    }

    /// Open compound RTCP, as `open_rtp`.
    pub fn open_rtcp(&self, data: &mut [u8], index: u32, mki: usize) -> Option<usize> {
        let ssrc = word(data, 4)?;
        let Parts { body, .. } = self.rtcp.parts(data.len(), mki)?;
        let end = body.checked_sub(RTCP_INDEX)?;
        match &self.rtcp {
            Cipher::Counter(counter) => {
                counter.verify(data.get(..body)?, &[], data)?;
                counter.mix(ssrc, u64::from(index), data.get_mut(RTCP_HEADER..end)?)?;
                Some(end)
            }
            Cipher::Gcm { key, salt } => {
                let (head, rest) = data.split_at_mut_checked(RTCP_HEADER)?;
                let body = rest.get_mut(..end.checked_sub(RTCP_HEADER)?)?;
                let aad = Aad::from(rtcp_aad(head, (ENCRYPTED | index).to_be_bytes())?);
                let nonce = nonce(salt, ssrc, u64::from(index));
                Some(RTCP_HEADER + key.open_in_place(nonce, aad, body).ok()?.len())
            }
        }
    }

    /// Return the `mki` of so many bytes in an RTP packet.
    pub fn rtp_mki<'a>(&self, data: &'a [u8], mki: usize) -> Option<&'a [u8]> {
        let at = self.rtp.parts(data.len(), mki)?.mki;
        data.get(at..at + mki)
    }

    /// Return the `mki` of so many bytes in RTCP.
    pub fn rtcp_mki<'a>(&self, data: &'a [u8], mki: usize) -> Option<&'a [u8]> {
        let at = self.rtcp.parts(data.len(), mki)?.mki;
        data.get(at..at + mki)
    }
}

impl Counter {
    /// Mix the key stream of a packet into `data` (RFC 3711 4.1.1).
    fn mix(&self, ssrc: u32, index: u64, data: &mut [u8]) -> Option<()> {
        let mixed = u128::from(ssrc) << 64 ^ u128::from(index) << 16;
        let mut start = mixed.to_be_bytes();
        start.iter_mut().zip(&self.salt).for_each(|(byte, salt)| *byte ^= salt);
        run(&self.key, start, data)
    }

    /// RFC 3711 4.2: what is authenticated is the packet, then the roll-over counter.
    fn sum(&self, covered: &[u8], rollovers: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.mac);
        context.update(covered);
        context.update(rollovers);
        context.sign()
    }

    /// Check the tag at the end of `data`.
    fn verify(&self, covered: &[u8], rollovers: &[u8], data: &[u8]) -> Option<()> {
        let given = data.get(data.len().checked_sub(self.tag)?..)?;
        let sum = self.sum(covered, rollovers);
        verify_slices_are_equal(sum.as_ref().get(..self.tag)?, given).ok()
    }
}

impl Cipher {
    /// Tell where a packet of `length` ends, for a key with an identifier of `mki` bytes.
    ///
    /// RFC 3711 3.1: the identifier goes before the tag; RFC 7714 8.1: that of an AEAD is
    /// part of the ciphertext, so the identifier is last.
    fn parts(&self, length: usize, mki: usize) -> Option<Parts> {
        let tag = match self {
            Cipher::Counter(counter) => counter.tag,
            Cipher::Gcm { .. } => 0,
        };
        let body = length.checked_sub(tag + mki)?;
        Some(Parts { body, mki: body })
    }
}

/// A master key, from which session keys are drawn (RFC 3711 4.3.1).
struct Master {
    prf: EncryptingKey,
    salt: [u8; 14],
}

impl Master {
    fn new(suite: Suite, secret: &[u8]) -> Option<Master> {
        if secret.len() != suite.secret_len() {
            return None;
        }
        let (key, given) = secret.split_at(suite.key_len());
        // RFC 7714 11: a salt of 96 bits is followed by 16 zero bits.
        let mut salt = [0; 14];
        salt[..suite.salt_len()].copy_from_slice(given);
        Some(Master { prf: counter_key(key)?, salt })
    }

    fn draw(&self, label: u8, out: &mut [u8]) -> Option<()> {
        let mut start = [0; 16];
        start[..14].copy_from_slice(&self.salt);
        // RFC 3711 4.3.1: label || (index DIV key_derivation_rate), which is 0, in 56 bits.
        start[7] ^= label;
        run(&self.prf, start, out)
    }

    /// Return the keys with `label`, the one after it and the second after it.
    fn cipher(&self, suite: Suite, label: u8, tag: usize) -> Option<Cipher> {
        let mut key = [0; 32];
        let key = key.get_mut(..suite.key_len())?;
        self.draw(label, key)?;
        let mut salt = [0; 14];
        self.draw(label + 2, salt.get_mut(..suite.salt_len())?)?;
        Some(match suite {
            Suite::AesCm128HmacSha1_80 | Suite::AesCm128HmacSha1_32 => {
                let mut mac = [0; HMAC_KEY];
                self.draw(label + 1, &mut mac)?;
                let mac = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &mac);
                Cipher::Counter(Box::new(Counter { key: counter_key(key)?, salt, mac, tag }))
            }
            Suite::AeadAes128Gcm => gcm(&aead::AES_128_GCM, key, &salt)?,
            Suite::AeadAes256Gcm => gcm(&aead::AES_256_GCM, key, &salt)?,
        })
    }
}

fn gcm(algorithm: &'static aead::Algorithm, key: &[u8], salt: &[u8; 14]) -> Option<Cipher> {
    let key = LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?);
    Some(Cipher::Gcm { key, salt: *salt.first_chunk()? })
}

fn counter_key(key: &[u8]) -> Option<EncryptingKey> {
    let algorithm = if key.len() == 32 { &AES_256 } else { &AES_128 };
    EncryptingKey::ctr(UnboundCipherKey::new(algorithm, key).ok()?).ok()
}

/// Mix the key stream that starts at a counter into `data`.
fn run(key: &EncryptingKey, start: [u8; 16], data: &mut [u8]) -> Option<()> {
    let context = EncryptionContext::Iv128(FixedLength::from(start));
    key.less_safe_encrypt(data, context).ok().map(|_| ())
}

/// Return the nonce of a packet: SSRC and 48-bit index, over the salt (RFC 7714 8.1, 9.1).
fn nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> Nonce {
    let mixed = u128::from(ssrc) << 48 ^ u128::from(index);
    let mut value = [0; 12];
    value.copy_from_slice(&mixed.to_be_bytes()[4..]);
    value.iter_mut().zip(salt).for_each(|(byte, salt)| *byte ^= salt);
    Nonce::assume_unique_for_key(value)
}

fn rollovers(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

/// RFC 7714 9.2: the header, then the E flag with the index.
fn rtcp_aad(head: &[u8], trailer: [u8; RTCP_INDEX]) -> Option<[u8; RTCP_HEADER + RTCP_INDEX]> {
    let mut aad = [0; RTCP_HEADER + RTCP_INDEX];
    aad.get_mut(..RTCP_HEADER)?.copy_from_slice(head);
    aad.get_mut(RTCP_HEADER..)?.copy_from_slice(&trailer);
    Some(aad)
}

/// Bytes of the RTP header with its CSRCs and its extension: what stays readable.
fn rtp_header(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let mut length = RTP_HEADER + 4 * usize::from(first & 0x0F);
    if first & 0x10 != 0 {
        let words = packet.get(length + 2..length + 4)?;
        length += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
    }
    (length <= packet.len()).then_some(length)
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests;
