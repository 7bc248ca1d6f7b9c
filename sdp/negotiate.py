"""Offer/answer of one dialog (RFC 3264), without SIP and without input or output.

The whole state is one frozen value, replaced only when a step succeeds: what
is refused, and what is rolled back, leaves the active session untouched.

    stable --offer()--> offered --receive_answer()--> stable
                        offered --receive_answer(early=True)--> offered
                        offered --rollback()--> stable, as before the offer
    stable --receive_offer()--> stable (the answer is committed at once)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from sdp.audio import (
    G711,
    AudioLine,
    choose_audio,
    destination,
    is_audio,
    packet_time,
    read_audio,
)
from sdp.compose import (
    address_type,
    audio_section,
    offer_content,
    our_session,
    redirected,
    refused,
)
from sdp.direction import (
    all_disabled,
    connection_of,
    direction_of,
    hold_answer_direction,
    hold_of,
    is_zero_address,
)
from sdp.model import Direction, MediaDescription, Origin, SdpError, SessionDescription
from sdp.negotiated import Hold, Negotiated
from sdp.parse import parse
from sdp.secure import agreed_crypto, answered_crypto, offered_suites, rekeyed
from sdp.state import Agreed, LocalMedia, OfferAnswerSnapshot, Offered
from sdp.write import write

__all__ = ["Answer", "LocalMedia", "OfferAnswer", "OfferAnswerSnapshot", "Rejected"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Our answer. ``changed``: False when it settles nothing that was not settled."""

    body: bytes
    negotiated: Negotiated
    changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """Their SDP cannot be used; nothing changed. ``status``: of the SIP response.

    ``reason`` is ours, a fixed text: never a word of the peer's. ``warning``: the
    warn-code that fits (RFC 3261 20.43), 399 for none of its own.
    """

    status: int
    reason: str
    warning: int = 399


UNREADABLE: Final = Rejected(status=400, reason="SDP cannot be parsed")
NO_AUDIO: Final = Rejected(status=488, reason="no audio media line", warning=304)
NO_PROTOCOL: Final = Rejected(
    status=488, reason="no audio line over a transport of ours", warning=302
)
NO_CODEC: Final = Rejected(status=488, reason="no common codec", warning=305)
BAD_DESTINATION: Final = Rejected(status=488, reason="media destination not allowed")
GLARE: Final = Rejected(status=491, reason="our own offer is outstanding")
NO_OFFER: Final = Rejected(status=488, reason="an answer without an offer")


