"""What every request handler needs: the stores, the limits and the model's own film format."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Header, Request

from fw_model.errors import ConfigError, InputError
from serve.config import ServingConfig
from serve.films import FilmCache
from serve.stores.blobs import BlobStore
from serve.stores.database import Database, database_url
from serve.stores.idempotency import IdempotencyKey

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


@dataclass(frozen=True)
class StoreAddress:
    """Where the stores are, settled by whoever starts the server; holds no secret."""

    data_dir: str
    blobs_uri: str
    needs_database_url: bool  # then every process must find it in its own environment

    @staticmethod
    def of(config: ServingConfig) -> StoreAddress:
        """The address that the config and this process's environment name."""
        data_dir = Path(config.data_dir).expanduser().resolve()
        return StoreAddress(
            data_dir=str(data_dir),
            blobs_uri=config.blobs_uri or str(data_dir / "blobs"),
            needs_database_url=bool(os.environ.get("DATABASE_URL")),
        )

    def open(self) -> tuple[Database, BlobStore]:
        """Open the stores in this process."""
        return self.open_database(), BlobStore(self.blobs_uri)

    def open_database(self) -> Database:
        """Open the database in this process and bring its schema up to date."""
        if self.needs_database_url and not os.environ.get("DATABASE_URL"):
            raise ConfigError("DATABASE_URL is set where the server was started but not here.")
        database = Database(database_url(Path(self.data_dir)))
        database.migrate()
        return database


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
