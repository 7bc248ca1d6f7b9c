"""Which of the servers behind a name comes first: SRV and NAPTR records put in order. Pure
but for the chance it is given. RFC 2782; RFC 3263 4.1."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dns.rdata import Rdata
from dns.rdtypes.IN.NAPTR import NAPTR
from dns.rdtypes.IN.SRV import SRV

from bridge.transport.flow import Address

SRV_PREFIX = {"udp": "_sip._udp", "tcp": "_sip._tcp", "tls": "_sips._tcp"}
NAPTR_SERVICE = {"udp": "sip+d2u", "tcp": "sip+d2t", "tls": "sips+d2t"}
_MAX_NAPTR = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTarget:
    """One server of a service, and the addresses it has."""

    host: str
    port: int
    priority: int
    weight: int
    addresses: tuple[str, ...] = ()


def read_targets(records: Iterable[Rdata]) -> list[ServiceTarget]:
    """Return the targets of SRV records.

    RFC 2782: a target of "." "means that the service is decidedly not available at this
    domain"; it is left out.
    """
    return [
        ServiceTarget(
            host=host,
            port=record.port,
            priority=record.priority,
            weight=record.weight,
        )
        for record in records
        if isinstance(record, SRV)
        and (host := record.target.to_text(omit_final_dot=True)) not in ("", ".")
    ]


def order_targets(targets: Sequence[ServiceTarget], rng: random.Random) -> list[ServiceTarget]:
    """Return SRV targets in the order to try them: by priority, within it drawn by weight.

    RFC 2782: "arrange all SRV RRs (that have not been ordered yet) in any order, except that
    all those with weight 0 are placed at the beginning of the list. Compute the sum of the
    weights of those RRs [...] choose a uniform random number between 0 and the sum computed
    (inclusive), and select the RR whose running sum value is the first in the selected order
    which is greater than or equal to the random number selected."
    """
    ordered: list[ServiceTarget] = []
    for priority in sorted({target.priority for target in targets}):
        left = [target for target in targets if target.priority == priority]
        rng.shuffle(left)  # "in any order": of several without weight none is always first
        left.sort(key=lambda target: target.weight > 0)
        while left:
            drawn = rng.randint(0, sum(target.weight for target in left))
            running = 0
            for target in left:
                running += target.weight
                if running >= drawn:
                    break
            ordered.append(target)
            left.remove(target)
    return ordered


def draw_addresses(
    groups: Sequence[Sequence[ServiceTarget]], rng: random.Random
) -> tuple[Address, ...]:
    """Return the addresses of all targets in the order to try them now.

    Groups one after the other; drawn anew each time, so that weights spread calls and not
    only lifetimes of DNS answers.
    """
    ordered = [target for group in groups for target in order_targets(group, rng)]
    found = [(address, target.port) for target in ordered for address in target.addresses]
    return tuple(dict.fromkeys(found))


def read_naptr(records: Iterable[Rdata], transport: str) -> list[str]:
    """Return the names whose SRV records NAPTR gives for *transport*, the preferred one first.

    RFC 3263 4.1: the client "discards any records whose services fields are not applicable";
    the transport is fixed by the trunk, so NAPTR only chooses among services of that one.
    Only the flag "s" is defined there, with a replacement and no regular expression.
    """
    wanted = NAPTR_SERVICE[transport]
    usable = [
        record
        for record in records
        if isinstance(record, NAPTR)
        and record.service.lower() == wanted.encode()
        and record.flags.lower() == b"s"
        and not record.regexp
    ]
    # RFC 3403 4.1: by order, and within one order by preference.
    usable.sort(key=lambda record: (record.order, record.preference))
    names = [record.replacement.to_text(omit_final_dot=True) for record in usable[:_MAX_NAPTR]]
    return [name for name in dict.fromkeys(names) if name not in ("", ".")]
