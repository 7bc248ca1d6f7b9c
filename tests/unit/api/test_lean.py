"""A request whose like has been there before is answered the same, without the checks."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from bridge.api.lean import Json, Lean

pytestmark = pytest.mark.unit


class Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")

    page: Annotated[int, Field(ge=1)] = 1


class Steps:
    """An app that counts how often a request went the framework's way."""

    def __init__(self) -> None:
        self.checked = 0
        routes = APIRouter(prefix="/a", route_class=self._counted())
        self._serve(routes)
        self.app = FastAPI()
        self.app.router.routes.extend(routes.routes)
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://localhost"
        )

    def _counted(self) -> type[Lean]:
        steps = self

        class Counted(Lean):
            def get_route_handler(self) -> Any:
                handle = super().get_route_handler()

                async def counted(request: Request) -> Response:
                    steps.checked += 1
                    return await handle(request)

                return counted

        return Counted

    def _serve(self, routes: APIRouter) -> None:
        @routes.get("/{name}/page")
        async def page(
            name: Annotated[str, Path(max_length=64)],
            request: Request,
            asked: Annotated[Asked, Query()],
            seen: Annotated[str, Header(alias="Last-Seen")] = "",
        ) -> Json:
            return Json([name, asked.page, seen, request.headers["host"]])

        @routes.get("/none")
        async def none(request: Request) -> Response:
            raise HTTPException(404, "nothing")

        @routes.get("/plain")
        async def plain(request: Request) -> dict[str, int]:
            return {"plain": 1}

        @routes.get("/with")
        async def with_more(request: Request, more: Annotated[str, Depends(lambda: "x")]) -> Json:
            return Json(more)

        @routes.post("/none")
        async def post(request: Request) -> Json:
            return Json((await request.body()).decode())

    async def get(self, path: str, **headers: str) -> Any:
        answer = await self.client.get(path, headers=headers)
        assert answer.headers["content-type"] == "application/json"
        return answer.json()


async def test_a_query_is_checked_when_it_is_new() -> None:
    steps = Steps()
    for name in ("x", "y"):
        assert await steps.get(f"/a/{name}/page?page=3") == [name, 3, "", "localhost"]
    assert steps.checked == 1
    assert await steps.get("/a/x/page?page=4") == ["x", 4, "", "localhost"]
    assert await steps.get("/a/x/page") == ["x", 1, "", "localhost"]
    assert await steps.get("/a/x/page") == ["x", 1, "", "localhost"]
    assert steps.checked == 3


async def test_a_wrong_query_is_wrong_every_time() -> None:
    steps = Steps()
    for _ in range(3):
        answer = await steps.client.get("/a/x/page?page=0")
        assert answer.status_code == 422
    assert steps.checked == 3


async def test_headers_and_long_names_are_always_checked() -> None:
    steps = Steps()
    assert await steps.get("/a/x/page") == ["x", 1, "", "localhost"]
    assert await steps.get("/a/x/page", **{"last-seen": "7"}) == ["x", 1, "7", "localhost"]
    assert await steps.get("/a/x/page") == ["x", 1, "", "localhost"]
    assert (await steps.client.get(f"/a/{'x' * 64}/page")).status_code == 200
    assert steps.checked == 2
    assert (await steps.client.get(f"/a/{'x' * 65}/page")).status_code == 422
    assert steps.checked == 3


async def test_what_an_endpoint_raises_is_answered_all_the_same() -> None:
    steps = Steps()
    for _ in range(2):
        answer = await steps.client.get("/a/none")
        assert (answer.status_code, answer.json()) == (404, {"detail": "nothing"})
    assert steps.checked == 1


@pytest.mark.parametrize("path", ["/a/plain", "/a/with"])
async def test_other_endpoints_go_the_frameworks_way(path: str) -> None:
    steps = Steps()
    for _ in range(2):
        assert await steps.get(path) in ({"plain": 1}, "x")
    assert steps.checked == 2


async def test_other_methods_go_the_frameworks_way() -> None:
    steps = Steps()
    await steps.client.get("/a/none")
    for _ in range(2):
        assert (await steps.client.post("/a/none", content=b"said")).json() == "said"
        assert (await steps.client.delete("/a/none")).status_code == 405
    assert steps.checked == 3


async def test_queries_are_not_remembered_without_end() -> None:
    steps = Steps()
    for n in range(1, 200):
        await steps.get(f"/a/x/page?page={n}")
    assert steps.checked == 199
    await steps.get("/a/x/page?page=199")
    assert steps.checked == 199
    await steps.get("/a/x/page?page=1")
    assert steps.checked == 200
    long = f"/a/x/page?page={'0' * 300}1"
    for _ in range(2):
        await steps.client.get(long)
    assert steps.checked == 202


def test_json_is_what_the_framework_would_write() -> None:
    said = {"text": 'नमस्ते \u2028\x00"\\/', "numbers": [0, -1, 10**30, 0.1, True, None], "": {}}
    from fastapi.responses import JSONResponse

    assert Json(said).body == JSONResponse(said).body
    assert Json([float("nan")]).body == b"[null]"
