"""SIPp scenarios for the rows of docs/carrier-rows.md that a carrier can show from outside.

Written as steps; `write` makes the XML. All are callers; the number is answered at once.
Branches are ours, so that an ACK of a refusal has that of its INVITE.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

AUDIO = "m=audio [rtp_port] RTP/AVP 8 101\na=rtpmap:8 PCMA/8000\na=rtpmap:101 telephone-event/8000"
KEPT = "kept"
SEND = "<send><![CDATA[\n\n"
CARRIER = "<sip:[caller]@[local_ip]:[local_port]>"
BRIDGE = "sip:[number]@[remote_ip]:[remote_port];transport=[transport]"


@dataclass(frozen=True, slots=True)
class Step:
    """One ``<send>`` or ``<recv>``."""

    xml: str


def sdp(media: str = AUDIO, *, version: int = 1, address: str = "[media_ip]") -> str:
    """Return a body."""
    return f"v=0\no=sipp 1 {version} IN IP4 [media_ip]\ns=-\nc=IN IP4 {address}\nt=0 0\n{media}\n"


def say(
    method: str,
    cseq: int,
    body: str = "",
    *,
    branch: str = "",
    to: str = "[peer_tag_param]",
    uri: str = "[next_url]",
    headers: tuple[str, ...] = (),
    kind: str = "application/sdp",
    again: bool = True,
) -> Step:
    """Send a request; *branch* is its last part, *again* whether UDP sends it until answered."""
    branch = branch or f"{method}{cseq}"
    lines = [
        f"{method} {uri} SIP/2.0",
        "Via: SIP/2.0/[transport] [local_ip]:[local_port]"
        f";branch=z9hG4bK[pid]-[call_number]-{branch};rport",
        *headers,
        f"From: {CARRIER};tag=[pid]sipp[call_number]",
        "To: [$4]" if to is KEPT else f"To: <sip:[number]@[remote_ip]:[remote_port]>{to}",
        "Call-ID: [call_id]",
        f"CSeq: {cseq} {method}",
        "Max-Forwards: 70",
    ]
    if method in ("INVITE", "UPDATE"):
        lines.append(f"Contact: {CARRIER[:-1]};transport=[transport]>")
    if body:
        lines.append(f"Content-Type: {kind}")
    text = "\n".join([*lines, "Content-Length: [len]", "", body])
    retrans = ' retrans="500"' if again and method != "ACK" else ""
    return Step(f"<send{retrans}><![CDATA[\n\n{text}\n]]></send>")


def first(method: str = "INVITE", body: str = "", **options: object) -> Step:
    """Send a request outside of a dialog."""
    return say(method, 1, body, to="", uri=BRIDGE, **options)  # type: ignore[arg-type]


def hear(status: int, *wanted: str, body: tuple[str, ...] = (), keep_to: bool = False) -> Step:
    """Wait for a response; *wanted* are expressions for the message, *body* for its SDP.

    *keep_to*: its To is that of later requests with ``to=KEPT``.
    """
    before = "".join(f'<recv response="{n}" optional="true"/>' for n in (100, 180) if status == 200)
    checks = [("msg", text) for text in wanted] + [("body", text) for text in body]
    actions = "".join(
        f'<ereg regexp={quoteattr(text)} search_in="{where}" check_it="true" assign_to="{n}"/>'
        for n, (where, text) in enumerate(checks, start=1)
    )
    if keep_to:
        actions += '<ereg regexp=".*" search_in="hdr" header="To:" assign_to="4"/>'
    action = f"<action>{actions}</action>" if actions else ""
    return Step(
        f'{before}<recv response="{status}" rrs="{str(status == 200).lower()}">{action}</recv>'
    )


def refused(status: int, *wanted: str) -> Step:
    """Wait for the refusal of an INVITE, whose 100 may come first."""
    step = hear(status, *wanted)
    return Step(f'<recv response="100" optional="true"/>{step.xml}')


def ack(cseq: int = 1, body: str = "") -> Step:
    """Acknowledge a 2xx."""
    return say("ACK", cseq, body)


def ack_refusal(cseq: int, branch: str, *, outside: bool = False) -> Step:
    """Acknowledge a refusal, by the branch of the INVITE."""
    uri = BRIDGE if outside else "[next_url]"
    return say("ACK", cseq, branch=branch, uri=uri)


def bye(cseq: int) -> list[Step]:
    """Hang up."""
    return [say("BYE", cseq), hear(200)]


def asked(method: str, status: int) -> list[Step]:
    """Wait for a request of the bridge and answer it."""
    reply = (
        f"SIP/2.0 {status} OK\n[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n"
        "[last_CSeq:]\nContent-Length: 0\n\n"
    )
    return [
        Step(f'<recv request="{method}"/>'),
        Step(f"<send><![CDATA[\n\n{reply}\n]]></send>"),
    ]


def answered(body: str | None = None) -> list[Step]:
    """Call and be answered."""
    return [first(body=sdp() if body is None else body), hear(200), ack()]


def held(method: str, cseq: int, line: str, answer: str, **where: str) -> list[Step]:
    """Offer a hold by *method* and look at the answer."""
    body = sdp(f"{AUDIO}\n{line}" if line else AUDIO, version=cseq, **where)  # type: ignore[arg-type]
    steps = [say(method, cseq, body), hear(200, body=(answer, "c=IN IP4 127[.]0[.]0[.]1"))]
    return [*steps, ack(cseq)] if method == "INVITE" else steps


T38 = "m=image 6000 udptl t38"
VIAS = "Via: SIP/2.0/UDP edge.example:5062;branch=z9hG4bKedge"
ROUTES = "Record-Route: <sip:[local_ip]:[local_port];transport=[transport];lr>"

STREAMS_ONLY = {
    "20 a 200 is sent again until its ACK",  # over UDP SIPp takes the copies for its own business
    "29 every other fork is acknowledged and ended",  # two responses in one write
}

ROWS: dict[str, Callable[[], list[Step]]] = {
    "20 a 200 is sent again until its ACK": lambda: [
        first(body=sdp()),
        hear(200),
        Step('<recv response="200"/>'),
        Step('<recv response="200"/>'),
        ack(),
        *bye(2),
    ],
    "24 the route set stays": lambda: [
        first(body=sdp(), headers=(ROUTES,)),
        hear(200),
        ack(),
        say("UPDATE", 2, headers=("Record-Route: <sip:192.0.2.99;lr>",)),
        hear(200),
        *bye(3),
    ],
    "25 every Via comes back": lambda: [
        first(body=sdp(), headers=(VIAS, ROUTES)),
        hear(200, "edge.example:5062;branch=z9hG4bKedge", "Record-Route: <sip:", "Allow: INVITE"),
        ack(),
        *bye(2),
    ],
    "26 a lower number is refused with 500": lambda: [
        *answered(),
        say("OPTIONS", 9),
        hear(200),
        say("OPTIONS", 8),
        hear(500),
        *bye(10),
    ],
    "27 a merged INVITE is refused with 482": lambda: [
        first(body=sdp()),
        hear(200, keep_to=True),
        ack(),
        first(body=sdp(), branch="merged"),
        refused(482),
        say("ACK", 1, branch="merged", uri=BRIDGE),
        say("BYE", 2, to=KEPT),
        hear(200),
    ],
    "33 a CANCEL for nothing is answered 481": lambda: [first("CANCEL"), hear(481)],
    "33 a CANCEL after the 200 has no effect": lambda: [
        first(body=sdp()),
        hear(200),
        ack(),
        first("CANCEL", branch="INVITE1"),
        hear(200),
        *bye(2),
    ],
    "35 a second BYE is answered 481": lambda: [*answered(), *bye(2), say("BYE", 3), hear(481)],
    "38 an unknown method is refused with 405": lambda: [
        first("FROBNICATE"),
        hear(405, "Allow: INVITE"),
    ],
    "38 an unknown extension is refused with 420": lambda: [
        first(body=sdp(), headers=("Require: frobnication",)),
        refused(420, "Unsupported: frobnication"),
        ack_refusal(1, "INVITE1", outside=True),
    ],
    "38 an unknown body is refused with 415": lambda: [
        first(body="hello", kind="text/plain"),
        refused(415, "Accept: application/sdp"),
        ack_refusal(1, "INVITE1", outside=True),
    ],
    "38 the SDP of a multipart body is found": lambda: [
        first(
            body=f"--b\nContent-Type: application/x-isup\n\nx\n"
            f"--b\nContent-Type: application/sdp\n\n{sdp()}--b--\n",
            kind="multipart/mixed;boundary=b",
        ),
        hear(200, body=("m=audio",)),
        ack(),
        *bye(2),
    ],
    "39 OPTIONS tell what we can do": lambda: [
        first("OPTIONS"),
        hear(200, "Allow: INVITE", "Accept: application/sdp"),
    ],
    "50 a delayed offer is answered in the ACK": lambda: [
        first(),
        hear(200, body=("m=audio",)),
        ack(1, sdp()),
        *bye(2),
    ],
    "50 an ACK without the answer ends the call": lambda: [
        first(),
        hear(200),
        ack(),
        *asked("BYE", 200),
    ],
    "51 an offerless re-INVITE holds and resumes": lambda: [
        *answered(),
        say("INVITE", 2),
        hear(200, body=("a=sendrecv",)),
        ack(2, sdp(f"{AUDIO}\na=inactive", version=2)),
        say("INVITE", 3),
        hear(200, body=("a=sendrecv",)),
        ack(3, sdp(version=3)),
        *bye(4),
    ],
    "53 a re-INVITE before the answer in the ACK is refused with 500": lambda: [
        *answered(),
        say("INVITE", 2),
        hear(200),
        say("INVITE", 3, sdp(version=2)),
        refused(500, "Retry-After: "),
        ack_refusal(3, "INVITE3"),
        ack(2, sdp(version=2)),
        *bye(4),
    ],
    "54 an UPDATE holds and resumes": lambda: [
        *answered(),
        *held("UPDATE", 2, "a=sendonly", "a=recvonly"),
        *held("UPDATE", 3, "", "a=sendrecv"),
        *bye(4),
    ],
    "54 an UPDATE while our offer is open is refused with 491": lambda: [
        *answered(),
        say("INVITE", 2),
        hear(200),
        say("UPDATE", 3, sdp(version=2)),
        hear(491),
        ack(2, sdp(version=2)),
        *bye(4),
    ],
    "59 a static type needs no rtpmap": lambda: [
        *answered(sdp("m=audio [rtp_port] RTP/AVP 18 0 8")),
        *bye(2),
    ],
    "60 every media line is answered": lambda: [
        first(body=sdp(f"m=video 5000 RTP/AVP 96\na=rtpmap:96 H264/90000\n{AUDIO}\n{T38}")),
        hear(200, body=("m=video 0 .*m=audio [1-9].*m=image 0 ",)),
        ack(),
        *bye(2),
    ],
    "61 the direction of the media wins": lambda: [
        *answered(),
        *held("INVITE", 2, "a=inactive", "a=inactive"),
        *held("INVITE", 3, "", "a=sendrecv"),
        *bye(4),
    ],
    "62 sloppy SDP is read": lambda: [
        first(body=f"v=0\no=sipp 1\nc=IN IP4 [media_ip]  \n{AUDIO}\nb=AS:64\nz=\n"),
        hear(200, body=("s=-",)),
        ack(),
        *bye(2),
    ],
    "65 a refresh keeps the hold": lambda: [
        *answered(),
        *held("INVITE", 2, "a=sendonly", "a=recvonly"),
        *held("INVITE", 3, "a=sendonly", "a=recvonly"),
        *bye(4),
    ],
    "66 a zero address is answered with ours": lambda: [
        *answered(),
        *held("INVITE", 2, "", "a=recvonly", address="0.0.0.0"),
        *held("INVITE", 3, "", "a=sendrecv"),
        *bye(4),
    ],
    "67 a refused re-INVITE changes nothing": lambda: [
        *answered(),
        say("INVITE", 2, sdp(T38, version=2)),
        refused(488, "Warning: 304 "),
        ack_refusal(2, "INVITE2"),
        *held("UPDATE", 3, "a=sendonly", "a=recvonly"),
        *bye(4),
    ],
    "97 a NOTIFY nobody asked for is refused": lambda: [
        first("NOTIFY", headers=("Event: message-summary", "Subscription-State: active")),
        hear(489, "Allow-Events: "),
    ],
    "98 a MESSAGE is refused with 405": lambda: [
        first("MESSAGE", "hi", kind="text/plain"),
        hear(405),
    ],
}


# Rows that show when the bridge calls: SIPp answers.


def ringing(status: int, tag: str, body: str = "", *, headers: tuple[str, ...] = ()) -> Step:
    """Answer the INVITE, which is the last message that came; *tag* may be empty."""
    to = f"[last_To:];tag=[pid]-{tag}" if tag else "[last_To:]"
    lines = [
        f"SIP/2.0 {status} Whatever",
        "[last_Via:]",
        *headers,
        "[last_From:]",
        to,
        "[last_Call-ID:]",
        "[last_CSeq:]",
        "Contact: <sip:callee@[local_ip]:[local_port];transport=[transport]>",
        *(["Content-Type: application/sdp"] if body else []),
    ]
    text = "\n".join([*lines, "Content-Length: [len]", "", body])
    return Step(f"{SEND}{text}\n]]></send>")


def both(one: Step, other: Step) -> Step:
    """Send two messages without bodies in one write, before anything can come in between."""
    # SIPp cuts blank lines off the end: the last message has a byte of body after them.
    joined = one.xml.removesuffix("\n]]></send>") + "\n" + other.xml[len(SEND) :]
    head, _, tail = joined.replace("[len]", "0", 1).partition("[len]")
    return Step(f"{head}1\n\n.{tail.removeprefix(chr(10) * 2)}")


def wait_for(method: str, *wanted: str) -> Step:
    """Wait for a request whose message has each of *wanted*."""
    actions = "".join(
        f'<ereg regexp={quoteattr(text)} search_in="msg" check_it="true" assign_to="{n}"/>'
        for n, text in enumerate(wanted, start=1)
    )
    if method == "INVITE":
        actions += '<ereg regexp=".*" search_in="hdr" header="From:" assign_to="4"/>'
    routes = ' rrs="true"' if method == "INVITE" else ""
    action = f"<action>{actions}</action>" if actions else ""
    return Step(f'<recv request="{method}"{routes}>{action}</recv>')


def hang_up(tag: str) -> list[Step]:
    """End the call from the callee's side."""
    mine = f";tag=[pid]-{tag}" if tag else ";tag=[pid]-late"
    text = "\n".join(
        [
            "BYE [next_url] SIP/2.0",
            "Via: SIP/2.0/[transport] [local_ip]:[local_port]"
            ";branch=z9hG4bK[pid]-[call_number]-bye;rport",
            f"From: <sip:callee@[local_ip]>{mine}",
            "To: [$4]",
            "Call-ID: [call_id]",
            "CSeq: 1 BYE",
            "Max-Forwards: 70",
            "Content-Length: 0",
            "",
            "",
        ]
    )
    return [
        Step(f'<send retrans="500"><![CDATA[\n\n{text}\n]]></send>'),
        Step('<recv response="200"/>'),
    ]


