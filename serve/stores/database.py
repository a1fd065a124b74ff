"""Engine, transactions and schema of the server's database: SQLite by default, or PostgreSQL.

SQLite runs in WAL mode with synchronous=FULL, so a committed transaction survives a power cut.
It must lie on a local disk; several nodes share a PostgreSQL (DATABASE_URL).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError
from sqlalchemy.orm import Session

from fw_model.errors import ConfigError, StorageError
from serve.errors import FullError

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
BUSY_TIMEOUT_S = 30.0
DISK_FULL = "53100"  # PostgreSQL's code
MIGRATION_LOCK = 0x46696C6D  # any constant, the same in every process of the project


class Database:
    """One engine; every read or write happens in a transaction opened here."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        self.url = url
        self.clock = clock
        self._engine = _engine(url)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded database."""
        return self._engine.dialect.name == "sqlite"

    def migrate(self) -> None:
        """Bring the schema to the newest revision; processes that do so at once take turns."""
        config = AlembicConfig()
        config.set_main_option("script_location", str(MIGRATIONS))
        with translated_errors(), self._connect(write=True) as connection, connection.begin():
            if not self.is_sqlite:  # SQLite's write transaction is already exclusive
                connection.execute(
                    text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK}
                )
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session over one consistent snapshot."""
        with (
            translated_errors(),
            self._connect(write=False) as connection,
            Session(connection, expire_on_commit=False, autoflush=False) as session,
        ):
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session whose changes are committed together on exit, or not at all."""
        with (
            translated_errors(),
            self._connect(write=True) as connection,
            Session(connection, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    def close(self) -> None:
        """Release the connections."""
        self._engine.dispose()

    def _connect(self, *, write: bool) -> Connection:
        return self._engine.connect().execution_options(filmweaver_write=write)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn a database that is full, locked or away into StorageError, in one sentence."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        reason = str(error.orig).strip().splitlines()[0]
        is_full = "full" in reason or getattr(error.orig, "sqlstate", None) == DISK_FULL
        kind = FullError if is_full else StorageError
        raise kind(f"The database refused: {reason}.") from error


def sqlite_url(data_dir: Path) -> str:
    """The SQLite file under `data_dir`, a folder that is made; ConfigError if it cannot be."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"serving.data_dir {str(data_dir)!r} cannot be made: {error.strerror}; choose another."
        ) from error
    return f"sqlite:///{data_dir / 'filmweaver.db'}"


def with_driver(url: str) -> str:
    """A PostgreSQL `url` as DATABASE_URL has it, with the driver that is installed."""
    for plain in ("postgres://", "postgresql://"):
        if url.startswith(plain):
            return "postgresql+psycopg://" + url.removeprefix(plain)
    return url


def _engine(url: str) -> Engine:
    try:
        backend = make_url(url).get_backend_name()
        if backend == "postgresql":
            return create_engine(url, pool_pre_ping=True)
        if backend != "sqlite":
            raise ConfigError(f"DATABASE_URL must name sqlite or postgresql, not {backend!r}.")
        engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})
    except (ArgumentError, ValueError) as error:  # the latter for a port that is no number
        raise ConfigError("DATABASE_URL is no database URL (postgresql://host/name).") from error
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"DATABASE_URL needs the driver {error.name!r}: pip install 'filmweaver[postgres]'."
        ) from error
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_pragmas(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("filmweaver_write", False)
    # A deferred transaction that later writes can fail with "locked" no matter the time-out.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
