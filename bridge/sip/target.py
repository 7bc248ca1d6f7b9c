"""Where a message goes: hops, and the addresses we write about ourselves.

RFC 3261 8.1.2, 12.2.1.1, 18; RFC 3263 4.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.sip.flow import Flow
from bridge.sip.grammar import ParseError
from bridge.sip.headers import MAGIC_COOKIE, Via, parse_route
from bridge.sip.message import Request
from bridge.sip.parameters import EndpointConfig
from bridge.sip.uri import SipUri, is_ipv6, parse_uri, write_hostport

TRANSPORTS = ("udp", "tcp", "tls")
MAX_UDP = 1300  # bytes of a request, RFC 3261 18.1.1; the path MTU is never known here


@dataclass(frozen=True, slots=True)
class FlowHop:
    """An existing flow, used while it lives.

    ``at_any_size``: also for a request that is too large for UDP; TCP was tried.
    """

    flow: Flow
    at_any_size: bool = False


@dataclass(frozen=True, slots=True)
class HostHop:
    """A host to be found. ``trusted``: configured, not learnt from a peer's message.

    ``name``: what a TLS peer there has to prove to be, when ``host`` is only an address
    of it.
    """

    transport: str
    host: str
    port: int | None
    trusted: bool = False
    name: str = ""


Hop = FlowHop | HostHop


def default_port(transport: str) -> int:
    """The port of a host that names none (RFC 3261 19.1.2)."""
    return 5061 if transport == "tls" else 5060


def is_address(host: str) -> bool:
    """Whether *host* is an IP address and needs no resolving."""
    parts = host.split(".")
    if len(parts) == 4 and all(part.isascii() and part.isdigit() for part in parts):
        return all(len(part) <= 3 and int(part) <= 255 for part in parts)
    return is_ipv6(host)


def uri_hop(text: str, transport: str) -> HostHop | None:
    """Return the hop that a Route element or a URI names; None when we cannot go there.

    *transport* is that of the dialog, used when the URI names none: a trunk
    that speaks TCP and writes bare URIs is not answered by UDP.
    """
    try:
        uri = parse_route(text).uri if "<" in text else parse_uri(text)
    except ParseError:
        return None
    if not isinstance(uri, SipUri):
        return None
    named = uri.transport or ("tls" if uri.scheme == "sips" else transport)
    if uri.scheme == "sips" and named == "tcp":
        named = "tls"
    if named not in TRANSPORTS:
        return None
    host = (uri.param("maddr") or "").strip("[]") or uri.host
    return HostHop(transport=named, host=host, port=uri.port)


def peer_hop(flow: Flow) -> HostHop:
    """Return the hop to where *flow* leads, for when it is gone."""
    return HostHop(flow.transport, *flow.remote, trusted=True, name=flow.name)


def reply_hops(request: Request, flow: Flow) -> list[Hop]:
    """Return where a response goes once the request's connection is gone.

    RFC 3261 18.2.2: "if that connection is no longer open, the server SHOULD open a
    connection to the IP address in the 'received' parameter, if present, using the port
    in the 'sent-by' value, or the default port for that transport. If that connection attempt
    fails, the server SHOULD use the procedures in [4] for servers in order to determine the IP
    address and port". RFC 3263 5: those of the host in sent-by; it is not trusted, where it
    leads is looked at as with a Contact.
    """
    via = request.top_via
    port = via.port or default_port(flow.transport)
    hops: list[Hop] = [HostHop(flow.transport, flow.remote[0], port, trusted=True, name=flow.name)]
    if via.host.strip("[]").lower() != flow.remote[0]:
        hops.append(HostHop(flow.transport, via.host.strip("[]"), via.port))
    return hops


def is_symmetric(request: Request, flow: Flow) -> bool:
    """Whether the response goes back to where the request came from.

    RFC 3261 18.2.2: over UDP without ``rport`` it goes to the port in sent-by.
    """
    if flow.reliable:
        return True
    via = request.top_via
    if via.rport is not None or via.wants_rport:
        return True
    return (via.port or default_port(flow.transport)) == flow.remote[1]


def stamp_source(request: Request, flow: Flow) -> None:
    """Write ``received`` and ``rport`` into the top Via (RFC 3261 18.2.1, RFC 3581 4)."""
    via = request.top_via
    stamped = via.with_source(*flow.remote)
    if stamped != via:
        request.headers.replace_first("Via", str(stamped))
        request.remember_via(stamped)


def is_too_large(request: Request) -> bool:
    """Whether *request*, with its Via, must not be sent over UDP (RFC 3261 18.1.1)."""
    return len(request.encode()) > MAX_UDP


def local_host(config: EndpointConfig, flow: Flow) -> str:
    """The host we write about ourselves: an address only to peers of its family."""
    advertised = config.advertise
    if is_address(advertised) and is_ipv6(advertised) != is_ipv6(flow.local[0]):
        return flow.local[0]
    return advertised or flow.local[0]


def local_port(config: EndpointConfig, flow: Flow) -> int:
    """The port at which *flow*'s transport reaches us."""
    return config.listen_ports.get(flow.transport, flow.local[1])


def write_via(config: EndpointConfig, flow: Flow, branch: str) -> str:
    """Return the Via of a request of ours that leaves by *flow*."""
    return str(
        Via(
            transport=flow.transport.upper(),
            host=local_host(config, flow),
            port=local_port(config, flow),
            params=(("branch", branch), ("rport", None)),
        )
    )


def new_branch(token: str) -> str:
    """Return a branch (RFC 3261 8.1.1.7)."""
    return f"{MAGIC_COOKIE}-{token}"


def is_secure(*uris: str) -> bool:
    """Whether one of *uris* (URIs or Route elements) is a ``sips:`` one."""
    return any(uri.lower().startswith("sips:") or "<sips:" in uri.lower() for uri in uris)


def write_contact(config: EndpointConfig, flow: Flow, user: str, *, secure: bool = False) -> str:
    """Return our Contact for a dialog on *flow*.

    *secure*: the peer uses ``sips:``. RFC 3261 12.1.1: "If the request that initiated the
    dialog contained a SIPS URI in the Request-URI or in the top Record-Route header field
    value, if there was any, or the Contact header field if there was no Record-Route header
    field, the Contact header field in the response MUST be a SIPS URI." 8.1.1.8 says the
    same of requests.
    """
    hostport = write_hostport(local_host(config, flow), local_port(config, flow))
    prefix = f"{user}@" if user else ""
    if secure and flow.transport == "tls":
        return f"<sips:{prefix}{hostport}>"
    transport = "" if flow.transport == "udp" else f";transport={flow.transport}"
    return f"<sip:{prefix}{hostport}{transport}>"
