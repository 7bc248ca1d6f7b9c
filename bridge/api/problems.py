"""Errors as RFC 9457 problem documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from bridge.call.requests import (
    BadConfiguration,
    BadRequest,
    NotAllowed,
    NotDone,
    OverLimit,
    Unavailable,
    WrongState,
)


def problem(
    status: int,
    detail: str,
    *,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return a problem document; *errors* name the fields that are wrong."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if errors:
        body["errors"] = list(errors)
    return JSONResponse(
        body, status, headers=dict(headers or {}), media_type="application/problem+json"
    )


def install(app: FastAPI, allowed: Callable[[str], Sequence[str]]) -> None:
    """Turn every error of *app* into a problem document; *allowed* are a path's methods."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, failure: RequestValidationError) -> JSONResponse:
        errors = named(failure.errors())
        return problem(422, sentence(errors), errors=errors)

    @app.exception_handler(BadRequest)
    async def bad(_: Request, failure: BadRequest) -> JSONResponse:
        error = {"field": failure.field, "message": failure.text}
        return problem(422, str(failure), errors=[error])

    @app.exception_handler(OverLimit)
    async def over(_: Request, failure: OverLimit) -> JSONResponse:
        return problem(429, str(failure), headers={"Retry-After": str(failure.retry_after)})

    @app.exception_handler(Unavailable)
    async def unavailable(_: Request, failure: Unavailable) -> JSONResponse:
        return problem(503, str(failure), headers={"Retry-After": str(failure.retry_after)})

    @app.exception_handler(WrongState)
    async def wrong_state(_: Request, failure: WrongState) -> JSONResponse:
        return problem(409, str(failure))

    @app.exception_handler(NotAllowed)
    async def not_allowed(_: Request, failure: NotAllowed) -> JSONResponse:
        return problem(403, str(failure))

    @app.exception_handler(NotDone)
    async def not_done(_: Request, failure: NotDone) -> JSONResponse:
        return problem(502, str(failure))

    @app.exception_handler(BadConfiguration)
    async def bad_configuration(_: Request, failure: BadConfiguration) -> JSONResponse:
        errors = [{"field": setting_of(line), "message": line} for line in failure.lines]
        return problem(422, "the configuration is wrong, nothing changed", errors=errors)

    @app.exception_handler(HTTPException)
    async def http(request: Request, failure: HTTPException) -> JSONResponse:
        if failure.status_code in (404, 405):
            methods = allowed(request.url.path)
            if methods and request.method not in methods:
                # RFC 9110 15.5.6: the methods of the resource, not of one of its routes.
                return problem(405, "Method Not Allowed", headers={"Allow": ", ".join(methods)})
        return problem(failure.status_code, str(failure.detail), headers=failure.headers)

    @app.exception_handler(Exception)
    async def unexpected(_: Request, __: Exception) -> JSONResponse:
        return problem(500, "an error of the bridge; its log has the details")


def named(errors: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return pydantic's errors as a problem document names them."""
    return [{"field": _field(error), "message": _message(error)} for error in errors]


def sentence(errors: Sequence[Mapping[str, str]]) -> str:
    """Return a problem's ``detail``."""
    return "; ".join(f"{error['field']}: {error['message']}" for error in errors)


def setting_of(line: str) -> str:
    """Return the setting that a line of the configuration's errors is about.

    ``file:key: what is wrong``; the file itself when it cannot be read at all.
    """
    return line.partition(": ")[0].rpartition(":")[2]


def _field(error: Mapping[str, Any]) -> str:
    """Return the field's path as the caller wrote it; ``body`` for the whole body."""
    named = (error.get("ctx") or {}).get("field")
    if named is not None:
        return str(named)
    if error["type"] == "json_invalid":
        return "body"
    where, *path = error["loc"]
    return ".".join(str(part) for part in path) or str(where)


def _message(error: Mapping[str, Any]) -> str:
    match error["type"]:
        case "extra_forbidden":
            return "unknown field"
        case "missing":
            return "missing, this field is required"
        case "json_invalid":
            return "not JSON"
        case "value_error":
            return str((error.get("ctx") or {}).get("error", error["msg"]))
        case _:
            text = str(error["msg"])
            return text[:1].lower() + text[1:]
