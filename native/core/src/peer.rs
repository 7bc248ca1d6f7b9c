//! One WebRTC transport towards the LiveKit server: an `Rtc` of str0m and its socket.
