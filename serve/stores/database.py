"""Engine, transactions and schema of the server's database: SQLite by default, or PostgreSQL.

SQLite runs in WAL mode with synchronous=FULL, so a committed transaction survives a power cut.
It must be on a local disk; several nodes share a PostgreSQL (DATABASE_URL).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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
DISK_FULL = "53100"  # a code of PostgreSQL
MIGRATION_LOCK = 0x46696C6D  # any constant, the same in every process


class Database:
    """One engine; all reads and writes happen in transactions opened here."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        self.url = url
        self.clock = clock
        self._engine = _engine(url)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite, which locks the whole database for a write."""
        return self._engine.dialect.name == "sqlite"

    def migrate(self) -> None:
        """Bring the schema to the newest revision; concurrent processes take turns."""
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
        connection = self._engine.connect().execution_options(filmweaver_write=write)
        if write or self.is_sqlite:  # every transaction of SQLite reads one snapshot
            return connection
        return connection.execution_options(isolation_level="REPEATABLE READ")


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn the error of a full, locked or unreachable database into a one-line StorageError."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        reason = str(error.orig).strip().splitlines()[0]
        is_full = "full" in reason or getattr(error.orig, "sqlstate", None) == DISK_FULL
        kind = FullError if is_full else StorageError
        raise kind(f"The database refused the request: {reason}.") from error


def sqlite_url(data_dir: Path) -> str:
    """URL of the SQLite file in the folder `data_dir`, which is created if needed."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"serving.data_dir {str(data_dir)!r} cannot be created: {error.strerror};"
            " choose another folder."
        ) from error
    return f"sqlite:///{data_dir / 'filmweaver.db'}"


def with_driver(url: str) -> str:
    """`url` with the name of the installed driver if it names plain PostgreSQL."""
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
            raise ConfigError(
                f"DATABASE_URL must start with sqlite or postgresql, not {backend!r}."
            )
        engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})
    except (ArgumentError, ValueError) as error:  # ValueError: the port is not a number
        raise ConfigError(
            "DATABASE_URL is not a valid URL; write it like postgresql://host/name."
        ) from error
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"DATABASE_URL needs the driver {error.name!r}: pip install 'filmweaver[postgres]'."
        ) from error
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # _begin_sqlite begins transactions, not the driver
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("filmweaver_write", False)
    # A deferred transaction that writes later can fail with "locked" before the timeout.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
