"""What a database is served with: its blobs, its model, the frame sizes that this model draws.

Two servers with different models on one queue would draw each other's stories, and a server with
other blobs would find none of its films; so what was recorded at first binds whoever comes later.
"""

from __future__ import annotations

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from fw_model.errors import ConfigError
from serve.stores.tables import Fact

BLOBS = "blobs"
MODEL = "model"
FRAME_MULTIPLE = "frame multiple"


def bind(session: Session, name: str, value: str, *, rebind: bool) -> None:
    """Record `value` at first use; ConfigError if another is recorded, unless `rebind`."""
    recorded = read(session, name)
    if recorded is not None and recorded != value and not rebind:
        raise ConfigError(
            f"The database is served with the {name} {recorded!r}, not {value!r}; go back to those,"
            " give another database (serving.data_dir or DATABASE_URL), or accept the change for"
            " good with --set serving.rebind=true."
        )
    if recorded != value:
        record(session, name, value)


def record(session: Session, name: str, value: str) -> None:
    """Record `value`, whatever was recorded before."""
    is_postgres = session.get_bind().dialect.name == "postgresql"
    row = (postgresql if is_postgres else sqlite).insert(Fact).values(name=name, value=value)
    session.execute(row.on_conflict_do_update(index_elements=["name"], set_={"value": value}))


def read(session: Session, name: str) -> str | None:
    """What was recorded, None if nothing was."""
    fact = session.get(Fact, name)
    return None if fact is None else fact.value
