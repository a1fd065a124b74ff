"""The HTTP API as a FastAPI app. It reads and writes the stores; knows nothing of Ray or models."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.config import LimitsConfig
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
    app.add_middleware(BodyLimit, limits=context.config.limits)
    return app


def routed_app() -> FastAPI:
    """The app with its routes but without stores: enough to describe the API."""
    app = _Api(
        title="FilmWeaver",
        version="1",
        description="Generates stories of many shots in which characters and places stay the same.",
        # A declared default also keeps FastAPI from declaring its own kind of validation error.
        responses=problems.declare("default"),
        generate_unique_id_function=lambda route: route.name,
    )
    for router in (stories.router, shots.router, media.router, health.router):
        app.include_router(router)
    return app


class _Api(FastAPI):
    """FastAPI with the problem document among its schemas."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI description."""
        description = super().openapi()
        description["components"]["schemas"]["Problem"] = problems.Problem.model_json_schema()
        return description


class BodyLimit:
    """Refuses a body above the limit while it arrives, whatever its Content-Length says."""

    def __init__(self, app: ASGIApp, *, limits: LimitsConfig) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and count its bytes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limits.max_request_bytes
        if scope["path"].endswith("/references"):
            limit = self._limits.max_image_bytes + MULTIPART_OVERHEAD_BYTES
        reason = f"The request is larger than the limit of {limit} bytes; send a smaller one."
        refusal = problems.problem(413, reason)
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > limit:
            await refusal(scope, receive, send)
            return
        received, is_refused = 0, False

        async def receive_counted() -> Message:
            nonlocal received, is_refused
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                is_refused = True
                raise TooLargeError(reason)
            return message

        async def send_unless_refused(message: Message) -> None:
            # The app may answer the broken-off body in any way; the client gets the real reason.
            if not is_refused:
                await send(message)
            elif message["type"] == "http.response.start":
                await refusal(scope, receive, send)

        await self._app(scope, receive_counted, send_unless_refused)
