"""What the mutations start from: the vectors of this repository, and Exotel's way of writing."""

from __future__ import annotations

import json
from pathlib import Path

VECTORS = Path(__file__).parents[2] / "vectors"


def _crlf(text: str, body: bytes = b"") -> bytes:
    head = "".join(f"{line}\r\n" for line in text.strip().splitlines())
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


SDP = [path.read_bytes() for path in sorted((VECTORS / "sdp").glob("*.sdp"))]
RFC4475 = [path.read_bytes() for path in sorted((VECTORS / "rfc4475").glob("*.dat"))]
EXOTEL_OFFER = (VECTORS / "sdp" / "exotel-offer.sdp").read_bytes()

EXOTEL = [
    _crlf(
        """
INVITE sip:08040000000@52.66.10.20:5060;transport=tcp SIP/2.0
Record-Route: <sip:182.76.143.61:5060;transport=tcp;lr;did=a1.b2>
Via: SIP/2.0/TCP 182.76.143.61:5060;branch=z9hG4bKcydzigwkX;rport
Via: SIP/2.0/TCP 10.10.5.1:5080;received=10.10.5.1;branch=z9hG4bK-524287-1---d1
Max-Forwards: 69
From: "09812345678" <sip:09812345678@182.76.143.61>;tag=as5f0e
To: <sip:08040000000@52.66.10.20>
Call-ID: 5b1f2c@10.10.5.1
CSeq: 102 INVITE
Contact: sip:09812345678@182.76.143.61:5060;transport=tcp
Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, SUBSCRIBE, NOTIFY, INFO, PUBLISH
Supported: replaces, timer
X-Exotel-CallSid: 3f1b0c9d
P-Asserted-Identity: <tel:+919812345678>, "A, B" <sip:+919812345678@ims.example;user=phone>
Content-Type: application/sdp
""",
        EXOTEL_OFFER,
    ),
    _crlf(
        """
INVITE sip:08040000000@52.66.10.20 SIP/2.0
v: SIP/2.0/UDP 182.76.143.61:5060;branch=z9hG4bKoff
f: sip:anonymous@anonymous.invalid;tag=9
t: sip:08040000000@52.66.10.20
i: delayed@10.10.5.1
CSeq: 1 INVITE
m: <sip:10.10.5.1:5080>
Privacy: id
"""
    ),
    _crlf(
        """
OPTIONS sip:52.66.10.20:5060 SIP/2.0
Via: SIP/2.0/UDP 182.76.143.61:5060;branch=z9hG4bKping;rport
From: <sip:ping@182.76.143.61>;tag=p1
To: <sip:52.66.10.20>
Call-ID: ping@182.76.143.61
CSeq: 10 OPTIONS
"""
    ),
    _crlf(
        """
BYE sip:08040000000@52.66.10.20:5060;transport=tcp SIP/2.0
Via: SIP/2.0/TCP 182.76.143.61:5060;branch=z9hG4bKbye;rport
From: "09812345678" <sip:09812345678@182.76.143.61>;tag=as5f0e
To: <sip:08040000000@52.66.10.20>;tag=ours
Call-ID: 5b1f2c@10.10.5.1
CSeq: 103 BYE
Reason: Q.850;cause=16;text="Normal call clearing"
"""
    ),
    _crlf(
        """
SIP/2.0 200 OK
Via: SIP/2.0/TCP 52.66.10.20:5060;branch=z9hG4bK-t00001;rport=5060;received=52.66.10.20
Record-Route: <sip:182.76.143.61;lr>
From: <sip:08040000000@52.66.10.20>;tag=t00002
To: <sip:09812345678@182.76.143.61>;tag=as77
Call-ID: t00003
CSeq: 1 INVITE
Contact: <sip:09812345678@10.10.5.1:5080>
Content-Type: application/sdp
""",
        EXOTEL_OFFER,
    ),
    b"\r\n\r\n",
    b"\r\n",
]
SIP = [*EXOTEL, *RFC4475]


def _datagrams() -> list[bytes]:
    found: dict[bytes, None] = {}
    for path in sorted((VECTORS / "rtp").glob("*.jsonl")):
        for line in path.read_text().splitlines():
            text = json.loads(line).get("hex")
            if isinstance(text, str):
                found[bytes.fromhex(text)] = None
    return list(found)


RTP = _datagrams()
