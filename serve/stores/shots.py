"""Shots, their segments, and the jobs that make them, in the caller's transaction.

Jobs of a story run one after another in the order of `position`, so the keyframes that a shot may
read are settled when its first chunk begins.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from serve.errors import BusyError, ConflictError
from serve.stores import events, rows, stories
from serve.stores.tables import UNFINISHED, Chunk, Job, ReferenceUse, Segment, Shot, Story


@dataclass(frozen=True)
class ShotSettings:
    """What a new shot is made with besides its prompt; None means the server's default."""

    top_k: int | None = None
    negative_prompt: str = ""
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    references: list[ReferenceUse] = field(default_factory=list)


def get(session: Session, shot_id: str) -> Shot:
    """The shot; NotFoundError if unknown."""
    return rows.get(session, Shot, shot_id)


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
    index = _count(session, Shot.story_id == story_id)
    shot = Shot(
        id=rows.new_id("shot"), story_id=story_id, index=index, created_at=now, **vars(settings)
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
    """Queue more chunks at the end of a shot; ConflictError if it has no chunk to continue."""
    story, shot = _lock(session, shot_id, max_queued_jobs=max_queued_jobs)
    version = _coming_version(session, shot)
    if not _count(session, Chunk.shot_id == shot.id, Chunk.version == version):
        raise ConflictError("The shot has no chunk to extend; regenerate it first.")
    segment = _add_segment(session, shot, version=version, prompt=prompt, num_chunks=num_chunks)
    return _add_job(
        session, story, shot, kind="extend", version=version, segments=[segment], now=now
    )


def regenerate(
    session: Session, shot_id: str, *, prompt: str | None, max_queued_jobs: int, now: float
) -> Job:
    """Queue a new version of a shot; the current one is shown until the new one is complete."""
    story, shot = _lock(session, shot_id, max_queued_jobs=max_queued_jobs)
    if _coming_version(session, shot) != shot.version:
        raise ConflictError(
            "The shot is already being regenerated; wait for that job or cancel it."
        )
    shot.latest_version += 1
    new_segments = [
        _add_segment(
            session,
            shot,
            version=shot.latest_version,
            prompt=prompt if prompt is not None and number == 0 else segment.prompt,
            num_chunks=segment.num_chunks,
        )
        for number, segment in enumerate(segments(session, shot, shot.version))
    ]
    return _add_job(
        session,
        story,
        shot,
        kind="regenerate",
        version=shot.latest_version,
        segments=new_segments,
        now=now,
    )


def segments(session: Session, shot: Shot, version: int) -> list[Segment]:
    """The segments of one version, in order."""
    query = select(Segment).where(Segment.shot_id == shot.id, Segment.version == version)
    return list(session.scalars(query.order_by(Segment.index)))


def committed_chunks(session: Session, shot: Shot, version: int) -> list[Chunk]:
    """The committed chunks of one version, in order."""
    query = select(Chunk).where(
        Chunk.shot_id == shot.id, Chunk.version == version, Chunk.state == "done"
    )
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
    unfinished = _count(session, Job.state.in_(UNFINISHED))
    if unfinished >= max_queued_jobs:
        raise BusyError(
            f"{unfinished} jobs are unfinished and serving.limits.max_queued_jobs allows"
            f" {max_queued_jobs}; try again later.",
            retry_after_s=30,
        )


def _lock(session: Session, shot_id: str, *, max_queued_jobs: int) -> tuple[Story, Shot]:
    """A shot and its story, which is held until the transaction ends."""
    shot = get(session, shot_id)
    story = stories.get(session, shot.story_id, lock=True)
    _check_queue(session, max_queued_jobs)
    session.refresh(shot)
    return story, shot


def _coming_version(session: Session, shot: Shot) -> int:
    """The newest version if jobs still work on it, else the one shown."""
    query = select(Job.id).where(
        Job.shot_id == shot.id, Job.version == shot.latest_version, Job.state.in_(UNFINISHED)
    )
    is_in_work = session.scalars(query.limit(1)).first() is not None
    return shot.latest_version if is_in_work else shot.version


def _count(session: Session, *conditions: ColumnElement[bool]) -> int:
    """The number of rows that meet the conditions, all on one table."""
    return session.scalar(select(func.count()).where(*conditions)) or 0


def _add_segment(
    session: Session, shot: Shot, *, version: int, prompt: str, num_chunks: int
) -> Segment:
    index = _count(session, Segment.shot_id == shot.id, Segment.version == version)
    segment = Segment(
        id=rows.new_id("segment"),
        shot_id=shot.id,
        version=version,
        index=index,
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
    first = _count(session, Chunk.shot_id == shot.id, Chunk.version == version)
    job = Job(
        id=rows.new_id("job"),
        story_id=story.id,
        shot_id=shot.id,
        version=version,
        position=story.num_jobs,
        segment_id=segments[0].id if len(segments) == 1 else None,
        kind=kind,
        state="queued",
        first_chunk=first,
        num_chunks=sum(segment.num_chunks for segment in segments),
        created_at=now,
    )
    story.num_jobs += 1
    session.add(job)
    session.flush()
    segment_ids = [segment.id for segment in segments for _ in range(segment.num_chunks)]
    session.add_all(
        Chunk(
            id=rows.new_id("chunk"),
            story_id=story.id,
            shot_id=shot.id,
            segment_id=segment_id,
            job_id=job.id,
            version=version,
            index=first + number,
            state="pending",
            ready_at=now,
        )
        for number, segment_id in enumerate(segment_ids)
    )
    data: dict[str, str | int] = {"job_id": job.id, "shot_id": shot.id, "kind": kind}
    data |= {"shot": shot.index, "num_chunks": job.num_chunks}
    events.append(session, story.id, "job.queued", data, now=now)
    return job
