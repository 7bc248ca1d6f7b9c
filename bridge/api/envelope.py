"""The older bridge's answers: ``{success, message, data}``, also for errors (seed 001)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from bridge.api.problems import named, sentence
from bridge.call.requests import BadRequest, OverLimit, Unavailable

ENVELOPED: Final = ("/call/", "/web_call/")
"""Where paths with such answers begin."""


def envelope(message: str, data: Any) -> dict[str, Any]:
    """Return the answer to what was done."""
    return {"success": True, "message": message, "data": data}


def refusal(
    status: int, message: str, data: Any = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    """Return the answer to what was not."""
    body = {"success": False, "message": message, "data": data}
    return JSONResponse(body, status, headers=headers)


class Enveloped(APIRoute):
    """A route whose errors are enveloped, too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, which raises nothing that is an answer."""
        handle = super().get_route_handler()

        async def enveloped(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as failure:
                errors = named(failure.errors())
                return refusal(422, sentence(errors), {"errors": errors})
            except BadRequest as failure:
                errors = [{"field": failure.field, "message": failure.text}]
                return refusal(422, str(failure), {"errors": errors})
            except HTTPException as failure:
                headers = dict(failure.headers or {})
                return refusal(failure.status_code, str(failure.detail), headers=headers)
            except OverLimit as failure:
                return refusal(429, str(failure), headers={"Retry-After": str(failure.retry_after)})
            except Unavailable as failure:
                return refusal(503, str(failure), headers={"Retry-After": str(failure.retry_after)})

        return enveloped
