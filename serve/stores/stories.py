"""Stories and the reference images given to them, in the caller's transaction."""

from __future__ import annotations

from sqlalchemy import delete, or_, select, tuple_
from sqlalchemy.orm import Session

from serve.errors import ConflictError, NotFoundError
from serve.stores import events, rows
from serve.stores.blobs import StoredBlob
from serve.stores.tables import UNFINISHED, Job, Reference, Shot, Story


def create(
    session: Session, *, title: str, seed: int, width: int, height: int, now: float
) -> Story:
    """Create an empty story; `width` and `height` in pixels."""
    story = Story(
        id=rows.new_id("story"), title=title, seed=seed, width=width, height=height, created_at=now
    )
    session.add(story)
    session.flush()
    events.append(session, story.id, "story.created", {"title": title}, now=now)
    return story


def get(session: Session, story_id: str, *, lock: bool = False) -> Story:
    """The story, NotFoundError if unknown; `lock` holds it until the transaction ends."""
    return rows.get(session, Story, story_id, lock=lock)


def find_locked(session: Session, story_id: str) -> Story | None:
    """The story, held until the transaction ends, or None if it was deleted."""
    return session.get(Story, story_id, with_for_update=True)


def page(session: Session, *, limit: int, after: str | None) -> list[Story]:
    """Stories, newest first, starting after the story with the id `after`."""
    query = select(Story).order_by(Story.created_at.desc(), Story.id.desc()).limit(limit)
    if after is not None:
        last = get(session, after)
        query = query.where(tuple_(Story.created_at, Story.id) < (last.created_at, last.id))
    return list(session.scalars(query))


def remove(session: Session, story_id: str) -> None:
    """Delete a story and everything in it; the commit of a chunk in flight will be refused."""
    get(session, story_id, lock=True)
    session.execute(delete(Story).where(Story.id == story_id))


def shots(session: Session, story_id: str) -> list[Shot]:
    """The shots of a story in order."""
    return list(session.scalars(select(Shot).where(Shot.story_id == story_id).order_by(Shot.index)))


def jobs(session: Session, story_id: str, *, unfinished_only: bool = False) -> list[Job]:
    """Jobs of a story, in the order in which they run."""
    query = select(Job).where(Job.story_id == story_id).order_by(Job.position)
    if unfinished_only:
        query = query.where(Job.state.in_(UNFINISHED))
    return list(session.scalars(query))


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
    """Add an image to a story; ConflictError if the story has one of the same name."""
    get(session, story_id, lock=True)
    same_name = select(Reference.id).where(Reference.story_id == story_id, Reference.name == name)
    if session.scalar(same_name) is not None:
        raise ConflictError(
            f"The story already has a reference named {name!r}; choose another name."
        )
    rows.record_blob(session, image, now=now)
    reference = Reference(
        id=rows.new_id("reference"),
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
    """The reference of this story with this id or name; NotFoundError if there is none."""
    query = select(Reference).where(
        Reference.story_id == story_id,
        or_(Reference.id == id_or_name, Reference.name == id_or_name),
    )
    reference = session.scalars(query).first()
    if reference is None:
        raise NotFoundError(f"The story has no reference {id_or_name!r}; add it first.")
    return reference
