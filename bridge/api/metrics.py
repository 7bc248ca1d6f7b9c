"""``GET /metrics``: what Prometheus reads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from bridge.api import examples

if TYPE_CHECKING:
    from bridge.api.app import Doors


class Page(Protocol):
    """One scrape; written in a thread."""

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return the page and its content type."""


class MetricsDoor(Protocol):
    """Who has the metrics; its coroutine runs on the main loop."""

    async def take(self) -> Page:
        """Look at everything now."""


def metrics_router(doors: Doors, metrics: MetricsDoor) -> APIRouter:
    """Return the route; who may read it is the gate's affair (`bridge.api.auth`)."""
    router = APIRouter(tags=["health"])

    @router.get("/metrics", response_class=PlainTextResponse, responses=examples.SCRAPE)
    async def scrape(request: Request) -> Response:
        """Everything that is counted, in Prometheus' text format or as OpenMetrics."""
        page = await doors.ask(metrics.take())
        accept = request.headers.get("accept", "")
        body, content_type = await asyncio.to_thread(page.text, accept)
        return Response(body, headers={"Content-Type": content_type})

    return router
