"""Claims, leases, heartbeats and commits: many workers share the chunks and none is lost.

A worker claims the next chunk of a story under a lease and an epoch. It may commit only while its
epoch is the chunk's latest, so the commit of a worker that was presumed dead is refused. Therefore
a committed chunk is never lost, recomputed or replaced, and only the chunk in flight can be
computed twice. Works on the database alone: knows nothing of Ray, HTTP or the model.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, and_, case, delete, exists, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from serve.config import LeaseConfig
from serve.errors import ConflictError
from serve.stores import events, keyframes, rows, stories
from serve.stores.blobs import StoredBlob
from serve.stores.keyframes import NewKeyframe
from serve.stores.tables import (
    UNFINISHED,
    Chunk,
    Job,
    Retrieval,
    Segment,
    Shot,
    Story,
    Usage,
    Worker,
)

log = logging.getLogger(__name__)
MAX_RETRY_DELAY_S = 60.0


@dataclass(frozen=True)
class Claim:
    """The right to commit one chunk, valid while `epoch` is the chunk's latest."""

    chunk_id: str
    story_id: str
    shot_id: str
    job_id: str
    epoch: int
    version: int
    index: int


@dataclass(frozen=True)
class ChunkCommit:
    """Everything that one chunk adds to the database, in one transaction."""

    latents: StoredBlob
    fragment: StoredBlob
    num_frames: int
    mode: str
    seed: int
    seconds: float
    keyframes: Sequence[NewKeyframe]
    retrievals: Sequence[Retrieval]  # of the chunk's segment; empty once recorded


def claim(session: Session, worker_id: str, *, lease: LeaseConfig, now: float) -> Claim | None:
    """Claim the next chunk that can run, the worker's own stories first; None if there is none."""
    while (chunk := _next_chunk(session, worker_id, lease=lease, now=now)) is not None:
        if chunk.state == "running":
            log.warning("chunk %s: the lease of worker %s expired", chunk.id, chunk.worker_id)
            chunk.num_lost += 1
            if chunk.num_lost > lease.max_lost_leases:
                reason = f"{chunk.num_lost} workers died while generating chunk {chunk.index}"
                _end(session, session.get_one(Job, chunk.job_id), "failed", error=reason, now=now)
                continue
        return _start(session, chunk, worker_id, lease=lease, now=now)
    return None


def is_valid(session: Session, claim: Claim) -> bool:
    """Whether a commit under this claim would still be accepted."""
    return session.scalar(select(exists().where(*_claimed(claim)))) or False


def heartbeat(
    session: Session, claim: Claim, *, lease: LeaseConfig, step: int, num_steps: int, now: float
) -> bool:
    """Extend the lease and record the denoising step; False if the claim is lost."""
    lease_until = now + lease.duration_s
    return _update(session, claim, lease_until=lease_until, step=step, num_steps=num_steps)


def commit(session: Session, claim: Claim, result: ChunkCommit, *, now: float) -> bool:
    """Make the chunk part of its story, with keyframes and events; False if the claim is lost."""
    story = stories.find_locked(session, claim.story_id)
    if story is None:
        return False
    if not _update(
        session,
        claim,
        state="done",
        lease_until=None,
        latents_blob=result.latents.key,
        fragment_blob=result.fragment.key,
        num_frames=result.num_frames,
        mode=result.mode,
        seed=str(result.seed),
        committed_at=now,
    ):
        return False
    for blob in (result.latents, result.fragment):
        rows.record_blob(session, blob, now=now)
    for keyframe in result.keyframes:
        keyframes.add(session, keyframe, now=now)
    session.add_all(result.retrievals)
    session.add(
        Usage(
            chunk_id=claim.chunk_id,
            story_id=story.id,
            mode=result.mode,
            num_frames=result.num_frames,
            width=story.width,
            height=story.height,
            seconds=result.seconds,
            created_at=now,
        )
    )
    session.flush()
    _advance(session, claim, result, now=now)
    return True


