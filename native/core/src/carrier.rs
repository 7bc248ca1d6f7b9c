//! The carrier's side of a call: plain or secured RTP, without sockets.
