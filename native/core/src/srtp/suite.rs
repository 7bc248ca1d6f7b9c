//! The crypto suites that carriers have (RFC 4568 6.2, RFC 7714 14.2).

/// One suite of `a=crypto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    AesCm128HmacSha1_80,
    AesCm128HmacSha1_32,
    AeadAes128Gcm,
    AeadAes256Gcm,
}

impl Suite {
    pub fn named(name: &str) -> Option<Suite> {
        Some(match name {
            "AES_CM_128_HMAC_SHA1_80" => Suite::AesCm128HmacSha1_80,
            "AES_CM_128_HMAC_SHA1_32" => Suite::AesCm128HmacSha1_32,
            "AEAD_AES_128_GCM" => Suite::AeadAes128Gcm,
            "AEAD_AES_256_GCM" => Suite::AeadAes256Gcm,
            _ => return None,
        })
    }

    /// Bytes of the master key, and of the session keys for encryption.
    pub fn key_len(self) -> usize {
        match self {
            Suite::AeadAes256Gcm => 32,
            _ => 16,
        }
    }

    /// Bytes of the master salt (RFC 3711 8.2, RFC 7714 12).
    pub fn salt_len(self) -> usize {
        match self {
            Suite::AesCm128HmacSha1_80 | Suite::AesCm128HmacSha1_32 => 14,
            Suite::AeadAes128Gcm | Suite::AeadAes256Gcm => 12,
        }
    }

    /// Bytes of master key and salt together, as `inline:` has them.
    pub fn secret_len(self) -> usize {
        self.key_len() + self.salt_len()
    }

    /// Bytes of the authentication tag of SRTP in counter mode.
    pub fn tag_len(self) -> usize {
        match self {
            Suite::AesCm128HmacSha1_32 => 4,
            _ => 10,
        }
    }
}
