"""What is known of each kind of carrier, as data with the source of each value.

A profile sets defaults of contract section 3; whatever the file says wins. It also has what
no key is for: which headers carry the carrier's own ids, and whether our INVITEs offer
``100rel``. docs/carriers.md shows all of it to operators, and a test compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

SOURCES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "E1": "developer.exotel.com/docs/vsip/overview, /master-guide",
        "E2": "developer.exotel.com/docs/vsip/tcp-integration",
        "E6": "developer.exotel.com/docs/sip-trunking/dynamic-sip-trunking",
        "E9": "github.com/exotel/AgentStream-VoiceAIEcosystem, docs/support",
        "E12": "docs.exotel.com/dynamic-sip-trunking/sip-error-codes-and-troubleshooting-guide",
        "F100": "github.com BetterVoice/iOS-SIP.js#6: refused with 488 while 100rel was offered",
        "L7": "github.com/livekit/sip#517",
        "L8": "github.com/livekit/sip#615",
        "T1": "developers.telnyx.com/docs/voice/sip-trunking/authentication/credential-types",
        "T4": "sip.telnyx.com.au",
        "X1": "github.com/restsend/rustpbx#122",
        "Z1": "docs.plivo.com/docs/sip-trunking/concepts/technical-specifications",
        "Z2": "docs.plivo.com/docs/sip-trunking/troubleshooting/zentrunk-hangup-codes",
        "B1": "docs.vobiz.ai/guides/ai-voice-agent/inbound",
        "B2": "docs.vobiz.ai/platform/sip/outbound-trunks",
        "B3": "docs.vobiz.ai/trunks, /concepts/sip-trunking",
        "A1": "github.com/thevoiceguy/siphon-ai, CHANGELOG",
        "L5": "github.com/livekit/sip#438",
        "field": "seen in the field; nothing of the carrier's documents it",
        "inferred": "the usual of carriers like it; nothing documents it",
        "ours": "a choice of this project",
    }
)


@dataclass(frozen=True, slots=True)
class Setting:
    """A default for a key of ``[[trunk]]``, why, and where that is from (`SOURCES`)."""

    value: Any
    why: str
    source: str


@dataclass(frozen=True, slots=True)
class CarrierHeader:
    """A header in which the carrier names its side of a call, or why it failed.

    ``name`` may be a pattern (``X-Plivo-*ID``): ids only, for a number has no business in there.
    """

    name: str
    meaning: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One kind of carrier.

    ``reliable``: our INVITEs list ``100rel``. ``tls_port`` is the port of a trunk whose
    transport is ``tls``, None: the usual 5061. ``facts`` (text, source) are worth knowing and
    set nothing; ``ask`` is what an operator has to hear from the carrier.
    """

    title: str
    settings: Mapping[str, Setting] = field(default_factory=dict)
    headers: tuple[CarrierHeader, ...] = ()
    reliable: bool = False
    tls_port: int | None = None
    facts: tuple[tuple[str, str], ...] = ()
    ask: tuple[str, ...] = ()

    @property
    def defaults(self) -> dict[str, Any]:
        """The defaults alone."""
        return {key: setting.value for key, setting in self.settings.items()}

    @property
    def carrier_headers(self) -> tuple[str, ...]:
        """The names or patterns of `headers`, in lower case."""
        return tuple(header.name.lower() for header in self.headers)


_A_LAW_FIRST: Final = ["PCMA", "PCMU"]
_U_LAW_FIRST: Final = ["PCMU", "PCMA"]

_ADDRESSES: Final = "The addresses that calls come from, for `allow`; and those of the media."
_RATE: Final = "Calls per second and calls at once, for `calls_per_second` and `max_calls`."
_NUMBERS: Final = "How numbers are written both ways (`number_format`), and which CLIs we may show."
_LOGIN: Final = "Whether calls out are let in by address, by `username` and `password`, or both."

