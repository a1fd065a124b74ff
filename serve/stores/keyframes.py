"""The shared keyframe store: which keyframes a shot may read, and which it did read."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Select, and_, or_, select
from sqlalchemy.orm import Session

from serve.stores import rows
from serve.stores.blobs import StoredBlob
from serve.stores.tables import Keyframe, Reference, Retrieval, Segment, Shot


@dataclass(frozen=True)
class BankEntry:
    """A keyframe with its source: a shot of the story, or a reference image."""

    keyframe: Keyframe
    shot_index: int | None
    reference: Reference | None


@dataclass(frozen=True)
class RetrievedEntry:
    """A bank entry as it entered a segment's context."""

    entry: BankEntry
    retrieval: Retrieval


@dataclass(frozen=True)
class NewKeyframe:
    """A keyframe row that is not in the database yet, and the stored blobs it points at."""

    row: Keyframe
    blobs: tuple[StoredBlob, ...]


def add(session: Session, keyframe: NewKeyframe, *, now: float) -> None:
    """Add a keyframe to the store."""
    for blob in keyframe.blobs:
        rows.record_blob(session, blob, now=now)
    session.add(keyframe.row)


def add_for_reference(
    session: Session, reference_id: str, keyframe: NewKeyframe, *, now: float
) -> None:
    """Add a reference's keyframe, unless another worker has or the reference was deleted."""
    reference = session.get(Reference, reference_id, with_for_update=True)
    existing = select(Keyframe.id).where(Keyframe.reference_id == reference_id)
    if reference is None or session.scalar(existing) is not None:
        return
    keyframe.row.reference_id = reference_id
    add(session, keyframe, now=now)


def bank(session: Session, shot: Shot) -> list[BankEntry]:
    """Keyframes of earlier shots, in the versions shown, and of the story's references."""
    return _entries(
        session,
        _entry_columns().where(
            Keyframe.story_id == shot.story_id,
            or_(
                Keyframe.reference_id.is_not(None),
                and_(Shot.index < shot.index, Shot.version == Keyframe.version),
            ),
        ),
    )


def of_shot(session: Session, shot: Shot, version: int) -> list[BankEntry]:
    """Keyframes already taken from this version of the shot."""
    columns = _entry_columns()
    query = columns.where(Keyframe.shot_id == shot.id, Keyframe.version == version)
    return _entries(session, query)


def references_without_keyframe(session: Session, story_id: str) -> list[Reference]:
    """References of the story for which no worker has made a keyframe yet."""
    query = (
        select(Reference)
        .outerjoin(Keyframe, Keyframe.reference_id == Reference.id)
        .where(Reference.story_id == story_id, Keyframe.id.is_(None))
        .order_by(Reference.created_at, Reference.id)
    )
    return list(session.scalars(query))


def retrieved(session: Session, segment_id: str) -> list[RetrievedEntry]:
    """What the segment read, best first; empty until its first chunk is committed."""
    query = (
        _entry_columns()
        .add_columns(Retrieval)
        .join(Retrieval, Retrieval.keyframe_id == Keyframe.id)
        .where(Retrieval.segment_id == segment_id)
        .order_by(Retrieval.rank)
    )
    return [RetrievedEntry(BankEntry(*row[:3]), row[3]) for row in session.execute(query)]


def readers_of_old_versions(session: Session, source: Shot) -> list[Shot]:
    """Later shots whose shown version read a keyframe of a version of `source` not shown now."""
    readers = (
        select(Segment.shot_id)
        .join(Retrieval, Retrieval.segment_id == Segment.id)
        .join(Keyframe, Keyframe.id == Retrieval.keyframe_id)
        .join(Shot, Shot.id == Segment.shot_id)
        .where(
            Keyframe.shot_id == source.id,
            Keyframe.version != source.version,
            Segment.version == Shot.version,
        )
    )
    query = select(Shot).where(Shot.id.in_(readers), Shot.index > source.index)
    return list(session.scalars(query.order_by(Shot.index)))


def _entry_columns() -> Select[Keyframe, int, Reference]:
    return (
        select(Keyframe, Shot.index, Reference)
        .select_from(Keyframe)
        .outerjoin(Shot, Shot.id == Keyframe.shot_id)
        .outerjoin(Reference, Reference.id == Keyframe.reference_id)
    )


def _entries(session: Session, query: Select[Keyframe, int, Reference]) -> list[BankEntry]:
    return [BankEntry(*row) for row in session.execute(query)]
