"""The built-in carrier: a scripted SIP and RTP peer over the wire (contract section 8)."""
