"""The places of recordings: a real folder, and a real S3 server (moto) where it is installed.

``TRUNKBRIDGE_MOTO`` names a folder that ``moto[server]`` was installed into with ``--target``.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import obstore
import pytest
from obstore.store import S3Store

from bridge.recording.shelf import Shelf, ShelfError

pytestmark = pytest.mark.unit

BUCKET = "calls"
NAME = "0197f3c4.ogg"
SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The URL of an S3 server of its own process."""
    folder = os.environ.get("TRUNKBRIDGE_MOTO", "")
    if not folder and importlib.util.find_spec("moto") is None:
        pytest.skip("moto[server] is not installed")
    paths = [path for path in (folder, os.environ.get("PYTHONPATH", "")) if path]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    port = next(int(line) for line in process.stdout if line.strip().isdigit())
    url = f"http://127.0.0.1:{port}"
    httpx.put(f"{url}/{BUCKET}").raise_for_status()
    yield url
    process.stdin.close()
    process.wait(20)
    process.stdout.close()


@pytest.fixture
def in_s3(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment that names the server and its keys."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "ap-south-1",
    }.items():
        monkeypatch.setenv(name, value)
    return s3


def judge(shelf: Shelf, folder: Path) -> None:
    """Keep, read and forget a file, each twice."""
    content = os.urandom(300_000)
    path = folder / "here.ogg"
    path.write_bytes(content)
    assert shelf.read(NAME, 0, 10) is None
    shelf.delete(NAME)
    shelf.put(NAME, path)
    shelf.put(NAME, path)
    assert shelf.read(NAME, 0, len(content)) == content
    assert shelf.read(NAME, 299_990, 300_000) == content[-10:]
    assert shelf.read(NAME, 5, 6) == content[5:6]
    shelf.delete(NAME)
    shelf.delete(NAME)
    assert shelf.read(NAME, 0, 10) is None
    path.unlink()
    with pytest.raises(FileNotFoundError):
        shelf.put(NAME, path)


def test_a_folder_keeps_reads_and_forgets(tmp_path: Path) -> None:
    shelf = Shelf.open("some/where", tmp_path)
    assert (shelf.shared, shelf.place) == (False, "")
    judge(shelf, tmp_path)
    assert list((tmp_path / "some" / "where").iterdir()) == []


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    Shelf.open(f"file://{tmp_path}/kept", Path("/nowhere"))
    assert (tmp_path / "kept").is_dir()


def test_a_bucket_keeps_reads_and_forgets_below_its_prefix(in_s3: str, tmp_path: Path) -> None:
    shelf = Shelf.open(f"s3://{BUCKET}/some/prefix", tmp_path)
    assert (shelf.shared, shelf.place) == (True, f"s3://{BUCKET}/some/prefix/")
    judge(shelf, tmp_path)
    path = tmp_path / "here.ogg"
    path.write_bytes(b"OggS")
    shelf.put(NAME, path)
    whole = S3Store(BUCKET, client_options={"allow_http": True})
    found = obstore.get(whole, f"some/prefix/{NAME}")
    assert bytes(found.bytes()) == b"OggS"
    assert found.attributes["Content-Type"] == "audio/ogg"


def test_a_large_file_comes_in_parts_and_is_whole(in_s3: str, tmp_path: Path) -> None:
    shelf = Shelf.open(f"s3://{BUCKET}", tmp_path)
    path = tmp_path / "here.wav"
    path.write_bytes(os.urandom(1000) * 12_000)
    shelf.put("large.wav", path)
    assert shelf.read("large.wav", 0, 12_000_000) == path.read_bytes()


def test_a_bucket_that_is_not_there_is_said_in_one_line(in_s3: str, tmp_path: Path) -> None:
    shelf = Shelf.open("s3://nobodys", tmp_path)
    path = tmp_path / "here.ogg"
    path.write_bytes(b"OggS")
    with pytest.raises(ShelfError) as refused:
        shelf.put(NAME, path)
    assert "\n" not in str(refused.value)


def test_a_folder_that_cannot_be_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ShelfError, match=r"recording\.url: "):
        Shelf.open("file/below", tmp_path)


def test_a_folder_that_went_away_is_no_bug_of_ours(tmp_path: Path) -> None:
    shelf = Shelf.open("kept", tmp_path)
    path = tmp_path / "here.ogg"
    path.write_bytes(b"OggS")
    (tmp_path / "kept").rmdir()
    (tmp_path / "kept").write_text("in the way")
    with pytest.raises(ShelfError):
        shelf.put(NAME, path)