def release(
    session: Session, claim: Claim, *, error: str | None, delay_s: float, now: float
) -> None:
    """Return a chunk to the queue for a retry after `delay_s`; `error` is shown on its job."""
    if stories.find_locked(session, claim.story_id) is None:
        return
    if _update(session, claim, state="pending", lease_until=None, ready_at=now + delay_s):
        session.execute(update(Job).where(Job.id == claim.job_id).values(error=error))


def fail(
    session: Session, claim: Claim, *, error: str, retry: bool, lease: LeaseConfig, now: float
) -> None:
    """Record that the chunk failed; retry it if `retry` and attempts are left, else end its job."""
    if stories.find_locked(session, claim.story_id) is None or not is_valid(session, claim):
        return
    chunk = session.get_one(Chunk, claim.chunk_id)
    chunk.num_errors += 1
    session.flush()
    if retry and chunk.num_errors < lease.max_attempts:
        delay = min(lease.retry_delay_s * 2 ** (chunk.num_errors - 1), MAX_RETRY_DELAY_S)
        release(session, claim, error=error, delay_s=delay, now=now)
        return
    _end(session, session.get_one(Job, claim.job_id), "failed", error=error, now=now)


def get(session: Session, job_id: str) -> Job:
    """The job; NotFoundError if unknown."""
    return rows.get(session, Job, job_id)


def cancel(session: Session, job_id: str, *, now: float) -> Job:
    """End a job at once; committed chunks stay, and the commit of one in flight will be refused."""
    job = get(session, job_id)
    stories.get(session, job.story_id, lock=True)
    session.refresh(job)
    if job.state == "cancelled":
        return job
    if job.state not in UNFINISHED:
        raise ConflictError(
            f"The job is already {job.state}; only a queued or running job can be cancelled."
        )
    _end(session, job, "cancelled", error=None, now=now)
    return job


def running_chunk(session: Session, job: Job) -> Chunk | None:
    """The chunk of a job that a worker is generating."""
    return session.scalars(
        select(Chunk).where(Chunk.job_id == job.id, Chunk.state == "running")
    ).first()


def record_alive(session: Session, worker_id: str, *, now: float) -> None:
    """Record that a worker is alive."""
    worker = session.get(Worker, worker_id)
    if worker is None:
        session.add(Worker(id=worker_id, started_at=now, seen_at=now))
    else:
        worker.seen_at = now


def count_workers(session: Session, *, since: float) -> int:
    """Number of workers that were alive after the time `since`."""
    query = select(func.count()).select_from(Worker).where(Worker.seen_at > since)
    return session.scalar(query) or 0


def _next_chunk(
    session: Session, worker_id: str, *, lease: LeaseConfig, now: float
) -> Chunk | None:
    """The first chunk that can run; its story is locked, as for every change to a chunk."""
    runnable = _runnable(worker_id, lease=lease, now=now)
    while True:
        story_ids = runnable.join(Story, Story.id == Chunk.story_id).with_only_columns(Story.id)
        story_id = session.scalar(story_ids.with_for_update(skip_locked=True, of=Story))
        if story_id is None:
            return None
        # Another worker may have claimed the chunk just before this one got the lock.
        chunk = session.scalars(runnable.where(Chunk.story_id == story_id)).first()
        if chunk is not None:
            return chunk


def _runnable(worker_id: str, *, lease: LeaseConfig, now: float) -> Select[Chunk]:
    earlier = aliased(Job)
    blocked = exists().where(
        earlier.story_id == Job.story_id,
        earlier.state.in_(UNFINISHED),
        earlier.position < Job.position,
    )
    ready = and_(
        Chunk.state == "pending",
        Chunk.ready_at <= now,
        or_(
            Chunk.worker_id.is_(None),
            Chunk.worker_id == worker_id,
            Chunk.ready_at <= now - lease.affinity_s,
        ),
    )
    abandoned = and_(Chunk.state == "running", Chunk.lease_until < now)
    return (
        select(Chunk)
        .join(Job, and_(Job.id == Chunk.job_id, Chunk.index == Job.first_chunk + Job.num_done))
        .where(Job.state.in_(UNFINISHED), or_(ready, abandoned), ~blocked)
        .order_by(case((Chunk.worker_id == worker_id, 0), else_=1), Job.created_at, Job.id)
        .limit(1)
        .execution_options(populate_existing=True)
    )


