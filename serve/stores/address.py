"""Where the stores of a server are, so that each of its processes opens the same ones."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fw_model.errors import ConfigError
from serve.config import ServingConfig
from serve.stores import server_binding
from serve.stores.blobs import BlobStore
from serve.stores.database import Database, sqlite_url, with_driver


@dataclass(frozen=True)
class StoreAddress:
    """Settled once by the process that starts the server; holds no secret."""

    data_dir: str
    blobs_uri: str
    needs_database_url: bool  # every process must then find it in its own environment
    rebind: bool = False

    @staticmethod
    def of(config: ServingConfig) -> StoreAddress:
        """The address that `config` and the environment of this process give."""
        data_dir = Path(config.data_dir).expanduser().resolve()
        blobs = config.blobs_uri or str(data_dir / "blobs")
        return StoreAddress(
            data_dir=str(data_dir),
            blobs_uri=blobs if "://" in blobs else str(Path(blobs).expanduser().resolve()),
            needs_database_url=bool(os.environ.get("DATABASE_URL")),
            rebind=config.rebind,
        )

    def open(self) -> tuple[Database, BlobStore]:
        """Open both stores; ConfigError if the database belongs to other blobs."""
        database = self.open_database()
        blobs = self._blobs_seen_from_database()
        with database.writing() as session:
            server_binding.bind(session, server_binding.BLOBS, blobs, rebind=self.rebind)
        return database, BlobStore(self.blobs_uri)

    def open_database(self) -> Database:
        """Open the database and bring its schema up to date."""
        database = Database(self._database_url())
        database.migrate()
        return database

    def _database_url(self) -> str:
        if not self.needs_database_url:  # the server was started without DATABASE_URL
            return sqlite_url(Path(self.data_dir))
        url = os.environ.get("DATABASE_URL")
        if not url:
            raise ConfigError(
                "DATABASE_URL was set for the process that started the server but is not set for"
                " this one; set it on every node."
            )
        return with_driver(url)

    def _blobs_seen_from_database(self) -> str:
        """The place of the blobs, relative if both stores can be moved together."""
        blobs, data_dir = Path(self.blobs_uri), Path(self.data_dir)
        is_beside = not self.needs_database_url and blobs.is_relative_to(data_dir)
        return str(blobs.relative_to(data_dir)) if is_beside else self.blobs_uri