class OfferAnswer:
    """The offer/answer machine of one dialog.

    *destination_allowed* is asked about each (address, port) that we would
    send RTP or RTCP to. Nothing that a peer sends raises.
    """

    def __init__(
        self, local: LocalMedia, *, destination_allowed: Callable[[str, int], bool]
    ) -> None:
        if not local.codecs or any(codec not in G711 for codec in local.codecs):
            raise ValueError("codecs must name PCMA, PCMU or both")
        self._state = OfferAnswerSnapshot(local=local)
        self._allowed = destination_allowed

    @classmethod
    def restore(
        cls, snapshot: OfferAnswerSnapshot, *, destination_allowed: Callable[[str, int], bool]
    ) -> OfferAnswer:
        """Return a machine that goes on where *snapshot* was taken."""
        machine = cls(snapshot.local, destination_allowed=destination_allowed)
        machine._state = snapshot
        return machine

    def snapshot(self) -> OfferAnswerSnapshot:
        """Return the whole state."""
        return self._state

    def fork(self) -> OfferAnswer:
        """Return a machine in the same state, for another dialog that answers the same offer."""
        return OfferAnswer.restore(self._state, destination_allowed=self._allowed)

    @property
    def active(self) -> Negotiated | None:
        """The session in force; during an early answer, the early one."""
        agreed = self._state.agreed
        return None if agreed is None else agreed.negotiated

    @property
    def pending(self) -> bool:
        """Whether an offer of ours waits for its (final) answer."""
        return self._state.offered is not None

    @property
    def wanted(self) -> Direction:
        """The direction we last offered with success: sendonly or inactive while we hold."""
        return self._state.wanted

    def offer(self, direction: Direction = Direction.SENDRECV) -> bytes:
        """Return an offer of every codec of the trunk, and await its answer.

        Called again before an answer it replaces the offer; the same content
        gives the same bytes (an INVITE repeated with credentials, after 491).
        RFC 3264 5 and 8.
        """
        state = self._state
        before = state.agreed if state.offered is None else state.offered.before
        content = offer_content(state.local, before, direction)
        local = self._numbered(content, before)
        offered = Offered(local=local, direction=direction, before=before)
        self._sent(replace(state, agreed=before, offered=offered), local)
        return write(local)

    def repeat(self) -> bytes:
        """Return an offer that changes nothing: our last description, with our own wish.

        While the far end holds us that wish is not what our answer had to say, so the
        version of ``o=`` goes up then. What has no media is offered anew. RFC 3264 8,
        RFC 6337 5.3.
        """
        state = self._state
        before = state.agreed if state.offered is None else state.offered.before
        if before is None or not any(media.port for media in before.local.media):
            return self.offer(state.wanted)
        media = redirected(before.local.media, state.wanted)
        local = self._numbered(replace(before.local, origin=None, media=media), before)
        offered = Offered(local=local, direction=state.wanted, before=before)
        self._sent(replace(state, agreed=before, offered=offered), local)
        return write(local)

    def receive_offer(self, body: bytes) -> Answer | Rejected:
        """Answer *body* and commit the result.

        RFC 3264 6 and 8. `Rejected`: 400 unreadable, 488 unusable, 491 while
        our own offer is outstanding; all of them leave everything as it was.
        """
        state = self._state
        if state.offered is not None:
            return GLARE
        remote = _read(body)
        if remote is None:
            return UNREADABLE
        repeated = self._repeat(remote)
        if repeated is not None:
            return repeated
        result = self._answer(remote)
        if isinstance(result, Rejected):
            return result
        content, negotiated = result
        changed = negotiated != self.active
        local = self._numbered(content, state.agreed)
        agreed = Agreed(local=local, remote=remote, negotiated=negotiated)
        self._sent(replace(state, agreed=agreed), local)
        return Answer(body=write(local), negotiated=negotiated, changed=changed)

    def receive_answer(self, body: bytes, *, early: bool = False) -> Negotiated | Rejected:
        """Apply the answer to our offer.

        *early*: it came in an 18x of this dialog. It takes effect, but the
        offer stays open: the answer of the 2xx replaces it, `rollback` undoes
        it. After `Rejected` the offer is open too: end the call or `rollback`.
        """
        state = self._state
        offered = state.offered
        if offered is None:
            return NO_OFFER
        remote = _read(body)
        if remote is None:
            return UNREADABLE
        negotiated = self._apply(offered, remote)
        if isinstance(negotiated, Rejected):
            return negotiated
        agreed = Agreed(local=offered.local, remote=remote, negotiated=negotiated)
        self._state = replace(state, agreed=agreed)
        if not early:
            self._close(offered)
        return negotiated

    def rollback(self) -> None:
        """Forget our outstanding offer and any early answer; without one do nothing.

        RFC 3261 14.1: if a UA receives a non-2xx final response to a re-INVITE,
        the session parameters MUST remain unchanged, as if no re-INVITE had
        been issued.
        """
        offered = self._state.offered
        if offered is not None:
            self._state = replace(self._state, agreed=offered.before, offered=None)

    def _close(self, offered: Offered) -> None:
        self._state = replace(self._state, offered=None, wanted=offered.direction)

    def _sent(self, state: OfferAnswerSnapshot, local: SessionDescription) -> None:
        version = max(state.version, _version(local))
        self._state = replace(state, last_sent=local, version=version)

    def _numbered(self, content: SessionDescription, base: Agreed | None) -> SessionDescription:
        """Return *content* with its ``o=``: as before when it says nothing new.

        RFC 3264 8: the "o=" line of the new SDP MUST be identical to that in
        the previous SDP, except that the version in the origin field MUST
        increment by one from the previous SDP. If the version in the origin
        line does not increment, the SDP MUST be identical to the SDP with that
        version number.
        """
        for earlier in (None if base is None else base.local, self._state.last_sent):
            if earlier is not None and replace(earlier, origin=None) == content:
                return earlier
        local = self._state.local
        origin = Origin(
            session_id=str(local.session_id),
            version=str(self._state.version + 1),
            address_type=address_type(local.address),
            address=local.address,
        )
        return replace(content, origin=origin)

    def _repeat(self, remote: SessionDescription) -> Answer | None:
        """Return our last SDP again when *remote* says what it said before: a refresh.

        Content is compared, never the ``o=`` version. Our last SDP may have
        been an offer whose direction is no answer to theirs (we offered
        sendrecv, they answered a hold): then only its direction follows.
        """
        agreed = self._state.agreed
        if agreed is None or remote != agreed.remote:
            return None
        line = self._choose(remote)
        if not _corresponds(agreed.local, remote, line):
            return None
        content = replace(agreed.local, origin=None)
        if line is not None:
            crypto = agreed_crypto(self._state.local.protection, line)
            if crypto != agreed.negotiated.crypto:
                return None
            direction = self._direction(remote, remote.media[line.index])
            keys = answered_crypto(self._state.local.protection, line)
            media = tuple(rekeyed(section, keys) for section in content.media)
            content = replace(content, media=redirected(media, direction))
        local = self._numbered(content, agreed)
        self._sent(replace(self._state, agreed=replace(agreed, local=local)), local)
        return Answer(body=write(local), negotiated=agreed.negotiated, changed=False)

    def _choose(
        self, description: SessionDescription, suites: tuple[str, ...] | None = None
    ) -> AudioLine | None:
        """Return the audio line of *description*, with SRTP as the trunk wants it."""
        local = self._state.local
        srtp = local.protection
        return choose_audio(
            description,
            local.codecs,
            srtp=srtp.policy,
            suites=srtp.suites if suites is None else suites,
        )

    def _direction(self, remote: SessionDescription, media: MediaDescription) -> Direction:
        zero = is_zero_address(connection_of(remote, media))
        return hold_answer_direction(direction_of(remote, media), self._state.wanted, zero=zero)

    def _answer(
        self, remote: SessionDescription
    ) -> tuple[SessionDescription, Negotiated] | Rejected:
        """Return our answer to *remote*, and what it settles."""
        local = self._state.local
        if all_disabled(remote):
            content = our_session(local, tuple(refused(media) for media in remote.media))
            return content, self._without_media(remote)
        line = self._choose(remote)
        if line is None:
            return _unusable(remote, self._state.local)
        # RFC 3264 6.1: one codec, the first of theirs that is ours too.
        line = replace(line, codecs=line.codecs[:1])
        media = remote.media[line.index]
        ours = self._direction(remote, media)
        ptime = packet_time(remote, media, local.ptime)
        negotiated = self._settle(
            remote, line, ours=ours, receive_codecs=line.codecs, receive_event=line.event
        )
        if isinstance(negotiated, Rejected):
            return negotiated
        section = audio_section(
            port=local.port,
            protocol=media.protocol,
            codecs=line.codecs,
            event=line.event,
            ptime=ptime,
            maxptime=None,
            direction=ours,
            crypto=answered_crypto(local.protection, line),
        )
        # RFC 3264 6: for each "m=" line in the offer, there MUST be a corresponding
        # "m=" line in the answer, in the same order.
        sections = tuple(
            section if index == line.index else refused(other)
            for index, other in enumerate(remote.media)
        )
        return our_session(local, sections), replace(negotiated, hold=hold_of(remote, media))

    def _apply(self, offered: Offered, remote: SessionDescription) -> Negotiated | Rejected:
        """Return what *remote* makes of our offer."""
        before = None if offered.before is None else offered.before.negotiated
        if all_disabled(remote):
            # To the first offer that is a refusal; later it takes the media away.
            return NO_AUDIO if before is None else self._without_media(remote)
        ours = self._choose(offered.local)
        if ours is None:
            return NO_AUDIO
        # RFC 4568 5.1.3: the answer has one of the crypto attributes of our offer.
        line = self._choose(remote, offered_suites(offered.local.media[ours.index]))
        if line is None:
            return _unusable(remote, self._state.local)
        negotiated = self._settle(
            remote,
            line,
            ours=offered.direction,
            receive_codecs=ours.codecs,
            receive_event=ours.event,
        )
        if isinstance(negotiated, Rejected):
            return negotiated
        hold = hold_of(remote, remote.media[line.index])
        if offered.direction is not Direction.SENDRECV and before is not None and not before.hold:
            # Our own hold: inactive is then a proper answer, and holds nobody new.
            hold = None
        return replace(negotiated, hold=hold)

    def _settle(
        self,
        remote: SessionDescription,
        line: AudioLine,
        *,
        ours: Direction,
        receive_codecs: tuple[tuple[int, str], ...],
        receive_event: int | None,
    ) -> Negotiated | Rejected:
        """Return the session of *line*; its hold is for the caller to say."""
        local = self._state.local
        media = remote.media[line.index]
        target = destination(remote, media, self._allowed, local=local.address)
        if target is None:
            return BAD_DESTINATION
        theirs = direction_of(remote, media)
        zero = is_zero_address(connection_of(remote, media))
        payload_type, codec = line.codecs[0]
        return Negotiated(
            remote_address=target.address,
            remote_port=target.port,
            remote_rtcp_port=target.rtcp_port,
            codec=codec,
            payload_type=payload_type,
            receive_codecs=receive_codecs,
            dtmf_payload_type=line.event,
            receive_dtmf_payload_type=receive_event,
            ptime=packet_time(remote, media, local.ptime),
            send=ours.sends and theirs.receives and not zero,
            receive=ours.receives and theirs.sends,
            hold=None,
            crypto=agreed_crypto(local.protection, line),
        )

    def _without_media(self, remote: SessionDescription) -> Negotiated:
        """Return the session while all ports are 0: nowhere to send, the codec as it was.

        Without an earlier one: the codec that the disabled lines list, or the
        trunk's first, so that there always is one.
        """
        local = self._state.local
        active = self.active
        if active is None:
            line = choose_audio(remote, local.codecs, disabled=True, srtp=local.protection.policy)
            codecs = line.codecs[:1] if line else ((G711[local.codecs[0]], local.codecs[0]),)
            active = Negotiated(
                remote_address="",
                remote_port=0,
                remote_rtcp_port=0,
                codec=codecs[0][1],
                payload_type=codecs[0][0],
                receive_codecs=codecs,
                dtmf_payload_type=line.event if line else None,
                receive_dtmf_payload_type=line.event if line else None,
                ptime=local.ptime,
                send=False,
                receive=False,
                hold=Hold.NO_MEDIA,
            )
        return replace(
            active,
            remote_address="",
            remote_port=0,
            remote_rtcp_port=0,
            send=False,
            receive=False,
            hold=Hold.NO_MEDIA,
        )


def _read(body: bytes) -> SessionDescription | None:
    """Return what *body* says about media, None when it cannot be read."""
    try:
        return replace(parse(body), origin=None, name="-", timing="0 0")
    except SdpError:
        return None


def _unusable(remote: SessionDescription, local: LocalMedia) -> Rejected:
    """Return why no audio line of *remote* can be used."""
    audio = [media for media in remote.media if media.media.lower() == "audio" and media.port]
    known = [media for media in audio if is_audio(media, local.protection.policy)]
    if not audio:
        return NO_AUDIO
    if known and not any(read_audio(0, media, local.codecs).codecs for media in known):
        return NO_CODEC
    return NO_PROTOCOL


def _version(local: SessionDescription) -> int:
    return 0 if local.origin is None else int(local.origin.version)


def _corresponds(
    local: SessionDescription, remote: SessionDescription, line: AudioLine | None
) -> bool:
    """Tell whether *local* enables *line* of *remote* and nothing else, line by line."""
    enabled = None if line is None else line.index
    return len(local.media) == len(remote.media) and all(
        (section.port != 0) is (index == enabled) and section.protocol == theirs.protocol
        for index, (section, theirs) in enumerate(zip(local.media, remote.media, strict=True))
    )
