"""Deletes what is unused: blobs of deleted stories and refused commits, old keys and workers.

A blob is written before the row that points at it, so only blobs older than a day are considered;
writing a blob again resets its age.
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
KEYS_PER_QUERY = 500


def clean_up(database: Database, blobs: BlobStore, *, idempotency_s: float) -> int:
    """Delete what is old and unused; returns the number of deleted blobs."""
    now = database.clock()
    with database.writing() as session:
        idempotency.delete_older(session, now - idempotency_s)
        session.execute(delete(Worker).where(Worker.seen_at < now - WORKER_AGE_S))
    blobs.delete_partial(now - BLOB_AGE_S)
    old = blobs.list_older(now - BLOB_AGE_S)
    num_deleted = 0
    for start in range(0, len(old), KEYS_PER_QUERY):
        with database.writing() as session:
            unused = _unused(session, old[start : start + KEYS_PER_QUERY])
            session.execute(delete(Blob).where(Blob.key.in_(unused)))
        num_deleted += sum(blobs.delete_older(key, now - BLOB_AGE_S) for key in unused)
    if num_deleted:
        log.info("deleted %d unused blobs", num_deleted)
    return num_deleted


def _unused(session: Session, keys: list[str]) -> list[str]:
    used: set[str] = set()
    for table, columns in (
        (Chunk, (Chunk.latents_blob, Chunk.fragment_blob)),
        (Keyframe, (Keyframe.latents_blob, Keyframe.image_blob)),
        (Reference, (Reference.image_blob,)),
    ):
        points_at = or_(*(column.in_(keys) for column in columns))
        for row in session.execute(select(*columns).select_from(table).where(points_at)):
            used.update(row)
    return [key for key in keys if key not in used]
