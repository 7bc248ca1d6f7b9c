//! RTP and RTCP, pure (RFC 3550, RFC 4733): the counterparts of the Python package `rtp`.

pub mod dtmf;
pub mod forward;
pub mod latch;
pub mod packet;
pub mod reception;
pub mod red;
pub mod report;
pub mod rtcp;
pub mod stream;
