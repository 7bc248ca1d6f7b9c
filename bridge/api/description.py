"""``/openapi.json``: what every route answers besides what it says itself.

Done once for all routers, those of other parts of the house too: who may ask, problems as
`Problem`, and the refusals that the gate and the framework make.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI

from bridge.api import resources
from bridge.api.auth import LOCAL, OPEN
from bridge.api.envelope import ENVELOPED
from bridge.api.examples import problem_of
from bridge.api.examples_of_others import ANSWERS, CREATORS

_METHODS: Final = frozenset(("get", "post", "put", "patch", "delete"))
_SCHEMES: Final = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key of [[http.key]], or a token signed with http.jwt_secret. "
        "Without either configured nothing is asked, and only this machine may call.",
    }
}
_DESCRIBED: Final = (resources.Problem, resources.CallEventDocument)

_NO_KEY: Final = problem_of("no or wrong key: Authorization: Bearer <key>", 401, "Unauthorized")
_NOT_HERE: Final = problem_of("without keys the Host must be loopback", 403, "Forbidden")
_TOO_LARGE: Final = problem_of("the body is larger than 1048576 bytes", 413, "Content Too Large")
_NOT_JSON: Final = problem_of(
    "without keys a body must be application/json", 415, "Unsupported Media Type"
)
_STOPPED: Final = problem_of("the bridge has stopped", 503, "Service Unavailable")
_WRONG: Final = problem_of(
    "page: input should be greater than or equal to 1",
    wrong={"page": "input should be greater than or equal to 1"},
)
_LIMITED: Final = problem_of(
    "max_calls of trunk 'exotel-mumbai' is reached", 429, "Too Many Requests"
)
_NO_CREDIT: Final = problem_of(
    "the key's credit is below its plan's minimum", 402, "Payment Required"
)
_UNKNOWN: Final = problem_of("no such call", 404, "Not Found")
_PROBLEM: Final = "application/problem+json"
_BAD_BODY: Final = problem_of("there was an error parsing the body", 400, "Bad Request")


def complete(app: FastAPI) -> None:
    """Have *app* describe what its routes leave out."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(plain())
        return plain()

    app.openapi = described  # type: ignore[method-assign]


class Allowed:
    """Which methods a path has, as the description of *app* says.

    A path that is written out is only itself: ``/calls/active`` is no call's.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._written: dict[str, list[str]] = {}
        self._patterns: list[tuple[re.Pattern[str], list[str]]] = []

    def __call__(self, path: str) -> list[str]:
        """Return the methods; none of a path that is not described."""
        if not self._written:
            self._read()
        if path in self._written:
            return self._written[path]
        return next((known for pattern, known in self._patterns if pattern.fullmatch(path)), [])

    def _read(self) -> None:
        for path, item in self._app.openapi()["paths"].items():
            methods = sorted(name.upper() for name in item if name in _METHODS)
            if "{" in path:
                pattern = re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(path))
                self._patterns.append((re.compile(pattern), methods))
            else:
                self._written[path] = methods


def _complete(schema: dict[str, Any]) -> None:
    components = schema.setdefault("components", {})
    components["securitySchemes"] = _SCHEMES
    schemas = components.setdefault("schemas", {})
    for model in _DESCRIBED:
        described = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(described.pop("$defs", {}))
        schemas[model.__name__] = described
    for path, method, operation in _operations(schema):
        _describe(path, method, operation)
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)


def _operations(schema: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            if method in _METHODS:
                yield path, method, operation


def _describe(path: str, method: str, operation: dict[str, Any]) -> None:
    answers = operation["responses"]
    usual = answers.get("422", {}).get("content", {}).get("application/json")
    if usual is not None and "$ref" in usual.get("schema", {}):
        answers["422"] = _WRONG
    _refusals(path, operation, answers)
    for status, answer in answers.items():
        content = answer.get("content", {})
        if _PROBLEM in content:
            content.pop("application/json", None)
            if not content[_PROBLEM]:
                said = problem_of(answer["description"], int(status), _phrase(status))
                answer["content"] = said["content"]
        example = ANSWERS.get((method, path, status))
        if example is not None:
            content["application/json"].setdefault("example", example)
    if path.startswith(ENVELOPED):
        _envelope(answers)
    operation["responses"] = dict(sorted(answers.items()))


def _refusals(path: str, operation: dict[str, Any], answers: dict[str, Any]) -> None:
    """Add what the gate, the framework and the limits refuse."""
    if path in OPEN:
        operation["security"] = []
    else:
        operation["security"] = [{"bearer": []}, *([{}] if path in LOCAL else [])]
        answers.setdefault("401", _NO_KEY)
        answers.setdefault("403", _NOT_HERE)
        answers.setdefault("503", _STOPPED)
    if "{" in path:
        answers.setdefault("404", _UNKNOWN)
    if "requestBody" in operation:
        answers.setdefault("400", _BAD_BODY)
        answers.setdefault("413", _TOO_LARGE)
        answers.setdefault("415", _NOT_JSON)
    if path in CREATORS and "requestBody" in operation:
        answers.setdefault("402", _NO_CREDIT)
        answers.setdefault("429", _LIMITED)


def _envelope(answers: dict[str, Any]) -> None:
    """Have the refusals in an envelope, beside the gate's, which have none."""
    answers.setdefault("404", _UNKNOWN)
    for status, answer in answers.items():
        if not status.startswith("2"):
            known = answer.get("content", {})
            problem = known.get(_PROBLEM, {}).get("example", {})
            message = problem.get("detail", answer["description"])
            example = {"success": False, "message": message, "data": None}
            enveloped = {"application/json": {"example": example}}
            answers[status] = {**answer, "content": {**enveloped, **known}}


def _phrase(status: str) -> str:
    return HTTPStatus(int(status)).phrase
