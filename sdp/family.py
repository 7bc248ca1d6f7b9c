"""Of which address family an offer wants its audio. RFC 8866 5.7, RFC 5118 4.8."""

from __future__ import annotations

from sdp.direction import connection_of, literal_address
from sdp.model import SdpError
from sdp.parse import parse


def audio_family(body: bytes) -> int | None:
    """Return 4 or 6 for the first audio line in use; None when it does not say.

    An IPv4 address in IPv6 clothes is IPv4.
    """
    try:
        description = parse(body)
    except SdpError:
        return None
    for media in description.media:
        if media.media != "audio" or media.port == 0:
            continue
        connection = connection_of(description, media)
        address = None if connection is None else literal_address(connection.address)
        if address is not None:
            return address.version
    return None