PROFILE: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        "exotel": Profile(
            title="Exotel (vSIP, Dynamic SIP Trunking)",
            settings={
                "transport": Setting("tcp", "TCP or TLS; UDP is not supported", "E2"),
                "port": Setting(5070, "SIP over TCP; TLS is on 443", "E2"),
                "country": Setting("IN", "an Indian carrier", "E2"),
                "number_format": Setting("e164", "Request-URI and CLI as +91…", "E2"),
                "codecs": Setting(_A_LAW_FIRST, "A-law preferred; 488 means A-law only", "E12"),
                "calls_per_second": Setting(3, "200 calls a minute for each trunk", "E6"),
            },
            tls_port=443,
            headers=(
                CarrierHeader("X-Exotel-CallSid", "the call, in every INVITE of theirs", "E2"),
                CarrierHeader("X-Exotel-LegSid", "this leg of it", "E2"),
                CarrierHeader("X-Exotel-TrunkSid", "the trunk", "E2"),
                CarrierHeader("X-Exotel-ErrorCode", "why a 403 came, such as 4001", "E9"),
            ),
            facts=(
                ("`Allow` has neither UPDATE nor PRACK.", "E2"),
                ("From must be an ExoPhone at `<AccountSid>.pstn.exotel.com`.", "E2"),
                ("Record-Route and Contact may come without angle brackets.", "E2"),
                ("403 with 4001: digest, address list, edge or number is not right.", "E9"),
                ("The media never comes from the address of the signalling.", "E1"),
            ),
            ask=(
                "The edge (`host`), and the account's SIP domain, for `domain`.",
                "Which ExoPhones may be shown (`caller_id`), in +91… or 0… form.",
                _LOGIN,
                _ADDRESSES,
            ),
        ),
        "plivo": Profile(
            title="Plivo Zentrunk",
            settings={
                "transport": Setting("udp", "UDP and TCP on 5060, TLS on 5061", "Z1"),
                "port": Setting(5060, "UDP and TCP", "Z1"),
                "codecs": Setting(_A_LAW_FIRST, "PCMA and PCMU", "Z1"),
                "calls_per_second": Setting(2, "the default of an account", "Z1"),
            },
            headers=(
                CarrierHeader("X-ZT-Hangup-Code", "why the call ended, such as 3040", "Z2"),
                CarrierHeader("X-Plivo-*ID", "their ids of the call", "field"),
            ),
            facts=(
                ("PRACK, INFO, NOTIFY, MESSAGE and SUBSCRIBE are not supported.", "Z1"),
                ("A refused re-INVITE ends the call with 3040.", "Z2"),
                ("Silence on the wire ends it with 3020.", "Z2"),
                ("There is no REGISTER: address list, user and password, or both.", "Z1"),
            ),
            ask=("The termination URI, for `host`.", _LOGIN, _RATE, _ADDRESSES),
        ),
        "telnyx": Profile(
            title="Telnyx",
            settings={
                "transport": Setting("udp", "UDP and TCP on 5060, TLS on 5061", "inferred"),
                "port": Setting(5060, "UDP and TCP", "inferred"),
                "country": Setting("US", "numbers without a country code", "ours"),
                "codecs": Setting(_U_LAW_FIRST, "G.711, u-law first", "inferred"),
            },
            facts=(
                ("Two Record-Routes (`r2=on`) and a private Contact: the routes decide.", "X1"),
                ("Calls come from either of two addresses of a region.", "T4"),
                ("Some accounts want `X-Telnyx-Token` in the INVITE: put it into `headers`.", "T1"),
            ),
            ask=(_LOGIN, "The region's two signalling addresses, for `allow`.", _RATE),
        ),
        "vobiz": Profile(
            title="Vobiz",
            settings={
                "transport": Setting("udp", "UDP, TCP and TLS; guides assume UDP", "B1"),
                "country": Setting("IN", "numbers without a country code", "B3"),
                "codecs": Setting(_U_LAW_FIRST, "u-law first, from an Indian carrier", "B2"),
            },
            facts=(("Each trunk has a host of its own, `<id>.sip.vobiz.ai`.", "B2"),),
            ask=("The trunk's own host, for `host`.", _LOGIN, _RATE, _ADDRESSES),
        ),
        "airtel": Profile(
            title="Airtel (SIP trunk, IQ)",
            settings={
                "transport": Setting("udp", "as reported; usually a private SBC", "L7"),
                "country": Setting("IN", "numbers without a country code", "ours"),
                "codecs": Setting(_A_LAW_FIRST, "A-law is usual in India", "inferred"),
                "user_phone": Setting(
                    value=True,
                    why="`;user=phone` in Request-URI, From and To; else 487",
                    source="L7",
                ),
            },
            facts=(
                ("`;transport=udp` in those URIs is refused with 487: we write none.", "L8"),
                ("IMS trunks like it send a second INVITE right after the answer.", "L5"),
            ),
            ask=("Host and port of the SBC; the port is rarely 5060.", _NUMBERS, _ADDRESSES),
        ),
        "twilio": Profile(
            title="Twilio Elastic SIP Trunking",
            settings={
                "transport": Setting("udp", "UDP, TCP and TLS", "inferred"),
                "country": Setting("US", "numbers without a country code", "ours"),
                "codecs": Setting(_U_LAW_FIRST, "PCMU first", "inferred"),
            },
            headers=(
                CarrierHeader("X-Twilio-CallSid", "the call", "field"),
                CarrierHeader("X-Twilio-Error", "why it failed: 32203 with 603 is final", "field"),
            ),
            facts=(("CRLF keep-alives made it drop connections sooner.", "A1"),),
            ask=("The termination URI, for `host`.", _LOGIN, _RATE, _ADDRESSES),
        ),
        "generic": Profile(
            title="Any other carrier",
            headers=(
                CarrierHeader("X-Exotel-*Sid", "a reseller of Exotel", "ours"),
                CarrierHeader("X-Exotel-ErrorCode", "a reseller of Exotel", "ours"),
                CarrierHeader("X-ZT-Hangup-Code", "a reseller of Plivo", "ours"),
                CarrierHeader("X-Plivo-*ID", "a reseller of Plivo", "ours"),
                CarrierHeader("X-Twilio-CallSid", "a reseller of Twilio", "ours"),
                CarrierHeader("X-Twilio-Error", "a reseller of Twilio", "ours"),
            ),
            facts=(
                ("`100rel` is not offered: a peer that cannot PRACK may refuse with 488.", "F100"),
            ),
            ask=(
                "Transport, port and the host for From (`domain`).",
                _NUMBERS,
                "Whether URIs need `;user=phone`, or INVITEs headers of their own (`headers`).",
                "Codecs, packet time, and whether SRTP is wanted.",
                _LOGIN,
                _RATE,
                _ADDRESSES,
            ),
        ),
    }
)

PROFILES: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {name: profile.defaults for name, profile in PROFILE.items()}
)
"""The defaults of each profile, for the configuration."""


def profile_of(name: str) -> Profile:
    """Return a profile; the generic one for a name that is none."""
    return PROFILE.get(name, PROFILE["generic"])
