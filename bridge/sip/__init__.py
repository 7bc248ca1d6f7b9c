"""The SIP core, pure: bytes and `now` in, outputs out. `endpoint` is its front door."""
