//! SRTP of the carrier's side, keys by SDES (RFC 3711, RFC 4568).
