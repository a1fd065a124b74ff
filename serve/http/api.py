"""The HTTP interface as a FastAPI app: no Ray, no model; it reads and writes the stores alone."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.errors import TooLargeError
from serve.http import problems
from serve.http.dependencies import ServerContext
from serve.http.routes import health, media, shots, stories

MULTIPART_OVERHEAD_BYTES = 64 * 1024


def create_api(context: ServerContext) -> FastAPI:
    """Build the app over opened stores."""
    app = FastAPI(title="FilmWeaver", version="1", description="Stories of many shots.")
    app.state.context = context
    for router in (stories.router, shots.router, media.router, health.router):
        app.include_router(router)
    problems.install(app)
    app.add_middleware(BodyLimit, context=context)
    return app


class BodyLimit:
    """Refuses bodies above the limit while they arrive, whatever Content-Length says."""

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
        refusal = problems.problem(413, f"The request is heavier than {limit} bytes.")
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
                raise TooLargeError(f"The request is heavier than {limit} bytes.")
            return message

        async def unless_refused(message: Message) -> None:
            # Whatever the app makes of a body that broke off, the client is told why it did.
            if not refused:
                await send(message)
            elif message["type"] == "http.response.start":
                await refusal(scope, receive, send)

        await self._app(scope, counted, unless_refused)
