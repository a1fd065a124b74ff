"""Rows by id, and the record of stored blobs: what the stores of all kinds of rows share."""

from __future__ import annotations

import uuid
from typing import TypeVar

from sqlalchemy.orm import Session

from serve.errors import NotFoundError
from serve.stores.blobs import StoredBlob
from serve.stores.tables import Base, Blob

Row = TypeVar("Row", bound=Base)


def new_id(kind: str) -> str:
    """A new random id that starts with the kind of row it names."""
    return f"{kind}_{uuid.uuid4().hex}"


def get(session: Session, table: type[Row], row_id: str, *, lock: bool = False) -> Row:
    """The row with this id; `lock` holds it until the transaction ends."""
    row = session.get(table, row_id, with_for_update=lock or None)
    if row is None:
        raise NotFoundError(f"{table.__name__} {row_id!r} does not exist or was deleted.")
    return row


def record_blob(session: Session, blob: StoredBlob, *, now: float) -> None:
    """Record that the database points at a stored blob."""
    if session.get(Blob, blob.key) is None:
        session.add(Blob(**vars(blob), created_at=now))
        session.flush()
