"""A name server on loopback: real queries over real sockets, a zone in memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


@dataclass
class NameServer(asyncio.DatagramProtocol):
    """Answers from ``zone``: (name, type) -> (ttl, texts), CNAMEs followed.

    ``silent`` answers nothing, ``broken`` SERVFAIL; ``deaf_to`` ignores one type.
    ``soa`` is how long "there is nothing" holds; None: no SOA is sent.
    """

    zone: dict[tuple[str, str], tuple[int, list[str]]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    silent: bool = False
    broken: bool = False
    deaf_to: str = ""
    soa: int | None = None
    port: int = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        if self.silent or kind == self.deaf_to:
            return
        answer = dns.message.make_response(query)
        if self.broken:
            answer.set_rcode(dns.rcode.SERVFAIL)
        else:
            self._fill(answer, name, kind)
        self.transport.sendto(answer.to_wire(), addr)

    def _fill(self, answer: dns.message.Message, name: str, kind: str) -> None:
        while (name, "CNAME") in self.zone:
            ttl, texts = self.zone[name, "CNAME"]
            answer.answer.append(dns.rrset.from_text(f"{name}.", ttl, "IN", "CNAME", *texts))
            name = texts[0].rstrip(".")
        if (name, kind) in self.zone:
            ttl, texts = self.zone[name, kind]
            answer.answer.append(dns.rrset.from_text(f"{name}.", ttl, "IN", kind, *texts))
            return
        if not any(known == name for known, _ in self.zone):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        if self.soa is not None:
            text = f"ns.example.com. admin.example.com. 1 3600 600 86400 {self.soa}"
            answer.authority.append(dns.rrset.from_text("example.com.", 7200, "IN", "SOA", text))


async def serve(host: str = "127.0.0.1") -> NameServer:
    """Start one on a free port."""
    loop = asyncio.get_running_loop()
    _, server = await loop.create_datagram_endpoint(NameServer, local_addr=(host, 0))
    return server
