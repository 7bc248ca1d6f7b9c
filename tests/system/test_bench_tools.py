"""The load tools of ``make bench`` start, and count what is there."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench.engines import sound, tools
from bench.engines.arms import BARE, FLOOR, Setting
from bench.engines.block import measure
from bench.engines.tools import Tool

pytestmark = pytest.mark.system

CALLS = 3


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """Build the tools where that is a matter of seconds, and say something."""
    if not list((tools.RELEASE / "deps").glob("libstr0m-*.rlib")):
        pytest.skip("the native workspace was not built here; make bench builds it")
    folder = tmp_path_factory.mktemp("sound")
    try:
        tools.build()
        return Setting(sound=sound.make(folder), folder=folder)
    except tools.NoTools as lacking:
        pytest.skip(str(lacking))


async def test_the_floor_carries_calls_and_nothing_is_lost(setting: Setting) -> None:
    async with FLOOR.up(setting, CALLS) as running:
        sample = await measure("floor", running, warm=0.5, seconds=2.0)
    assert (sample.lost_to_phone, sample.lost_to_room, sample.silent) == (0, 0, 0)
    assert sample.gap["n"] >= 90 * CALLS
    assert 0 < sample.core < 0.9
    assert sample.up, "no stamp came through untouched"
    assert sample.down, "no burst was heard at the phone"


async def test_the_delay_of_nothing_between_is_the_codecs_own(setting: Setting) -> None:
    async with BARE.up(setting, 1) as running:
        sample = await measure("bare", running, warm=0.5, seconds=2.5)
    # libopus looks 6.5 ms ahead; the rest is loopback and a machine that may be busy.
    assert min(sample.down) > 5.0
    assert min(sample.up) < 5.0


async def test_what_is_lost_on_the_way_is_counted(setting: Setting) -> None:
    """Nobody is at the port: all that was expected is missing, and all are silent."""
    phones = await Tool.native("phones", calls=CALLS, payload=setting.sound.ulaw)
    try:
        await phones.answer()
        phones.order("to " + " ".join(["9"] * CALLS))
        await asyncio.sleep(1.0)
        told = await phones.ask("stats")
    finally:
        await phones.stop()
    assert told["sent"] >= 30 * CALLS
    assert (told["received"], told["silent"]) == (0, CALLS)


async def test_two_ends_of_webrtc_hear_each_other(setting: Setting, tmp_path: Path) -> None:
    """One stand-in as the SFU, one as its participant; both send Opus."""
    sfu = await Tool.native("sfu", pack=setting.sound.opus)
    peer = await Tool.native("sfu", pack=setting.sound.opus)
    try:
        await sfu.answer()
        await peer.answer()
        up: asyncio.Queue[int] = asyncio.Queue()
        sfu.told["connected"] = peer.told["connected"] = lambda told: up.put_nowait(
            told["connected"]
        )
        for number in range(2):
            offer = await peer.ask(f"join {number}")
            answer = await sfu.ask(f"offer {number} " + offer["sdp"].replace("\r\n", "\x1f"))
            peer.order(f"answer {number} " + answer["sdp"].replace("\r\n", "\x1f"))
        async with asyncio.timeout(10):
            assert sorted([await up.get() for _ in range(4)]) == [0, 0, 1, 1]
        await asyncio.sleep(1.0)
        for end in (sfu, peer):
            told = await end.ask("stats")
            assert told["up"] == 2
            assert told["received"] >= 2 * 25
            assert told["lost"] == 0
            assert set(told["codecs"]) == {"111"}
    finally:
        await sfu.stop()
        await peer.stop()
