"""What is known of each kind of carrier: defaults for a trunk, as data.

A profile only sets defaults of contract section 3; whatever the file says wins.
The values are what each carrier documents for its trunks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

PROFILES: Final[Mapping[str, Mapping[str, Any]]] = {
    # TCP 5070 or TLS 443, never UDP; A-law first; E.164.
    "exotel": {
        "port": 5070,
        "tls_port": 443,  # of a trunk whose transport is tls
        "transport": "tcp",
        "country": "IN",
        "codecs": ["PCMA", "PCMU"],
    },
    # UDP, TCP and TLS; UPDATE and re-INVITE; 2 calls per second on a new account.
    "plivo": {"transport": "udp", "calls_per_second": 2},
    # UDP and TCP 5060; two Record-Routes and a private Contact.
    "telnyx": {"transport": "udp", "country": "US", "codecs": ["PCMU", "PCMA"]},
    # u-law first, from an Indian carrier; Kamailio in front.
    "vobiz": {"transport": "udp", "codecs": ["PCMU", "PCMA"]},
    # Refuses a URI without ;user=phone with 487.
    "airtel": {"transport": "udp", "user_phone": True},
    "twilio": {"transport": "udp", "country": "US", "codecs": ["PCMU", "PCMA"]},
    "generic": {},
}