def _start(
    session: Session, chunk: Chunk, worker_id: str, *, lease: LeaseConfig, now: float
) -> Claim:
    chunk.state = "running"
    chunk.epoch += 1
    chunk.worker_id = worker_id
    chunk.lease_until = now + lease.duration_s
    chunk.step = 0
    session.flush()
    job = session.get_one(Job, chunk.job_id)
    data = {"job_id": job.id, "shot_id": job.shot_id}
    if job.state == "queued":
        job.state, job.started_at = "running", now
        events.append(session, job.story_id, "job.started", data, now=now)
    events.append(
        session,
        job.story_id,
        "chunk.started",
        data | {"chunk": chunk.index, "version": chunk.version, "epoch": chunk.epoch},
        now=now,
    )
    return Claim(
        chunk_id=chunk.id,
        story_id=chunk.story_id,
        shot_id=chunk.shot_id,
        job_id=chunk.job_id,
        epoch=chunk.epoch,
        version=chunk.version,
        index=chunk.index,
    )


def _claimed(claim: Claim) -> tuple[ColumnElement[bool], ...]:
    return (Chunk.id == claim.chunk_id, Chunk.epoch == claim.epoch, Chunk.state == "running")


def _update(session: Session, claim: Claim, **values: float | str | None) -> bool:
    """Change the claimed chunk; False if the claim is lost."""
    query = update(Chunk).where(*_claimed(claim)).values(**values).returning(Chunk.id)
    return session.scalar(query) is not None


def _advance(session: Session, claim: Claim, result: ChunkCommit, *, now: float) -> None:
    """Log the committed chunk, then make the next one ready or end the job."""
    job = session.get_one(Job, claim.job_id)
    session.refresh(job)
    job.num_done += 1
    job.error = None
    data: dict[str, str | int] = {"job_id": job.id, "shot_id": job.shot_id, "mode": result.mode}
    data |= {"chunk": claim.index, "version": claim.version, "num_frames": result.num_frames}
    events.append(session, job.story_id, "chunk.done", data, now=now)
    if job.num_done == job.num_chunks:
        _end(session, job, "done", error=None, now=now)
        return
    worker_id = session.scalar(select(Chunk.worker_id).where(Chunk.id == claim.chunk_id))
    session.execute(
        update(Chunk)
        .where(Chunk.job_id == job.id, Chunk.index == claim.index + 1)
        .values(ready_at=now, worker_id=worker_id)
    )


def _end(session: Session, job: Job, state: str, *, error: str | None, now: float) -> None:
    """End a job as done, failed or cancelled, with all consequences."""
    job.state, job.error, job.ended_at = state, error, now
    session.flush()
    data = {"job_id": job.id, "shot_id": job.shot_id}
    if error is not None:
        data["error"] = error
    events.append(session, job.story_id, f"job.{state}", data, now=now)
    if state == "done":
        if job.kind == "regenerate":
            _publish(session, job, now=now)
        return
    session.execute(delete(Chunk).where(Chunk.job_id == job.id, Chunk.state != "done"))
    if job.kind == "extend" and job.num_done == 0:
        session.execute(delete(Segment).where(Segment.id == job.segment_id))
    later = select(Job).where(
        Job.shot_id == job.shot_id,
        Job.version == job.version,
        Job.position > job.position,
        Job.state.in_(UNFINISHED),
    )
    next_job = session.scalars(later.order_by(Job.position)).first()
    if next_job is not None:  # ending it cancels those after it
        outcome = "failed" if state == "failed" else "was cancelled"
        reason = f"an earlier part of the shot {outcome}"
        _end(session, next_job, "cancelled", error=reason, now=now)


def _publish(session: Session, job: Job, *, now: float) -> None:
    """Show the version that a job made, and flag later shots that read the old one as stale."""
    shot = session.get_one(Shot, job.shot_id)
    shot.version, shot.stale = job.version, False
    session.flush()
    for later in keyframes.readers_of_old_versions(session, shot):
        later.stale = True
        data = {"shot_id": later.id, "because_of": shot.id}
        events.append(session, job.story_id, "shot.stale", data, now=now)
    session.flush()
