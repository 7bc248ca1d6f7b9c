"""`GET …/recording`: real files, a real journal, store and folder; the taps are played."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.api.auth import ApiKey
from bridge.api.recordings import READS
from bridge.recording.files import create
from bridge.recording.recordings import Recordings
from bridge.recording.shelf import Shelf, ShelfError
from bridge.store.recordings import RecordingRows
from tests.unit.api.house import House, a_house
from tests.unit.recording.sounds import PlayedTap, decode, silence, sounds, tone

pytestmark = pytest.mark.unit

CALL = "0197f3c4-7d1e-7a31-9b0a-5d2f6f1c9a10"
OTHER = "0197f3c4-7d1e-7a31-9b0a-5d2f6f1c9a11"
PATH = f"/api/v1/calls/{CALL}/recording"
KEYS = [
    ApiKey(name="a", secret="a", tenant="A"),
    ApiKey(name="b", secret="b", tenant="B"),
]


class Studio:
    """A house whose calls are recorded into a real folder."""

    def __init__(self, house: House, folder: Path) -> None:
        self.house = house
        self.kept = folder / "kept"
        self.spool = folder / "journal.db.recordings"
        self.recordings = Recordings(
            "ogg",
            self.spool,
            open_shelf=lambda: Shelf.open("kept", folder),
            journal=house.desk.journal,
            store=house.store,
        )

    def client(self, *keys: ApiKey) -> httpx.AsyncClient:
        return self.house.client(keys, recordings=self.recordings)

    async def write(self, *, ended: bool, **fields: Any) -> None:
        stamp = "2026-01-17T10:33:00.000Z" if ended else None
        await self.house.write({"id": CALL, "ended_at": stamp, "seq": 1, **fields})

    async def record(self, seconds: float = 2.0, **fields: Any) -> None:
        """Write a call that is over, and its recording."""
        self.say(seconds)
        await self.write(ended=True, **fields)

    def say(self, seconds: float) -> None:
        tap = PlayedTap()
        tap.pieces.append((tone(440, seconds), silence(seconds)))
        take = self.recordings.begin(CALL)
        take.follow(tap)
        take.end(seconds)

    async def until(self, done: Any) -> None:
        async with asyncio.timeout(20):
            while not done():  # noqa: ASYNC110 (files and rows of other threads)
                await asyncio.sleep(0.01)


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    async with a_house(tmp_path) as house:
        studio = Studio(house, tmp_path)
        await studio.recordings.start()
        yield studio
        await studio.recordings.stop()


async def test_the_file_is_given_whole_and_says_what_it_is(studio: Studio, tmp_path: Path) -> None:
    await studio.record()
    async with studio.client() as client:
        answer = await client.get(PATH)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/ogg"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-length"] == str(len(answer.content))
    path = tmp_path / "fetched.ogg"
    path.write_bytes(answer.content)
    left, right = decode(path)
    assert len(left) == len(right) == 16_000
    assert sounds(left, 440)


async def test_before_and_after_it_is_brought_away_it_is_the_same(studio: Studio) -> None:
    """First it lies here, then where recordings are kept; nobody sees a moment between."""
    await studio.record()
    async with studio.client() as client:
        answers = [await client.get(PATH)]
        await studio.until(lambda: (studio.kept / f"{CALL}.ogg").exists())
        while any(studio.spool.iterdir()):
            answers.append(await client.get(PATH))
        answers += [await client.get(PATH) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len({answer.headers["etag"] for answer in answers}) == 1
    stored = RecordingRows(studio.house.store).of(CALL)
    assert stored is not None
    assert (stored.name, stored.seconds) == (f"{CALL}.ogg", 2.0)
    assert studio.house.store.recording_path(CALL) == f"{CALL}.ogg"


@pytest.mark.parametrize(
    ("asked", "begin", "end"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, None),
        ("bytes=-7", -7, None),
        ("bytes=5-999999999", 5, None),
        ("BYTES=0-0", 0, 1),
        ("bytes=-999999999", 0, None),
    ],
)
async def test_a_part_is_206_and_says_which(
    studio: Studio, asked: str, begin: int, end: int | None
) -> None:
    """RFC 9110 14.4, 15.3.7."""
    await studio.record()
    async with studio.client() as client:
        whole = (await client.get(PATH)).content
        answer = await client.get(PATH, headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == whole[begin:end]
    first = begin if begin >= 0 else len(whole) + begin
    last = first + len(answer.content) - 1
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(whole)}"


@pytest.mark.parametrize("asked", ["bytes=5-3", "bytes=-", "items=0-1", "bytes=0-1,5-6", "x", ""])
async def test_a_range_that_is_not_understood_is_the_whole(studio: Studio, asked: str) -> None:
    """RFC 9110 14.2: a server MAY ignore the Range header field."""
    await studio.record()
    async with studio.client() as client:
        answer = await client.get(PATH, headers={"Range": asked})
    assert answer.status_code == 200


@pytest.mark.parametrize("asked", ["bytes=999999999-", "bytes=-0"])
async def test_a_part_that_there_is_not_is_416_with_the_length(studio: Studio, asked: str) -> None:
    await studio.record()
    async with studio.client() as client:
        whole = (await client.get(PATH)).content
        answer = await client.get(PATH, headers={"Range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(whole)}"
    assert answer.headers["content-type"] == "application/problem+json"


async def test_who_has_it_is_told_so_and_who_has_another_gets_the_whole(studio: Studio) -> None:
    """RFC 9110 13.1.2 and 13.1.5."""
    await studio.record()
    async with studio.client() as client:
        tag = (await client.get(PATH)).headers["etag"]
        same = await client.get(PATH, headers={"If-None-Match": f'"x", W/{tag}'})
        part = await client.get(PATH, headers={"Range": "bytes=0-9", "If-Range": tag})
        whole = await client.get(PATH, headers={"Range": "bytes=0-9", "If-Range": '"x"'})
    assert (same.status_code, same.content) == (304, b"")
    assert (part.status_code, len(part.content)) == (206, 10)
    assert whole.status_code == 200


async def test_a_long_one_is_given_in_pieces(studio: Studio, monkeypatch: Any) -> None:
    monkeypatch.setattr("bridge.api.recordings.PIECE", 1000)
    await studio.record()
    await studio.until(lambda: RecordingRows(studio.house.store).of(CALL))
    async with studio.client() as client:
        answer = await client.get(PATH)
        part = await client.get(PATH, headers={"Range": "bytes=10-2500"})
    assert answer.content == (studio.kept / f"{CALL}.ogg").read_bytes()
    assert part.content == answer.content[10:2501]


async def test_a_call_that_runs_is_409_where_it_is_recorded_and_404_where_not(
    studio: Studio,
) -> None:
    await studio.write(ended=False)
    async with studio.client() as client:
        plain = await client.get(PATH)
        studio.recordings.begin(CALL)
        recorded = await client.get(PATH)
    assert (plain.status_code, recorded.status_code) == (404, 409)


async def test_a_call_without_a_recording_is_404_and_so_is_a_strangers(studio: Studio) -> None:
    await studio.write(ended=True, tenant_id="A")
    async with studio.client(*KEYS) as client:
        mine, theirs = {"Authorization": "Bearer a"}, {"Authorization": "Bearer b"}
        nothing = await client.get(PATH, headers=mine)
        studio.say(1.0)
        await studio.until(lambda: not studio.recordings.writes(CALL))
        found = await client.get(PATH, headers=mine)
        hidden = await client.get(PATH, headers=theirs)
        nobody = await client.get(PATH)
        unknown = await client.get(PATH.replace(CALL, OTHER), headers=mine)
    assert [one.status_code for one in (nothing, found, hidden, nobody, unknown)] == [
        404,
        200,
        404,
        401,
        404,
    ]


async def test_an_erased_call_has_no_recording_and_no_file(studio: Studio) -> None:
    await studio.record()
    kept = studio.kept / f"{CALL}.ogg"
    await studio.until(kept.exists)
    async with studio.client() as client:
        before = await client.get(PATH)
        erased = await client.post(f"/api/v1/calls/{CALL}/erase")
        after = await client.get(PATH)
    await studio.until(lambda: not kept.exists())
    assert (before.status_code, erased.status_code, after.status_code) == (200, 202, 404)


async def test_a_file_that_somebody_took_away_is_404(studio: Studio) -> None:
    await studio.record()
    await studio.until(lambda: RecordingRows(studio.house.store).of(CALL))
    await studio.until(lambda: not any(studio.spool.iterdir()))
    (studio.kept / f"{CALL}.ogg").unlink()
    async with studio.client() as client:
        answer = await client.get(PATH)
    assert answer.status_code == 404


async def test_what_a_crash_left_is_there_after_the_next_start(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        studio = Studio(house, tmp_path)
        studio.spool.mkdir()
        file = create(studio.spool / f"{CALL}.ogg.part", "ogg")
        for _ in range(30):
            file.write(tone(440, 0.1), silence(0.1))
        await studio.write(ended=True)
        await studio.recordings.start()
        async with studio.client() as client:
            answer = await client.get(PATH)
        await studio.until((studio.kept / f"{CALL}.ogg").exists)
        await studio.recordings.stop()
        file.close()
    assert answer.status_code == 200
    left, _ = decode(studio.kept / f"{CALL}.ogg")
    assert 2.0 < len(left) / 8000 <= 3.0
    assert sounds(left[:16_000], 440)


async def test_a_place_that_hangs_holds_up_who_asks_for_recordings_and_nobody_else(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    await studio.record()
    await studio.until(lambda: RecordingRows(studio.house.store).of(CALL))
    await studio.until(lambda: not any(studio.spool.iterdir()))
    hanging = threading.Event()
    busy: list[threading.Thread] = []
    real = Shelf.read

    def read(shelf: Shelf, name: str, begin: int, end: int) -> bytes | None:
        busy.append(threading.current_thread())
        assert hanging.wait(60)
        return real(shelf, name, begin, end)

    monkeypatch.setattr(Shelf, "read", read)
    monkeypatch.setattr("bridge.api.recordings.TURN", 0.05)
    async with studio.client() as client:
        waiting = [asyncio.create_task(client.get(PATH)) for _ in range(READS)]
        await studio.until(lambda: len(busy) == READS)
        assert all(thread.daemon for thread in busy)  # the process's end does not wait for them
        refused = await client.get(PATH)
        other = await client.get(f"/api/v1/calls/{CALL}")
        hanging.set()
        answers = await asyncio.gather(*waiting)
        after = await client.get(PATH)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    assert other.status_code == 200
    assert [one.status_code for one in (*answers, after)] == [200] * (READS + 1)


async def test_who_goes_away_leaves_its_place_once_its_read_is_done(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    await studio.record()
    await studio.until(lambda: RecordingRows(studio.house.store).of(CALL))
    await studio.until(lambda: not any(studio.spool.iterdir()))
    hanging = threading.Event()
    busy: list[str] = []
    real = Shelf.read

    def read(shelf: Shelf, name: str, begin: int, end: int) -> bytes | None:
        busy.append(name)
        assert hanging.wait(60)
        if len(busy) == 1:
            raise ShelfError("away")
        return real(shelf, name, begin, end)

    monkeypatch.setattr(Shelf, "read", read)
    async with studio.client() as client:
        gone = [asyncio.create_task(client.get(PATH)) for _ in range(READS)]
        await studio.until(lambda: len(busy) == READS)
        for one in gone:
            one.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        hanging.set()
        answers = [await client.get(PATH) for _ in range(2 * READS)]
    assert {answer.status_code for answer in answers} == {200}


async def test_a_place_that_is_away_is_503(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    await studio.record()
    await studio.until(lambda: RecordingRows(studio.house.store).of(CALL))
    await studio.until(lambda: not any(studio.spool.iterdir()))

    def read(*_: Any) -> bytes | None:
        raise ShelfError("away")

    monkeypatch.setattr(Shelf, "read", read)
    async with studio.client() as client:
        answer = await client.get(PATH)
    assert answer.status_code == 503
    assert "retry-after" in answer.headers
