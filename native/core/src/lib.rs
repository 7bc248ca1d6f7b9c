//! The media core of the direct engine.
//!
//! Everything that thinks takes `now` as an argument and does no input or output: [`carrier`]
//! (RTP towards the carrier), [`playout`] (the room's audio on its way to the carrier), [`srtp`].
//! [`engine`] drives it on threads of its own, with sockets.

pub mod carrier;
pub mod engine;
pub mod g711;
pub mod net;
pub mod opus;
pub mod peer;
pub mod playout;
pub mod rtp;
pub mod srtp;
pub mod tap;
pub mod types;
