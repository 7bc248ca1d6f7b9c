//! What the load tools of `make bench` share. They are told what to do by lines on standard
//! input and answer by lines of JSON; all of them are one thread (and one that reads the lines).

pub mod clock;
pub mod g711;
pub mod gcm;
pub mod json;
pub mod lines;
pub mod onset;
pub mod opus;
pub mod pack;
pub mod rtp;
pub mod udp;
