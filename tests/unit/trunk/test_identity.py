"""Who we say is calling, which headers are kept, and what a profile is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bridge.config.trunk import TrunkConfig
from bridge.room.convention import header_attributes
from bridge.sip.headers import parse_name_addr
from bridge.trunk.headers import IDS_LIMIT, carrier_ids, copied_headers
from bridge.trunk.identity import caller_identity
from bridge.trunk.profiles import PROFILE, PROFILES, SOURCES, profile_of

pytestmark = pytest.mark.unit

OURS = "+918047361000"
CARRIERS = Path(__file__).parents[3] / "docs" / "carriers.md"


def trunk(**settings: Any) -> TrunkConfig:
    return TrunkConfig(**{"name": "t", "host": "h.example.com", "caller_id": OURS, **settings})


# From, and what goes with it


@pytest.mark.parametrize(
    ("settings", "from_"),
    [
        ({}, f"<sip:{OURS}@h.example.com>"),
        ({"domain": "acc.pstn.example.com"}, f"<sip:{OURS}@acc.pstn.example.com>"),
        ({"number_format": "bare"}, f"<sip:{OURS[1:]}@h.example.com>"),
        ({"number_format": "national-0"}, "<sip:08047361000@h.example.com>"),
        ({"profile": "airtel"}, f"<sip:{OURS}@h.example.com;user=phone>"),
    ],
)
def test_from_is_written_as_the_trunk_wants_it(settings: dict[str, Any], from_: str) -> None:
    """Row 43. Failure 7.2: caller id missing from From.

    `domain`, `number_format` and `user_phone` of the trunk; no other identity.
    """
    found = caller_identity(OURS, trunk(**settings))
    assert (found.from_, found.headers) == (from_, ())


def test_a_withheld_call_is_anonymous_and_tells_only_the_carrier_whose_it_is() -> None:
    """Row 43. RFC 3323 4.1.1.3; RFC 3325 9.3: `Privacy: id` and the identity asserted."""
    found = caller_identity("anonymous", trunk(user_phone=True, headers={"X-Account": "7"}))
    assert found.from_ == '"Anonymous" <sip:anonymous@anonymous.invalid>'
    assert parse_name_addr(found.from_).uri
    assert found.contact_user == "anonymous"
    assert dict(found.headers) == {
        "X-Account": "7",
        "Privacy": "id",
        "P-Asserted-Identity": f"<sip:{OURS}@h.example.com;user=phone>",
    }


def test_a_withheld_call_without_a_number_of_ours_asserts_none() -> None:
    for settings in ({"caller_id": ""}, {"caller_id": "anonymous"}):
        assert caller_identity("anonymous", trunk(**settings)).headers == (("Privacy", "id"),)


def test_what_the_trunks_headers_say_wins() -> None:
    settings = {"headers": {"privacy": "none", "p-asserted-identity": "<tel:+1>"}}
    found = caller_identity("anonymous", trunk(**settings))
    assert found.headers == (("privacy", "none"), ("p-asserted-identity", "<tel:+1>"))


# What comes in besides


def test_diversion_and_its_like_reach_the_room_where_the_trunk_says_so_and_are_capped() -> None:
    """Row 44. RFC 5806, 7044, 7433: by `header_attributes`, at most 1024 characters each."""
    came = [
        ("Diversion", "<sip:1009@h>;reason=unconditional"),
        ("History-Info", "<sip:1@h>;index=1"),
        ("User-to-User", "56a3;encoding=hex"),
        ("X-Call", "x" * 5000),
        ("Subject", "no"),
    ]
    patterns = ["X-*", "Diversion", "history-info", "User-to-User"]
    found = header_attributes(copied_headers(came, patterns))
    assert set(found) == {
        "sip.h.diversion",
        "sip.h.history-info",
        "sip.h.user-to-user",
        "sip.h.x-call",
    }
    assert found["sip.h.diversion"] == "<sip:1009@h>;reason=unconditional"
    assert len(found["sip.h.x-call"]) == 1024
    assert set(header_attributes(copied_headers(came, ["X-*"]))) == {"sip.h.x-call"}


def test_a_carriers_ids_are_found_by_its_profile_and_bounded() -> None:
    """Row 44. The carrier's own ids are kept, cut, and without what cannot be shown."""
    came = [
        ("X-Exotel-CallSid", "b7f0\x07c1"),
        ("x-exotel-callsid", "second"),
        ("X-Exotel-ErrorCode", "4001"),
        ("X-Exotel-LegSid", ""),
        ("X-Account", "secret"),
    ]
    exotel = profile_of("exotel").carrier_headers
    assert carrier_ids(came, exotel) == {"x-exotel-callsid": "b7f0c1", "x-exotel-errorcode": "4001"}
    assert carrier_ids(came, profile_of("twilio").carrier_headers) == {}
    assert carrier_ids([("X-Plivo-CallUUID", "u")], profile_of("plivo").carrier_headers)
    numbers = [("X-Plivo-From", "+919876543210"), ("X-Exotel-From", "+919876543210")]
    for profile in PROFILE.values():
        assert carrier_ids(numbers, profile.carrier_headers) == {}
        assert all(name.startswith("x-") for name in profile.carrier_headers)
    flood = [(f"X-Plivo-{n}-ID", "y" * 1000) for n in range(50)]
    found = carrier_ids(flood, profile_of("plivo").carrier_headers)
    assert len(found) == IDS_LIMIT
    assert {len(value) for value in found.values()} == {256}


