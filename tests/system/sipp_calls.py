"""More SIPp scenarios for the rows of docs/carrier-rows.md: those that need a test beside them.

Written with the steps of `sipp_rows`. ``[$4]`` to ``[$7]`` are From, Via, CSeq and To of the
bridge's INVITE, so that it can be answered after other messages have come.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.system.sipp_rows import (
    AUDIO,
    BRIDGE,
    Step,
    ack,
    ack_refusal,
    answered,
    asked,
    bye,
    first,
    hang_up,
    hear,
    held,
    refused,
    ringing,
    say,
    sdp,
    wait_for,
)

IGNORED = (
    "Timestamp: 54.2",
    "Expires: 120",
    "Date: Sat, 13 Nov 2010 23:29:00 GMT",
    "Session-ID: ab30317f1a784dc48ff824d0d3715d86;remote=00000000000000000000000000000000",
    "Identity: eyJhbGciOiJFUzI1NiJ9.e30.c2ln;info=<https://sti.example/c.pem>;alg=ES256",
)
CALLER_IS = (
    'P-Asserted-Identity: "Asha" <sip:+919811112222@carrier.example;user=phone>',
    "Diversion: <sip:+918044445555@carrier.example>;reason=unconditional",
    "X-Exotel-CallSid: abc123",
)
ICE = "a=rtcp:9 IN IP4 127.0.0.1\na=rtcp-mux\na=ice-ufrag:ab\na=ice-pwd:abcdefghijklmnopqrstuv"

# One caller each, over every transport.
CALLERS: dict[str, Callable[[], list[Step]]] = {
    "45 a BYE with reasons, one without cause": lambda: [
        *answered(),
        say("BYE", 2, headers=('Reason: SIP ;text="gone"', "Reason: Q.850;cause=16")),
        hear(200),
    ],
    "47 header fields that we ignore": lambda: [
        first(body=sdp(), headers=IGNORED),
        hear(200),
        ack(),
        *bye(2),
    ],
    "56 preconditions are refused with 420": lambda: [
        first(body=sdp(), headers=("Require: precondition",)),
        refused(420, "Unsupported: precondition"),
        ack_refusal(1, "INVITE1", outside=True),
    ],
    "63 a refresh keeps the version and a change raises it": lambda: [
        *answered(),
        *held("INVITE", 2, "", "a=sendrecv"),
        *held("INVITE", 3, "a=sendonly", "a=recvonly"),
        *bye(4),
    ],
    "69 RTCP and ICE attributes": lambda: [
        first(body=sdp(f"{AUDIO}\n{ICE}")),
        hear(200, body=("m=audio [1-9][0-9]* RTP/AVP 8",)),
        ack(),
        *bye(2),
    ],
}


def copied() -> list[Step]:
    """Send the INVITE twice (over streams: over UDP SIPp sees no second 200)."""
    return [first(body=sdp()), hear(200), first(body=sdp()), hear(200), ack(), *bye(2)]


def identified() -> list[Step]:
    """Call anonymously, with the number elsewhere, and what the carrier adds."""
    return [
        first(body=sdp(), headers=CALLER_IS),
        hear(200),
        ack(),
        *asked("BYE", 200),
    ]


def early_bye() -> list[Step]:
    """Call a number that rings, and end the early dialog by BYE."""
    return [
        first(body=sdp()),
        refused(180),
        say("BYE", 2, uri=BRIDGE),
        hear(200),
        hear(487),
        ack_refusal(1, "INVITE1", outside=True),
    ]


def glare() -> list[Step]:
    """Answer the bridge's re-INVITE with one of our own and with 491, then take it."""
    body = sdp(f"{AUDIO}\na=recvonly", version=3)
    return [
        *answered(),
        called(),
        say("INVITE", 2, sdp(version=2), again=False),
        hear(491),
        ack_refusal(2, "INVITE2"),
        answer(491, ""),
        wait_for("ACK"),
        wait_for("INVITE", "a=sendonly"),
        ringing(200, "", body),
        wait_for("ACK"),
        *asked("BYE", 200),
    ]


# The bridge calls.


def called() -> Step:
    """Wait for the INVITE and keep what answers are made of."""
    names = ("From", "Via", "CSeq", "To")
    kept = "".join(
        f'<ereg regexp=".*" search_in="hdr" header="{name}:" check_it="true" assign_to="{n}"/>'
        for n, name in enumerate(names, start=4)
    )
    return Step(f'<recv request="INVITE" rrs="true"><action>{kept}</action></recv>')


def answer(status: int, tag: str, body: str = "") -> Step:
    """Answer the INVITE that was kept; *tag* is empty when its To has one."""
    lines = [
        f"SIP/2.0 {status} Whatever",
        "Via:[$5]",
        "From:[$4]",
        f"To:[$7];tag=[pid]-{tag}" if tag else "To:[$7]",
        "Call-ID: [call_id]",
        "CSeq:[$6]",
        "Contact: <sip:callee@[local_ip]:[local_port];transport=[transport]>",
        *(["Content-Type: application/sdp"] if body else []),
    ]
    text = "\n".join([*lines, "Content-Length: [len]", "", body])
    return Step(f"<send><![CDATA[\n\n{text}\n]]></send>")


def refused_call() -> list[Step]:
    """Refuse the call with a cause and look at the ACK."""
    return [
        wait_for("INVITE"),
        ringing(480, "a", headers=("Reason: Q.850;cause=17", "Warning: 399 x.example busy")),
        wait_for("ACK", "To: .*;tag=[0-9]*-a"),
    ]


def again() -> list[Step]:
    """Answer twice; both are acknowledged."""
    return [
        called(),
        answer(200, "a", sdp()),
        wait_for("ACK"),
        answer(200, "a", sdp()),
        wait_for("ACK"),
        *hang_up("a"),
    ]


def crossed() -> list[Step]:
    """Answer a call that is being cancelled."""
    return [
        called(),
        answer(180, "a"),
        *asked("CANCEL", 200),
        answer(200, "a", sdp()),
        wait_for("ACK"),
        *asked("BYE", 200),
    ]


def fork_ended() -> list[Step]:
    """End one early dialog, answer in another."""
    return [
        called(),
        answer(180, "a"),
        *hang_up("a"),
        answer(200, "b", sdp()),
        wait_for("ACK", "To: .*;tag=[0-9]*-b"),
        *asked("BYE", 200),
    ]
