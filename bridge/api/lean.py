"""Routes that check a request once: what has passed before is answered without the checks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Final, get_type_hints

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

LONGEST: Final = 64
"""Characters of a path's parameter that need no check (`examples.CallIdPath`)."""

_KNOWN: Final = 128  # queries that are remembered for a route
_QUERY: Final = 256  # bytes of one of them

_Endpoint = Callable[..., Awaitable[Any]]


class Json(Response):
    """*content* as JSON, several times faster than the framework's own."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the text. What is no number in JSON is null."""
        return to_json(content, inf_nan_mode="null")


class Lean(APIRoute):
    """A route whose GET goes straight to its endpoint when its query has been there before.

    The framework's way to an endpoint costs more than most answers; what it finds in a query
    is the same whenever that query comes. It goes the framework's way with a query that is
    new, with a header or a path that must be checked, and always if the endpoint takes more
    than the path, the query, headers and ``request``, or returns no response of its own.
    """

    def __init__(self, path: str, endpoint: _Endpoint, **options: Any) -> None:
        self._known: OrderedDict[bytes, dict[str, Any]] = OrderedDict()
        self._endpoint = endpoint
        super().__init__(path, self._noting(endpoint), **options)
        asked = self.dependant
        self._headers = tuple(str(one.alias).lower().encode() for one in asked.header_params)
        self._lean = (
            self.methods == {"GET"}
            and asked.request_param_name == "request"
            and _returns_response(endpoint)
            and not (asked.dependencies or asked.body_params or asked.cookie_params)
        )

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        given = self._given(scope) if self._lean and scope["method"] == "GET" else None
        if given is None:
            await super().handle(scope, receive, send)
            return
        request = Request(scope, receive, send)
        response = await self._endpoint(**scope["path_params"], **given, request=request)
        await response(scope, receive, send)

    def _given(self, scope: Scope) -> dict[str, Any] | None:
        """Return what the endpoint takes besides the path, None where that must be checked."""
        if any(len(value) > LONGEST for value in scope["path_params"].values()):
            return None
        return None if self._is_headed(scope) else self._known.get(scope["query_string"])

    def _is_headed(self, scope: Scope) -> bool:
        return bool(self._headers) and any(name in self._headers for name, _ in scope["headers"])

    def _noting(self, endpoint: _Endpoint) -> _Endpoint:
        """Return *endpoint*, which is remembered to have been asked."""

        @wraps(endpoint)
        async def noted(**given: Any) -> Any:
            if self._lean:
                self._note(given["request"].scope, given)
            return await endpoint(**given)

        return noted

    def _note(self, scope: Scope, given: dict[str, Any]) -> None:
        query: bytes = scope["query_string"]
        if len(query) > _QUERY or self._is_headed(scope):
            return
        own = {"request", *scope["path_params"]}
        self._known[query] = {name: value for name, value in given.items() if name not in own}
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)


def _returns_response(endpoint: _Endpoint) -> bool:
    returned = get_type_hints(endpoint).get("return")
    return isinstance(returned, type) and issubclass(returned, Response)
