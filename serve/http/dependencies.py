"""What every request handler needs: the stores, the limits and the model's own film format."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Header, Request

from fw_model.errors import InputError
from serve.config import ServingConfig
from serve.stores.address import StoreAddress
from serve.stores.blobs import BlobStore
from serve.stores.database import Database
from serve.stores.idempotency import IdempotencyKey
from serve.work.films import FilmCache

MAX_KEY_CHARACTERS = 255


@dataclass(frozen=True)
class FilmFormat:
    """Frame size in pixels of stories that do not ask for another."""

    width: int
    height: int


@dataclass(frozen=True)
class ServerContext:
    """Opened stores and settings, shared by all requests of a process."""

    database: Database
    blobs: BlobStore
    films: FilmCache
    config: ServingConfig
    format: FilmFormat


def open_context(
    config: ServingConfig, address: StoreAddress, film_format: FilmFormat
) -> ServerContext:
    """Open all that an ingress needs."""
    database, blobs = address.open()
    folder = Path(address.data_dir) / "films"
    films = FilmCache(folder, blobs, max_bytes=config.film_cache_bytes)
    return ServerContext(database, blobs, films, config, film_format)


def current(request: Request) -> ServerContext:
    """The context of the app that serves `request`."""
    context: ServerContext = request.app.state.context
    return context


Context = Annotated[ServerContext, Depends(current)]
KeyHeader = Annotated[str | None, Header(alias="Idempotency-Key")]


def idempotency_key(request: Request, key: str | None, content: bytes) -> IdempotencyKey | None:
    """Join the client's key with the hash of what it asks for."""
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY_CHARACTERS:
        raise InputError(
            f"Idempotency-Key must have 1 to {MAX_KEY_CHARACTERS} characters, not {len(key)}."
        )
    digest = hashlib.sha256(f"{request.method} {request.url.path}\n".encode())
    digest.update(content)
    return IdempotencyKey(key, digest.hexdigest())
