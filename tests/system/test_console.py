"""The console in a real browser, with real calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.chromium import browser
from tests.system.harness import Desk
from tests.system.test_streams import connected

pytestmark = pytest.mark.system


async def test_a_call_is_seen_held_resumed_and_hung_up_in_the_browser(
    desk: Desk, tmp_path: Path
) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    async with browser(f"{bridge.url}/", tmp_path) as page:
        await page.shows("#state", "0 calls now", 20)
        leg, call_id = await connected(desk, bridge, carrier)
        await page.shows("#rows", "active")
        await page.shows("#facts", call_id)
        await page.shows("#events", "answered")
        await leg.run("hold sendonly")
        await page.shows("#rows", "on hold", 2)
        await page.shows("#events", "direction sendonly", 2)
        await leg.run("resume")
        await page.shows("#rows", "active", 2)
        await page.run("document.querySelector('#ladder summary').click()")
        await page.shows("#rung-rows", "INVITE sip:***@")
        await page.run("document.querySelector('#hangup').click()")
        await leg.run("expect hangup within 5s")
        assert leg.report.failed is None, leg.report.failed
        await page.shows("#rows", "completed (api hangup)")
        await page.shows("#state", "0 calls now")
        await page.shows("#rung-rows", "BYE sip:")
        assert await page.run("document.querySelector('#hangup').hidden") is True
        assert page.complaints == []


async def test_the_page_asks_for_a_key_and_comes_back_after_a_restart(
    desk: Desk, tmp_path: Path
) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    _, call_id = await connected(desk, bridge, carrier)
    with bridge.config.open("a") as file:
        file.write('\n[[http.key]]\nname = "app"\nkey = "s3cret"\n')
    await bridge.client.reload()
    async with browser(f"{bridge.url}/", tmp_path) as page:
        await page.shows("#state", "a key is needed", 20)
        give = "document.querySelector('#key').value = '{}';"
        give += "document.querySelector('#key-form').requestSubmit()"
        await page.run(give.format("wrong"))
        await page.shows("#state", "not accepted")
        await page.run(give.format("s3cret"))
        await page.shows("#state", "1 call now")
        await page.shows("#facts", call_id)
        await bridge.kill()
        await page.shows("#state", "cannot be reached")
        await bridge.start()
        await page.shows("#rows", "dropped (crash)", 20)
        await page.shows("#state", "0 calls now")
        assert "s3cret" not in await page.run("document.documentElement.outerHTML")
