"""Stories and the reference images given to them."""

from __future__ import annotations

import uuid

from sqlalchemy import delete, or_, select, tuple_
from sqlalchemy.orm import Session

from serve.errors import ConflictError, NotFoundError
from serve.stores import events
from serve.stores.blobs import StoredBlob
from serve.stores.tables import Blob, Job, Reference, Shot, Story

LIVE = ("queued", "running")


def new_id(kind: str) -> str:
    """A fresh id that tells what it names."""
    return f"{kind}_{uuid.uuid4().hex}"


def create(
    session: Session, *, title: str, seed: int, width: int, height: int, now: float
) -> Story:
    """Begin an empty story; `width` and `height` in pixels."""
    story = Story(
        id=new_id("story"),
        title=title,
        seed=seed,
        width=width,
        height=height,
        num_events=0,
        num_jobs=0,
        created_at=now,
    )
    session.add(story)
    session.flush()
    events.append(session, story.id, "story.created", {"title": title}, now=now)
    return story


def get(session: Session, story_id: str, *, lock: bool = False) -> Story:
    """The story; `lock` holds its row until the transaction ends, NotFoundError if unknown."""
    story = session.get(Story, story_id, with_for_update=lock or None)
    if story is None:
        raise NotFoundError(f"No story {story_id!r}.")
    return story


def find_locked(session: Session, story_id: str) -> Story | None:
    """The story, held until the transaction ends, or None if it was deleted."""
    return session.get(Story, story_id, with_for_update=True)


def page(session: Session, *, limit: int, after: str | None) -> list[Story]:
    """Stories, newest first, behind the story `after`."""
    query = select(Story).order_by(Story.created_at.desc(), Story.id.desc()).limit(limit)
    if after is not None:
        last = get(session, after)
        query = query.where(tuple_(Story.created_at, Story.id) < (last.created_at, last.id))
    return list(session.scalars(query))


def remove(session: Session, story_id: str) -> None:
    """Delete a story with all that is in it; a chunk in flight will find nothing to commit to."""
    get(session, story_id, lock=True)
    session.execute(delete(Story).where(Story.id == story_id))


def shots(session: Session, story_id: str) -> list[Shot]:
    """The shots of a story in order."""
    return list(session.scalars(select(Shot).where(Shot.story_id == story_id).order_by(Shot.index)))


def live_jobs(session: Session, story_id: str) -> list[Job]:
    """Jobs of a story that have not ended, in order."""
    query = select(Job).where(Job.story_id == story_id, Job.state.in_(LIVE)).order_by(Job.position)
    return list(session.scalars(query))


def jobs(session: Session, story_id: str) -> list[Job]:
    """All jobs of a story, in the order in which they run."""
    query = select(Job).where(Job.story_id == story_id).order_by(Job.position)
    return list(session.scalars(query))


def add_blob(session: Session, blob: StoredBlob, *, now: float) -> None:
    """Note that the database points at a stored blob."""
    if session.get(Blob, blob.key) is None:
        session.add(Blob(**vars(blob), created_at=now))
        session.flush()


def add_reference(
    session: Session,
    story_id: str,
    *,
    name: str,
    weight: float,
    pinned: bool,
    muted: bool,
    image: StoredBlob,
    now: float,
) -> Reference:
    """Give a story an image under a name of its own."""
    get(session, story_id, lock=True)
    taken = select(Reference.id).where(Reference.story_id == story_id, Reference.name == name)
    if session.scalar(taken) is not None:
        raise ConflictError(f"The story already has a reference named {name!r}.")
    add_blob(session, image, now=now)
    reference = Reference(
        id=new_id("reference"),
        story_id=story_id,
        name=name,
        weight=weight,
        pinned=pinned,
        muted=muted,
        image_blob=image.key,
        created_at=now,
    )
    session.add(reference)
    data = {"reference_id": reference.id, "name": name}
    events.append(session, story_id, "reference.added", data, now=now)
    return reference


def references(session: Session, story_id: str) -> list[Reference]:
    """References of a story, oldest first."""
    query = select(Reference).where(Reference.story_id == story_id)
    return list(session.scalars(query.order_by(Reference.created_at, Reference.id)))


def find_reference(session: Session, story_id: str, id_or_name: str) -> Reference:
    """A reference of this story by id or name; NotFoundError if it has none such."""
    query = select(Reference).where(
        Reference.story_id == story_id,
        or_(Reference.id == id_or_name, Reference.name == id_or_name),
    )
    reference = session.scalars(query).first()
    if reference is None:
        raise NotFoundError(f"The story has no reference {id_or_name!r}; add it first.")
    return reference
