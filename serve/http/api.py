"""The HTTP API as a FastAPI app. It reads and writes the stores; knows nothing of Ray or models."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.errors import TooLargeError
from serve.http import problems
from serve.http.dependencies import ServerContext
from serve.http.routes import health, media, shots, stories

MULTIPART_OVERHEAD_BYTES = 64 * 1024


def create_api(context: ServerContext) -> FastAPI:
    """Build the app over opened stores."""
    app = routed_app()
    app.state.context = context
    problems.install(app)
    app.add_middleware(BodyLimit, context=context)
    return app


def routed_app() -> FastAPI:
    """Return the app with its routes and no stores: enough to describe the API."""
    app = _Api(
        title="FilmWeaver",
        version="1",
        description="Generates stories of many shots in which characters and places stay the same.",
        responses=problems.RESPONSES,
    )
    for router in (stories.router, shots.router, media.router, health.router):
        app.include_router(router)
    return app


class _Api(FastAPI):
    """FastAPI with the problem document among its schemas."""

    def openapi(self) -> dict[str, Any]:
        """Return the description of the API."""
        description = super().openapi()
        description["components"]["schemas"]["Problem"] = problems.SCHEMA
        return description


class BodyLimit:
    """Refuses a body above the limit while it arrives, whatever its Content-Length says."""

    def __init__(self, app: ASGIApp, *, context: ServerContext) -> None:
        self._app = app
        self._limits = context.config.limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counting its bytes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limits.max_request_bytes
        if scope["path"].endswith("/references"):
            limit = self._limits.max_image_bytes + MULTIPART_OVERHEAD_BYTES
        refusal = problems.problem(413, f"The request is larger than the limit of {limit} bytes.")
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > limit:
            await refusal(scope, receive, send)
            return
        received, refused = 0, False

        async def counted() -> Message:
            nonlocal received, refused
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                refused = True
                raise TooLargeError(f"The request is larger than the limit of {limit} bytes.")
            return message

        async def unless_refused(message: Message) -> None:
            # Whatever the app answers to a broken-off body, the client gets the reason.
            if not refused:
                await send(message)
            elif message["type"] == "http.response.start":
                await refusal(scope, receive, send)

        await self._app(scope, counted, unless_refused)
