"""SDP and offer/answer without SIP, pure. `sdp.negotiate.OfferAnswer` is the machine."""
