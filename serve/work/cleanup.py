"""Takes away what nothing points at: blobs of deleted stories and lost commits, old keys.

A blob is written before the row that names it, so only blobs that have been lying around for long
are looked at; writing a blob again makes it young again.
"""

from __future__ import annotations

import logging

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from serve.stores import idempotency
from serve.stores.blobs import BlobStore
from serve.stores.database import Database
from serve.stores.tables import Blob, Chunk, Keyframe, Reference, Worker

log = logging.getLogger(__name__)
BLOB_AGE_S = 24 * 3600.0
WORKER_AGE_S = 24 * 3600.0
KEYS_AT_ONCE = 500


def sweep(database: Database, blobs: BlobStore, *, idempotency_s: float) -> int:
    """Remove what is old and unused; returns how many blobs were removed."""
    now = database.clock()
    with database.writing() as session:
        idempotency.forget(session, before=now - idempotency_s)
        session.execute(delete(Worker).where(Worker.seen_at < now - WORKER_AGE_S))
    blobs.drop_torn(now - BLOB_AGE_S)
    old = blobs.list_older(now - BLOB_AGE_S)
    removed = 0
    for start in range(0, len(old), KEYS_AT_ONCE):
        with database.writing() as session:
            unused = _unused(session, old[start : start + KEYS_AT_ONCE])
            session.execute(delete(Blob).where(Blob.key.in_(unused)))
        removed += sum(blobs.delete_older(key, now - BLOB_AGE_S) for key in unused)
    if removed:
        log.info("removed %d blobs that nothing pointed at", removed)
    return removed


def _unused(session: Session, keys: list[str]) -> list[str]:
    used: set[str] = set()
    for table, columns in (
        (Chunk, (Chunk.latents_blob, Chunk.fragment_blob)),
        (Keyframe, (Keyframe.latents_blob, Keyframe.image_blob)),
        (Reference, (Reference.image_blob,)),
    ):
        named = or_(*(column.in_(keys) for column in columns))
        for row in session.execute(select(*columns).select_from(table).where(named)):
            used.update(row)
    return [key for key in keys if key not in used]
