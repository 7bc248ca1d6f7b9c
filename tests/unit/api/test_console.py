"""The page at ``/``: whole, from here only, and without a secret."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from tests.unit.api.door import KEY, FakeService, client_of

pytestmark = pytest.mark.unit


async def test_the_page_needs_no_key_and_may_run_its_own_script_only() -> None:
    async with client_of(FakeService(), [KEY]) as client:
        answer = await client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for kind in ("script", "style"):
        (text,) = re.findall(rf"<{kind}>(.*?)</{kind}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert KEY.secret not in answer.text


async def test_the_page_loads_nothing_from_elsewhere() -> None:
    async with client_of(FakeService()) as client:
        text = (await client.get("/")).text
    assert not re.findall(r"https?://|//cdn|@import|\bsrc=|innerHTML|\son\w+=|style=", text)
