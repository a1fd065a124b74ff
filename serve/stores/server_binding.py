"""What binds a database to its server: the blobs and the model recorded by the first one.

Servers with different models on one queue would generate each other's stories, and a server with
other blobs would find none of its films. So a later server must match, unless `rebind` is set.
"""

from __future__ import annotations

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from fw_model.errors import ConfigError
from serve.stores.tables import ServerBinding

BLOBS = "blobs"
MODEL = "model"
FRAME_MULTIPLE = "frame multiple"


def bind(session: Session, name: str, value: str, *, rebind: bool) -> None:
    """Record `value` at first use; ConfigError if another is recorded, unless `rebind`."""
    recorded = read(session, name)
    if recorded is not None and recorded != value and not rebind:
        raise ConfigError(
            f"This database belongs to a server with the {name} {recorded!r}, not {value!r}; use"
            f" the recorded {name}, choose another database (serving.data_dir or DATABASE_URL), or"
            " accept the change for good with --set serving.rebind=true."
        )
    if recorded != value:
        record(session, name, value)


def record(session: Session, name: str, value: str) -> None:
    """Record `value`, replacing an earlier one."""
    is_postgres = session.get_bind().dialect.name == "postgresql"
    insert = (postgresql if is_postgres else sqlite).insert(ServerBinding)
    row = insert.values(name=name, value=value)
    session.execute(row.on_conflict_do_update(index_elements=["name"], set_={"value": value}))


def read(session: Session, name: str) -> str | None:
    """The recorded value, or None."""
    row = session.get(ServerBinding, name)
    return None if row is None else row.value


def read_frame_multiple(session: Session) -> int:
    """The number of pixels that widths and heights must be multiples of; 1 until a model loads."""
    return int(read(session, FRAME_MULTIPLE) or 1)
