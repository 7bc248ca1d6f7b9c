"""The sockets of RTP."""
