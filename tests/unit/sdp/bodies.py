"""SDP bodies for the tests of this directory."""

from __future__ import annotations

from pathlib import Path

from sdp.negotiate import Answer, LocalMedia, OfferAnswer
from sdp.negotiated import Negotiated

VECTORS = Path(__file__).parents[2] / "vectors" / "sdp"
FAR = "61.246.82.75"
LOCAL = LocalMedia(address="52.66.10.20", port=20000, codecs=("PCMA", "PCMU"), session_id=4711)


def vector(name: str) -> bytes:
    return (VECTORS / f"{name}.sdp").read_bytes()


def body(
    *attributes: str,
    address: str = FAR,
    port: int = 4000,
    formats: str = "8 101",
    protocol: str = "RTP/AVP",
    version: int = 1,
    before: str = "",
    after: str = "",
) -> bytes:
    """Return a far end's SDP; *before* and *after* are whole sections around its audio."""
    family = "IP6" if ":" in address else "IP4"
    lines = [
        "v=0",
        f"o=- 99 {version} IN IP4 {FAR}",
        "s=-",
        f"c=IN {family} {address}",
        "t=0 0",
        *before.split("\n"),
        f"m=audio {port} {protocol} {formats}",
        "a=rtpmap:101 telephone-event/8000",
        *(f"a={attribute}" for attribute in attributes),
        *after.split("\n"),
    ]
    return "".join(f"{line}\r\n" for line in lines if line).encode()


def machine(
    local: LocalMedia = LOCAL, *, refuse: frozenset[tuple[str, int]] = frozenset()
) -> OfferAnswer:
    return OfferAnswer(local, destination_allowed=lambda *target: target not in refuse)


def answered(machine: OfferAnswer, offer: bytes) -> Answer:
    result = machine.receive_offer(offer)
    assert isinstance(result, Answer), result
    return result


def applied(machine: OfferAnswer, answer: bytes, *, early: bool = False) -> Negotiated:
    result = machine.receive_answer(answer, early=early)
    assert isinstance(result, Negotiated), result
    return result


def lines(sdp: bytes, kind: str) -> list[str]:
    """Return the values of the lines of type *kind*."""
    return [line[2:] for line in sdp.decode().split("\r\n") if line.startswith(f"{kind}=")]


def version(sdp: bytes) -> int:
    return int(lines(sdp, "o")[0].split()[2])


def direction(sdp: bytes) -> str:
    """Return the only direction attribute of *sdp*."""
    names = {"sendrecv", "sendonly", "recvonly", "inactive"}
    (found,) = [value for value in lines(sdp, "a") if value in names]
    return found
