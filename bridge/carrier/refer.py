"""What a transferor is told of the transfer it asked for. RFC 3515 2.4.4."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.carrier.call import Leg


async def tell_transfer(leg: Leg) -> None:
    """Tell the far end that its transfer went well."""
    for line, state in (
        ("SIP/2.0 100 Trying", "active;expires=60"),
        ("SIP/2.0 200 OK", "terminated;reason=noresource"),
    ):
        exchange = leg.send(
            "NOTIFY",
            await leg.reach(),
            body=f"{line}\r\n".encode("ascii"),
            content_type="message/sipfrag",
            headers=(("Event", "refer"), ("Subscription-State", state)),
        )
        await leg.answered(exchange)
