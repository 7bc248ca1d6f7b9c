"""What the contract names and marks "later": 501, so that nobody takes it for a wrong address."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from starlette.websockets import WebSocket

from bridge.api.problems import problem

_ANY: Final = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_PATHS: Final = {
    "/api/v1/provider-keys": "provider keys (seed 003)",
    "/api/v1/provider-keys/{rest:path}": "provider keys (seed 003)",
    "/v1/sessions/twilio": "Twilio media streams (seed 002)",
    "/v1/sessions/twilio/{rest:path}": "Twilio media streams (seed 002)",
    "/v1/agents/{agent_id}/session": "agent WebSocket sessions (seed 002)",
}


def router() -> APIRouter:
    """Return the routes; a WebSocket is refused the same way."""
    routes = APIRouter(include_in_schema=False)
    for path, what in _PATHS.items():
        _refuse(routes, path, f"{what} are not served by this version")
    return routes


def _refuse(routes: APIRouter, path: str, detail: str) -> None:
    async def later() -> JSONResponse:
        return problem(501, detail)

    async def later_socket(websocket: WebSocket) -> None:
        if "websocket.http.response" in websocket.scope.get("extensions", {}):
            await websocket.send_denial_response(problem(501, detail))
        else:
            await websocket.close()

    routes.add_api_route(path, later, methods=_ANY)
    routes.add_api_websocket_route(path, later_socket)
