//! SRTP with AEAD_AES_128_GCM (RFC 7714) for two ends that share one fixed session key: the work
//! of each packet is the real one, the key exchange is left out. Only for load on loopback.

use crate::rtp;
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

const KEY: [u8; 16] = *b"bench-only-key-0";
const SALT: [u8; 12] = *b"bench-salt-0";
/// Bytes that a packet grows by.
pub const TAG: usize = 16;

/// One direction of one stream; sequence numbers do not wrap within a bench's run of 20 minutes.
pub struct Gcm(LessSafeKey);

impl Default for Gcm {
    fn default() -> Self {
        let key = UnboundKey::new(&AES_128_GCM, &KEY).expect("a key of 16 bytes");
        Gcm(LessSafeKey::new(key))
    }
}

impl Gcm {
    /// Protect the packet in `buffer[..length]`; returns its new length.
    pub fn protect(&self, buffer: &mut [u8], length: usize) -> usize {
        let (head, body) = buffer[..length].split_at_mut(rtp::HEADER);
        let nonce = nonce(head);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(&*head), body)
            .expect("sealing takes any length");
        buffer[length..length + TAG].copy_from_slice(tag.as_ref());
        length + TAG
    }

    /// Open the packet in `buffer`; returns its plain length.
    pub fn open(&self, buffer: &mut [u8]) -> Option<usize> {
        if buffer.len() < rtp::HEADER + TAG {
            return None;
        }
        let (head, body) = buffer.split_at_mut(rtp::HEADER);
        let nonce = nonce(head);
        let plain = self.0.open_in_place(nonce, Aad::from(&*head), body).ok()?;
        Some(rtp::HEADER + plain.len())
    }
}

/// RFC 7714 8.1: two zeros, SSRC, rollover counter (0 here), sequence number; XOR the salt.
fn nonce(head: &[u8]) -> Nonce {
    let mut value = SALT;
    for (at, byte) in head[8..12].iter().enumerate() {
        value[2 + at] ^= byte;
    }
    value[10] ^= head[2];
    value[11] ^= head[3];
    Nonce::assume_unique_for_key(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_protected_opens_and_what_was_changed_does_not() {
        let gcm = Gcm::default();
        let mut packet = [7u8; 12 + 160 + TAG];
        let length = gcm.protect(&mut packet, 172);
        let mut changed = packet;
        changed[50] ^= 1;
        assert_eq!(gcm.open(&mut changed[..length]), None);
        assert_eq!(gcm.open(&mut packet[..length]), Some(172));
        assert!(packet[12..172].iter().all(|byte| *byte == 7));
    }
}
