"""Shots, their segments, and the jobs that make them, in the caller's transaction.

Jobs of a story run one after another in the order of `position`, so what a shot may draw on is
settled when its first chunk begins.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from serve.errors import BusyError, ConflictError, NotFoundError
from serve.stores import events, stories
from serve.stores.tables import Chunk, Job, Segment, Shot, Story


@dataclass(frozen=True)
class ShotSettings:
    """What a new shot is made with, beside its prompt; None means the server's default."""

    top_k: int | None = None
    negative_prompt: str = ""
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    references: list[dict[str, Any]] = field(default_factory=list)  # [{reference_id, weight}]


def get(session: Session, shot_id: str) -> Shot:
    """The shot; NotFoundError if unknown."""
    shot = session.get(Shot, shot_id)
    if shot is None:
        raise NotFoundError(f"No shot {shot_id!r}.")
    return shot


def create(
    session: Session,
    story_id: str,
    *,
    prompt: str,
    num_chunks: int,
    settings: ShotSettings,
    max_queued_jobs: int,
    now: float,
) -> Job:
    """Add a shot at the end of the story and queue its chunks."""
    story = stories.get(session, story_id, lock=True)
    _check_queue(session, max_queued_jobs)
    last = session.scalar(select(func.max(Shot.index)).where(Shot.story_id == story_id))
    shot = Shot(
        id=stories.new_id("shot"),
        story_id=story_id,
        index=0 if last is None else last + 1,
        version=0,
        latest_version=0,
        stale=False,
        created_at=now,
        **vars(settings),
    )
    session.add(shot)
    session.flush()
    segment = _add_segment(session, shot, version=0, prompt=prompt, num_chunks=num_chunks)
    return _add_job(session, story, shot, kind="shot", version=0, segments=[segment], now=now)


def extend(
    session: Session,
    shot_id: str,
    *,
    prompt: str,
    num_chunks: int,
    max_queued_jobs: int,
    now: float,
) -> Job:
    """Queue more chunks at the end of a shot; ConflictError if it has none to go on from."""
    shot = get(session, shot_id)
    story = stories.get(session, shot.story_id, lock=True)
    _check_queue(session, max_queued_jobs)
    session.refresh(shot)
    version = shot.version
    if _live(session, shot, shot.latest_version):
        version = shot.latest_version  # it is being remade: go on from what will be shown
    if not _count_chunks(session, shot, version):
        raise ConflictError("The shot has no chunk to extend; make it again first.")
    segment = _add_segment(session, shot, version=version, prompt=prompt, num_chunks=num_chunks)
    return _add_job(
        session, story, shot, kind="extend", version=version, segments=[segment], now=now
    )


def regenerate(
    session: Session, shot_id: str, *, prompt: str | None, max_queued_jobs: int, now: float
) -> Job:
    """Queue a new version of a shot; the present one is shown until the new one is whole."""
    shot = get(session, shot_id)
    story = stories.get(session, shot.story_id, lock=True)
    _check_queue(session, max_queued_jobs)
    session.refresh(shot)
    if shot.latest_version != shot.version and _live(session, shot, shot.latest_version):
        raise ConflictError("The shot is already being made again; wait for it or cancel it.")
    old = segments(session, shot, shot.version)
    shot.latest_version += 1
    fresh = [
        _add_segment(
            session,
            shot,
            version=shot.latest_version,
            prompt=prompt if prompt is not None and number == 0 else segment.prompt,
            num_chunks=segment.num_chunks,
        )
        for number, segment in enumerate(old)
    ]
    return _add_job(
        session,
        story,
        shot,
        kind="regenerate",
        version=shot.latest_version,
        segments=fresh,
        now=now,
    )


def segments(session: Session, shot: Shot, version: int) -> list[Segment]:
    """The segments of one version, in order."""
    query = select(Segment).where(Segment.shot_id == shot.id, Segment.version == version)
    return list(session.scalars(query.order_by(Segment.index)))


def chunks(session: Session, shot_id: str, version: int, *, done_only: bool = True) -> list[Chunk]:
    """The chunks of one version, in order."""
    query = select(Chunk).where(Chunk.shot_id == shot_id, Chunk.version == version)
    if done_only:
        query = query.where(Chunk.state == "done")
    return list(session.scalars(query.order_by(Chunk.index)))


def film_chunks(session: Session, story_id: str) -> list[Chunk]:
    """Committed chunks of the versions shown, in the order of the film."""
    query = (
        select(Chunk)
        .join(Shot, Shot.id == Chunk.shot_id)
        .where(Chunk.story_id == story_id, Chunk.version == Shot.version, Chunk.state == "done")
        .order_by(Shot.index, Chunk.index)
    )
    return list(session.scalars(query))


def _check_queue(session: Session, max_queued_jobs: int) -> None:
    waiting = session.scalar(
        select(func.count()).select_from(Job).where(Job.state.in_(stories.LIVE))
    )
    if (waiting or 0) >= max_queued_jobs:
        raise BusyError(
            f"{waiting} jobs are waiting, the limit; ask again later.", retry_after_s=30
        )


def _live(session: Session, shot: Shot, version: int) -> bool:
    query = select(Job.id).where(
        Job.shot_id == shot.id, Job.version == version, Job.state.in_(stories.LIVE)
    )
    return session.scalars(query.limit(1)).first() is not None


def _count_chunks(session: Session, shot: Shot, version: int) -> int:
    query = select(func.count()).select_from(Chunk)
    count = session.scalar(query.where(Chunk.shot_id == shot.id, Chunk.version == version))
    return int(count or 0)


def _add_segment(
    session: Session, shot: Shot, *, version: int, prompt: str, num_chunks: int
) -> Segment:
    last = session.scalar(
        select(func.max(Segment.index)).where(
            Segment.shot_id == shot.id, Segment.version == version
        )
    )
    segment = Segment(
        id=stories.new_id("segment"),
        shot_id=shot.id,
        version=version,
        index=0 if last is None else last + 1,
        prompt=prompt,
        num_chunks=num_chunks,
    )
    session.add(segment)
    session.flush()
    return segment


def _add_job(
    session: Session,
    story: Story,
    shot: Shot,
    *,
    kind: str,
    version: int,
    segments: list[Segment],
    now: float,
) -> Job:
    first = _count_chunks(session, shot, version)
    job = Job(
        id=stories.new_id("job"),
        story_id=story.id,
        shot_id=shot.id,
        version=version,
        position=story.num_jobs,
        segment_id=segments[0].id if len(segments) == 1 else None,
        kind=kind,
        state="queued",
        first_chunk=first,
        num_chunks=sum(segment.num_chunks for segment in segments),
        num_done=0,
        created_at=now,
    )
    story.num_jobs += 1
    session.add(job)
    session.flush()
    owners = [segment.id for segment in segments for _ in range(segment.num_chunks)]
    session.add_all(
        Chunk(
            id=stories.new_id("chunk"),
            story_id=story.id,
            shot_id=shot.id,
            segment_id=owner,
            job_id=job.id,
            version=version,
            index=first + number,
            state="pending",
            epoch=0,
            ready_at=now,
            num_errors=0,
            num_lost=0,
            step=0,
            num_steps=0,
        )
        for number, owner in enumerate(owners)
    )
    data = {"job_id": job.id, "shot_id": shot.id, "shot": shot.index, "kind": kind}
    events.append(session, story.id, "job.queued", data | {"num_chunks": job.num_chunks}, now=now)
    return job