# Profiles


@pytest.mark.parametrize("name", list(PROFILE))
def test_every_value_of_a_profile_is_a_valid_default_with_a_known_source(name: str) -> None:
    profile = PROFILE[name]
    made = TrunkConfig(name="t", host="h", profile=name)  # type: ignore[arg-type]
    for key, setting in profile.settings.items():
        assert getattr(made, key) == setting.value
        assert setting.why
    sources = [
        *(setting.source for setting in profile.settings.values()),
        *(header.source for header in profile.headers),
        *(source for _, source in profile.facts),
    ]
    assert set(sources) <= set(SOURCES)
    assert profile.ask
    assert not profile.reliable, "Row 55: 100rel has made peers refuse calls with 488"


def test_the_configuration_knows_exactly_these_profiles() -> None:
    assert set(PROFILES) == {"exotel", "plivo", "telnyx", "vobiz", "airtel", "twilio", "generic"}
    assert profile_of("something else") is PROFILE["generic"]
    used = {
        source
        for profile in PROFILE.values()
        for source in (
            *(setting.source for setting in profile.settings.values()),
            *(header.source for header in profile.headers),
            *(source for _, source in profile.facts),
        )
    }
    assert used == set(SOURCES), "a source that nothing names"


def written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).replace("'", '"')


def section(name: str) -> list[str]:
    """What docs/carriers.md has to say about a profile."""
    profile = PROFILE[name]
    lines = [f"## `{name}`: {profile.title}", ""]
    if profile.settings:
        lines += ["| sets | to | because | source |", "|---|---|---|---|"]
        lines += [
            f"| `{key}` | `{written(setting.value)}` | {setting.why} | {setting.source} |"
            for key, setting in profile.settings.items()
        ]
    else:
        lines += ["Sets nothing: the defaults of the configuration."]
    lines += [""]
    if profile.headers:
        lines += ["Kept as `carrier_ids`:", ""]
        lines += [f"- `{h.name}`: {h.meaning} ({h.source})" for h in profile.headers]
        lines += [""]
    lines += ["Worth knowing:", ""]
    lines += [f"- {text} ({source})" for text, source in profile.facts]
    lines += ["", "Ask the carrier:", ""]
    lines += [f"- {text}" for text in profile.ask]
    return lines


def test_the_operators_page_says_what_the_data_says() -> None:
    text = CARRIERS.read_text("utf-8")
    for name in PROFILE:
        assert "\n".join(section(name)) in text, f"{CARRIERS.name}: section {name} is not the data"
    for key, meaning in SOURCES.items():
        assert f"- {key}: {meaning}" in text
    assert re.findall(r"^## `(\w+)`", text, re.MULTILINE) == list(PROFILE)
