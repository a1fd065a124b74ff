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
from serve.stores import facts
from serve.stores.blobs import BlobStore
from serve.stores.database import Database, sqlite_url, with_driver
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


@dataclass(frozen=True)
class StoreAddress:
    """Where the stores are, settled by whoever starts the server; holds no secret."""

    data_dir: str
    blobs_uri: str
    needs_database_url: bool  # then every process must find it in its own environment
    rebind: bool = False

    @staticmethod
    def of(config: ServingConfig) -> StoreAddress:
        """The address that the config and this process's environment name."""
        data_dir = Path(config.data_dir).expanduser().resolve()
        blobs = config.blobs_uri or str(data_dir / "blobs")
        return StoreAddress(
            data_dir=str(data_dir),
            blobs_uri=blobs if "://" in blobs else str(Path(blobs).expanduser().resolve()),
            needs_database_url=bool(os.environ.get("DATABASE_URL")),
            rebind=config.rebind,
        )

    def open(self) -> tuple[Database, BlobStore]:
        """Open the stores in this process; ConfigError if the database has other blobs."""
        database = self.open_database()
        with database.writing() as session:
            facts.bind(session, facts.BLOBS, self._blobs_beside_database(), rebind=self.rebind)
        return database, BlobStore(self.blobs_uri)

    def open_database(self) -> Database:
        """Open the database in this process and bring its schema up to date."""
        database = Database(self._database_url())
        database.migrate()
        return database

    def _database_url(self) -> str:
        """The one that the server was started with, whatever this process's environment has."""
        if not self.needs_database_url:
            return sqlite_url(Path(self.data_dir))
        if not os.environ.get("DATABASE_URL"):
            raise ConfigError("DATABASE_URL is set where the server was started but not here.")
        return with_driver(os.environ["DATABASE_URL"])

    def _blobs_beside_database(self) -> str:
        """The blobs' place as the database sees it, so that both can be moved together."""
        blobs, data_dir = Path(self.blobs_uri), Path(self.data_dir)
        beside = not self.needs_database_url and blobs.is_relative_to(data_dir)
        return str(blobs.relative_to(data_dir)) if beside else self.blobs_uri


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
