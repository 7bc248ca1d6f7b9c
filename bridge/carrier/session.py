"""The media session of one leg: both sides' descriptions, and whether RTP may go out."""

from __future__ import annotations

import time
from dataclasses import replace

from bridge.carrier import bodies
from bridge.carrier.bodies import Body, Ours
from bridge.carrier.exchange import Behaviour
from bridge.carrier.lifetime import Lifetime
from bridge.carrier.media import Media, Source, tone_source
from bridge.carrier.secure import Sdes

MUSIC_HERTZ = 620  # what we play to the far end while it is held
_NOWHERE = Ours(address="127.0.0.1", port=9, session=1, version=1)


class Session:
    """What both sides last described.

    ``theirs`` are the far end's descriptions, the last ones; ``body`` names the template of
    our last one (``answer``: a mirror of theirs).
    """

    def __init__(self, media: Media, behaviour: Behaviour) -> None:
        self.media = media
        self.behaviour = behaviour
        self.secure = media.secure = Sdes(behaviour.srtp, behaviour.suites, mki=behaviour.mki)
        self.theirs: list[Body] = []
        self.body = "offer"
        self.lifetime = Lifetime()
        self.holding = False
        self.rtp_on = True
        self.hold_rtp = True
        self._direction = ""  # ours, as last described
        self._id = int(time.time())
        self._version = self._id
        self._before_hold: Source | None = None

    def described(self, raw: bytes | None) -> None:
        """Take a description of the far end."""
        if raw is not None:
            self.theirs.append(bodies.read(raw))
            del self.theirs[:-32]

    def describe(self, name: str, *, again: bool = False) -> bytes:
        """Return our description from template *name*, a version higher unless *again*."""
        if not again:
            self._version += 1
        self.body = name
        self._direction = _direction(name)
        return bodies.write(name, self._ours())

    def answer(self, offer: Body) -> bytes:
        """Return our answer to *offer*: the mirror, unless we are told to answer wrongly."""
        self._version += 1
        self.body = "answer"
        wanted = self.behaviour.answers or bodies.mirror(offer)
        self._direction = wanted if offer.port else "port0"
        keys = self.secure.answer(offer.crypto)
        return bodies.answer_to(offer, replace(self._ours(), crypto=keys), wanted)

    def answer_faults(self, answer: Body, wanted: str) -> list[str]:
        """Return what is wrong with the far end's answer to our offer."""
        found = bodies.answer_faults(answer, wanted)
        if answer.wording != "port0":
            found += self.secure.faults(answer.crypto, answer.protocol)
        return found

    def state(self) -> tuple[str, str]:
        """Return what :meth:`restore` needs."""
        return self.body, self._direction

    def restore(self, state: tuple[str, str]) -> None:
        """Go back to an earlier description: our offer was refused. RFC 3261 14.1."""
        self.body, self._direction = state

    def apply(self, *, up: bool) -> None:
        """Send to where the far end's last description says, or stop, as both agreed.

        *up*: the call is answered, or has early media.
        """
        usable = [body for body in self.theirs if body.port and body.codec is not None]
        if usable:
            self._connect(usable[-1], self.theirs[-1])
        if up and self._may_send():
            self.media.start()
        else:
            self.media.stop()

    def music(self) -> None:
        """Play music on hold from here on."""
        if not self.holding:
            self.holding = True
            self._before_hold = self.media.source
        self.media.play(tone_source(MUSIC_HERTZ))

    def end_music(self) -> None:
        """Play again what was played before the hold."""
        if self.holding:
            self.holding = False
            self.hold_rtp = True
            self.media.play(self._before_hold)

    def _ours(self) -> Ours:
        if not self.media.port:
            self.media.open()
        return Ours(
            address=self.media.address,
            port=self.media.port,
            session=self._id,
            version=self._version,
            codecs=self.behaviour.codecs,
            telephone_event=self.behaviour.telephone_event,
            protocol=self.secure.protocol,
            crypto=self.secure.offer(),
        )

    def _connect(self, usable: Body, latest: Body) -> None:
        law = next(
            (name for name in self.behaviour.codecs if bodies.CODECS[name] in usable.formats),
            usable.codec or "PCMA",
        )
        self.secure.agree(usable.crypto)
        address = latest.address or usable.address or ""
        self.media.connect((address, usable.port or 0), law, usable.telephone_event)
        # RFC 3264 5.1: keys come with the payload type of our description; an answer of ours
        # has theirs.
        ours = self.behaviour.telephone_event
        self.media.heard.telephone_event = usable.telephone_event if self.body == "answer" else ours

    def _may_send(self) -> bool:
        if not self.rtp_on or not self.theirs or (self.holding and not self.hold_rtp):
            return False
        if self.behaviour.deaf_to_hold:
            return True
        theirs = self.theirs[-1]
        ours = self._direction in ("sendrecv", "sendonly")
        return ours and theirs.wording in ("sendrecv", "recvonly") and not theirs.zero_address


def _direction(name: str) -> str:
    return bodies.read(bodies.write(name, _NOWHERE)).wording
