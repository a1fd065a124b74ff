"""/v1/shots and /v1/jobs: extend, make again, look into the memory, follow and cancel work."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from serve.http import presenters, schemas
from serve.http.dependencies import Context, KeyHeader, idempotency_key
from serve.stores import idempotency, shots
from serve.work import jobs

router = APIRouter(prefix="/v1", tags=["shots"])


@router.get("/shots/{shot_id}")
def get_shot(shot_id: str, context: Context) -> schemas.ShotResponse:
    """A shot in the version that is shown."""
    with context.database.reading() as session:
        return presenters.shot_response(session, shots.get(session, shot_id))


@router.post("/shots/{shot_id}/extend", status_code=202, response_model=schemas.JobResponse)
def extend_shot(
    shot_id: str,
    body: schemas.ExtendRequest,
    request: Request,
    context: Context,
    key: KeyHeader = None,
) -> Any:
    """Go on with a shot under a prompt of its own."""
    once = idempotency_key(request, key, body.model_dump_json().encode())
    with context.database.writing() as session:
        now = context.database.clock()

        def make() -> dict[str, Any]:
            job = shots.extend(
                session,
                shot_id,
                prompt=body.prompt,
                num_chunks=body.num_chunks,
                max_queued_jobs=context.config.limits.max_queued_jobs,
                now=now,
            )
            return presenters.job_response(session, job).model_dump()

        return idempotency.once(session, once, make, now=now)


@router.post("/shots/{shot_id}/regenerate", status_code=202, response_model=schemas.JobResponse)
def regenerate_shot(
    shot_id: str,
    request: Request,
    context: Context,
    body: schemas.RegenerateRequest | None = None,
    key: KeyHeader = None,
) -> Any:
    """Make a shot again; later shots that drew on it are flagged stale, not changed."""
    wanted = body or schemas.RegenerateRequest()
    once = idempotency_key(request, key, wanted.model_dump_json().encode())
    with context.database.writing() as session:
        now = context.database.clock()

        def make() -> dict[str, Any]:
            job = shots.regenerate(
                session,
                shot_id,
                prompt=wanted.prompt,
                max_queued_jobs=context.config.limits.max_queued_jobs,
                now=now,
            )
            return presenters.job_response(session, job).model_dump()

        return idempotency.once(session, once, make, now=now)


@router.get("/shots/{shot_id}/memory")
def get_memory(shot_id: str, context: Context) -> schemas.MemoryResponse:
    """Which keyframes a shot was made from, with their scores, and in which mode."""
    with context.database.reading() as session:
        return presenters.memory_response(session, shots.get(session, shot_id))


@router.get("/jobs/{job_id}")
def get_job(job_id: str, context: Context) -> schemas.JobResponse:
    """A job and how far it is."""
    with context.database.reading() as session:
        return presenters.job_response(session, jobs.get(session, job_id))


@router.post("/jobs/{job_id}/cancel")
def cancel_job(job_id: str, context: Context) -> schemas.JobResponse:
    """End a job; what it has finished stays in the film."""
    with context.database.writing() as session:
        job = jobs.cancel(session, job_id, now=context.database.clock())
        return presenters.job_response(session, job)
