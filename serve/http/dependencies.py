"""What request handlers need: the stores and limits, and idempotency. Knows nothing of routes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from fastapi import Depends, Header, Request
from pydantic import BaseModel
from sqlalchemy.orm import Session

from serve.config import ServingConfig
from serve.stores import idempotency
from serve.stores.address import StoreAddress
from serve.stores.blobs import BlobStore
from serve.stores.database import Database
from serve.work.films import FilmCache

Response = TypeVar("Response", bound=BaseModel)


@dataclass(frozen=True)
class FrameSize:
    """Width and height of a frame in pixels."""

    width: int
    height: int


@dataclass(frozen=True)
class ServerContext:
    """Opened stores and settings, shared by all requests of a process."""

    database: Database
    blobs: BlobStore
    films: FilmCache
    config: ServingConfig
    default_size: FrameSize  # of stories that ask for no other


def open_context(
    config: ServingConfig, address: StoreAddress, default_size: FrameSize
) -> ServerContext:
    """Open everything that an ingress needs."""
    database, blobs = address.open()
    folder = Path(address.data_dir) / "films"
    films = FilmCache(folder, blobs, max_bytes=config.film_cache_bytes)
    return ServerContext(database, blobs, films, config, default_size)


def _current(request: Request) -> ServerContext:
    context: ServerContext = request.app.state.context
    return context


Context = Annotated[ServerContext, Depends(_current)]


class IdempotentRequest:
    """A request that takes effect once, however often it is sent with the same key."""

    def __init__(
        self,
        request: Request,
        context: Context,
        key: Annotated[
            str | None,
            Header(
                alias="Idempotency-Key",
                min_length=1,
                max_length=255,
                description="Any text. Repeating a request with the same key has no further effect"
                " and returns the first response again.",
            ),
        ] = None,
    ) -> None:
        self._database = context.database
        self._target = f"{request.method} {request.url.path}\n".encode()
        self._key = key

    def once(
        self,
        content: bytes,
        response: type[Response],
        make: Callable[[Session, float], Response],
    ) -> Response:
        """Return `make(session, now)`, or the stored response of the same request.

        `content` is what the request asks for; a key belongs to one target and one content.
        """
        key = None
        if self._key is not None:
            digest = hashlib.sha256(self._target + content).hexdigest()
            key = idempotency.IdempotencyKey(self._key, digest)
        with self._database.writing() as session:
            now = self._database.clock()
            body = idempotency.once(session, key, lambda: make(session, now).model_dump(), now=now)
        return response.model_validate(body)


Idempotent = Annotated[IdempotentRequest, Depends()]
