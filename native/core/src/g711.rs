//! G.711: tables between the laws and 16-bit PCM, and the audio level of RFC 6464.
