"""schemathesis over every route: it finds nothing."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from bridge.api.auth import ApiKey
from bridge.api.server import ApiServer
from tests.unit.api.house import a_house
from tests.unit.call.desk import config, trunk

pytestmark = pytest.mark.unit

SECONDS = 30
"""Of fuzzing, after the examples and the edges of every field were tried."""


@pytest.mark.timeout(120)
async def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    settings = config(trunk(max_calls=100_000, calls_per_second=100_000.0), max_calls=100_000)
    async with a_house(tmp_path, settings) as house:
        server = ApiServer(house.app([ApiKey(name="a", secret="s3cret")]), "127.0.0.1", 0)
        await server.start()
        host, port = server.address
        try:
            run = await asyncio.create_subprocess_exec(
                str(Path(sys.executable).with_name("st")),
                "run",
                f"http://{host}:{port}/openapi.json",
                "--header",
                "Authorization: Bearer s3cret",
                "--checks",
                "all",
                "--phases",
                "examples,coverage,fuzzing",
                "--max-time",
                str(SECONDS),
                "--max-failures",
                "20",
                "--continue-on-failure",
                "--no-color",
                cwd=tmp_path,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            said, _ = await run.communicate()
        finally:
            await server.stop()
    assert run.returncode == 0, said.decode(errors="replace")[-20_000:]
