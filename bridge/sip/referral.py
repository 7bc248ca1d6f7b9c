"""The state of transfers in one session: a REFER of ours or theirs and its subscription.

RFC 3515 2.4.4; RFC 6665.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.sip.matching import TransactionKey

TOLD_LIMIT = 32  # provisional states of one transfer that are passed up
LONGEST_SILENCE = 600.0  # seconds between two NOTIFYs, whatever they say


@dataclass(slots=True, kw_only=True)
class Referral:
    """A REFER of ours, until its subscription is over.

    ``first`` to ``cseq`` are the CSeq numbers it was sent with (more than one after a
    challenge): the ``id`` of its NOTIFYs. ``status``: last passed up, 0 for none; ``told``
    counts them. ``over``: its last word was passed up, NOTIFYs may still come. ``until``:
    when the subscription counts as gone; None while the REFER itself is not answered.
    """

    first: int
    cseq: int
    accepted: bool = False
    status: int = 0
    told: int = 0
    over: bool = False
    until: float | None = None

    def is_meant(self, event_id: str | None) -> bool:
        """Whether a NOTIFY with this ``id`` is about this REFER.

        RFC 3515 2.4.6: the id is the CSeq number of the REFER, and may be left out for
        the first one in a dialog. Many leave it out always.
        """
        if event_id is None:
            return True
        if not (event_id.isascii() and event_id.isdigit() and len(event_id) <= 10):
            return False
        return self.first <= int(event_id) <= self.cseq


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferralSnapshot:
    """A `Referral`, ``until`` as wall time."""

    first: int
    cseq: int
    accepted: bool
    status: int
    told: int
    over: bool
    until: float | None


@dataclass(slots=True, kw_only=True)
class Referred:
    """A REFER of theirs, until its subscription is over.

    ``server``: its transaction while it waits for our answer. ``cseq``: the ``id`` of our
    NOTIFYs. ``status``: last to be notified; ``sending`` while one is not answered, ``unsent``
    when a newer one waits for that. ``until``: when we give up waiting.
    """

    server: TransactionKey | None
    cseq: int
    notifies: bool
    until: float
    status: int = 0
    sending: bool = False
    unsent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferredSnapshot:
    """A `Referred`, ``until`` as wall time."""

    server: TransactionKey | None
    cseq: int
    notifies: bool
    until: float
    status: int
    sending: bool
    unsent: bool


def keep_referred(referred: Referred | None, shift: float) -> ReferredSnapshot | None:
    """Write it down; *shift* as in `keep`."""
    if referred is None:
        return None
    return ReferredSnapshot(
        server=referred.server,
        cseq=referred.cseq,
        notifies=referred.notifies,
        until=referred.until + shift,
        status=referred.status,
        sending=referred.sending,
        unsent=referred.unsent,
    )


def revive_referred(kept: ReferredSnapshot | None, shift: float) -> Referred | None:
    """Return what *kept* describes; *shift* as in `revive`."""
    if kept is None:
        return None
    return Referred(
        server=kept.server,
        cseq=kept.cseq,
        notifies=kept.notifies,
        until=kept.until + shift,
        status=kept.status,
        sending=kept.sending,
        unsent=kept.unsent,
    )


def keep(referral: Referral | None, shift: float) -> ReferralSnapshot | None:
    """Write a referral down; *shift* is wall time minus ours, in seconds."""
    if referral is None:
        return None
    return ReferralSnapshot(
        first=referral.first,
        cseq=referral.cseq,
        accepted=referral.accepted,
        status=referral.status,
        told=referral.told,
        over=referral.over,
        until=None if referral.until is None else referral.until + shift,
    )


def revive(kept: ReferralSnapshot | None, shift: float) -> Referral | None:
    """Return the referral that *kept* describes; *shift* is our time minus wall time."""
    if kept is None:
        return None
    return Referral(
        first=kept.first,
        cseq=kept.cseq,
        accepted=kept.accepted,
        status=kept.status,
        told=kept.told,
        over=kept.over,
        until=None if kept.until is None else kept.until + shift,
    )