STRICT = "Record-Route: <sip:[local_ip]:[local_port];transport=[transport]>"
LOOSE = "Record-Route: <sip:[local_ip]:[local_port];transport=[transport];lr>"

CALLED: dict[str, Callable[[], list[Step]]] = {
    "23 a strict router is in the Request-URI": lambda: [
        wait_for("INVITE"),
        ringing(200, "a", sdp(), headers=(STRICT,)),
        wait_for(
            "ACK",
            "ACK sip:127[.]0[.]0[.]1:[0-9]*;transport=[a-zA-Z]* SIP",
            "Route: <sip:callee@127[.]0[.]0[.]1",
        ),
        *hang_up("a"),
    ],
    "24 a later Record-Route changes nothing": lambda: [
        wait_for("INVITE"),
        ringing(180, "a", headers=("Record-Route: <sip:192.0.2.99;lr>",)),
        ringing(200, "a", sdp(), headers=(LOOSE,)),
        wait_for("ACK", "ACK sip:callee@127", "Route: <sip:127[.]0[.]0[.]1"),
        *hang_up("a"),
    ],
    "29 every other fork is acknowledged and ended": lambda: [
        wait_for("INVITE"),
        ringing(183, "a", sdp()),
        ringing(180, "b"),
        both(ringing(200, "a"), ringing(200, "b")),
        wait_for("ACK", "To: .*-a"),
        wait_for("ACK", "To: .*-b"),
        *asked("BYE", 200),
        *hang_up("a"),
    ],
    "30 an answer without To tag": lambda: [
        wait_for("INVITE"),
        ringing(183, "", sdp()),
        ringing(200, "", sdp()),
        wait_for("ACK"),
        *hang_up(""),
    ],
    "57 another answer after early media": lambda: [
        wait_for("INVITE"),
        ringing(183, "a", sdp()),
        ringing(180, "a"),
        ringing(200, "a", sdp("m=audio [rtp_port] RTP/AVP 0", version=2)),
        wait_for("ACK"),
        *hang_up("a"),
    ],
    "58 a 200 without SDP takes the early answer": lambda: [
        wait_for("INVITE"),
        ringing(183, "a", sdp()),
        ringing(200, "a"),
        wait_for("ACK"),
        *hang_up("a"),
    ],
    "58 a 200 without any SDP is ended": lambda: [
        wait_for("INVITE"),
        ringing(200, "a"),
        wait_for("ACK"),
        *asked("BYE", 200),
    ],
}


def write(folder: Path, name: str) -> Path:
    """Write the scenario of a row; return its file."""
    rows = ROWS if name in ROWS else CALLED
    return compose(folder, name, rows[name]())


def compose(folder: Path, name: str, row: list[Step]) -> Path:
    """Write a scenario of these steps; return its file."""
    steps = "\n".join(step.xml for step in row)
    path = folder / ("row-" + name.replace(" ", "-") + ".xml")
    used = ",".join(n for n in "1234567" if f'assign_to="{n}"' in steps)
    reference = f'<Reference variables="{used}"/>\n' if used else ""
    head = f'<?xml version="1.0" encoding="UTF-8" ?>\n<scenario name={quoteattr(name)}>\n'
    path.write_text(f"{head}{steps}\n{reference}</scenario>\n", "utf-8")
    return path
