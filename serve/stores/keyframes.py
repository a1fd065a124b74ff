"""The shared keyframe store: which keyframes a shot may draw on, and which it drew on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, and_, or_, select
from sqlalchemy.orm import Session

from serve.errors import NotFoundError
from serve.stores import stories
from serve.stores.blobs import StoredBlob
from serve.stores.tables import Keyframe, Reference, Retrieval, Segment, Shot


@dataclass(frozen=True)
class BankEntry:
    """A keyframe row with what it stands for: a shot of the story, or a reference image."""

    keyframe: Keyframe
    shot_index: int | None
    reference: Reference | None


@dataclass(frozen=True)
class RetrievedEntry:
    """A bank entry as it entered a segment's context."""

    entry: BankEntry
    retrieval: Retrieval


@dataclass(frozen=True)
class MadeKeyframe:
    """A keyframe row that is not yet added, and the blobs it will point at."""

    row: Keyframe
    blobs: tuple[StoredBlob, ...]


def add(session: Session, made: MadeKeyframe, *, now: float) -> None:
    """Put a keyframe into the store."""
    for blob in made.blobs:
        stories.add_blob(session, blob, now=now)
    session.add(made.row)


def add_of_reference(
    session: Session, reference_id: str, made: MadeKeyframe, *, now: float
) -> None:
    """Put a reference's keyframe into the store, unless another worker did or it is gone."""
    reference = session.get(Reference, reference_id, with_for_update=True)
    known = select(Keyframe.id).where(Keyframe.reference_id == reference_id)
    if reference is None or session.scalar(known) is not None:
        return
    made.row.reference_id = reference_id
    add(session, made, now=now)


def get(session: Session, keyframe_id: str) -> Keyframe:
    """The keyframe; NotFoundError if unknown."""
    keyframe = session.get(Keyframe, keyframe_id)
    if keyframe is None:
        raise NotFoundError(f"No keyframe {keyframe_id!r}.")
    return keyframe


def bank(session: Session, shot: Shot) -> list[BankEntry]:
    """Keyframes of earlier shots, in the versions shown, and of the story's references."""
    rows = session.execute(
        _entries().where(
            Keyframe.story_id == shot.story_id,
            or_(
                Keyframe.reference_id.is_not(None),
                and_(Shot.index < shot.index, Shot.version == Keyframe.version),
            ),
        )
    )
    return [_entry(*row) for row in rows]


def of_shot(session: Session, shot: Shot, version: int) -> list[BankEntry]:
    """Keyframes already taken from this version of the shot."""
    rows = session.execute(
        _entries().where(Keyframe.shot_id == shot.id, Keyframe.version == version)
    )
    return [_entry(*row) for row in rows]


def missing(session: Session, story_id: str) -> list[Reference]:
    """References of which no worker has made a keyframe yet."""
    query = (
        select(Reference)
        .outerjoin(Keyframe, Keyframe.reference_id == Reference.id)
        .where(Reference.story_id == story_id, Keyframe.id.is_(None))
        .order_by(Reference.created_at, Reference.id)
    )
    return list(session.scalars(query))


def retrieved(session: Session, segment_id: str) -> list[RetrievedEntry]:
    """What the segment drew on, best first; empty until its first chunk is committed."""
    rows = session.execute(
        _entries(Retrieval)
        .join(Retrieval, Retrieval.keyframe_id == Keyframe.id)
        .where(Retrieval.segment_id == segment_id)
        .order_by(Retrieval.rank)
    )
    return [RetrievedEntry(_entry(*row[:3]), row[3]) for row in rows]


def drew_on(session: Session, source: Shot) -> list[Shot]:
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


def _entries(*more: Any) -> Select[Any]:
    return (
        select(Keyframe, Shot.index, Reference, *more)
        .select_from(Keyframe)
        .outerjoin(Shot, Shot.id == Keyframe.shot_id)
        .outerjoin(Reference, Reference.id == Keyframe.reference_id)
    )


def _entry(keyframe: Keyframe, shot_index: int | None, reference: Reference | None) -> BankEntry:
    return BankEntry(keyframe, shot_index, reference)
