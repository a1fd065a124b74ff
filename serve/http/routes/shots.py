"""/v1/shots and /v1/jobs: read, extend and regenerate shots, follow and cancel jobs."""

from __future__ import annotations

from fastapi import APIRouter
from sqlalchemy.orm import Session

from serve.http import presenters, schemas
from serve.http.dependencies import Context, Idempotent
from serve.http.problems import declare
from serve.stores import shots
from serve.work import jobs

router = APIRouter(prefix="/v1", tags=["shots"], responses=declare(404, 503))


@router.get("/shots/{shot_id}")
def get_shot(shot_id: str, context: Context) -> schemas.ShotResponse:
    """Read a shot, in the version that the film shows."""
    with context.database.reading() as session:
        return presenters.shot_response(session, shots.get(session, shot_id))


@router.post("/shots/{shot_id}/extend", status_code=202, responses=declare(409, 413, 422, 429, 507))
def extend_shot(
    shot_id: str, body: schemas.ExtendRequest, context: Context, request: Idempotent
) -> schemas.JobResponse:
    """Continue a shot with a new prompt. Returns the job that makes the new chunks."""

    def extend(session: Session, now: float) -> schemas.JobResponse:
        job = shots.extend(
            session,
            shot_id,
            prompt=body.prompt,
            num_chunks=body.num_chunks,
            max_queued_jobs=context.config.limits.max_queued_jobs,
            now=now,
        )
        return presenters.job_response(session, job)

    return request.once(body.model_dump_json().encode(), schemas.JobResponse, extend)


@router.post(
    "/shots/{shot_id}/regenerate", status_code=202, responses=declare(409, 413, 422, 429, 507)
)
def regenerate_shot(
    shot_id: str,
    context: Context,
    request: Idempotent,
    body: schemas.RegenerateRequest | None = None,
) -> schemas.JobResponse:
    """Make a new version of a shot; the film shows the old one until the new one is complete.

    Later shots that used the old version become stale, but they do not change.
    """
    settings = body or schemas.RegenerateRequest()

    def regenerate(session: Session, now: float) -> schemas.JobResponse:
        job = shots.regenerate(
            session,
            shot_id,
            prompt=settings.prompt,
            max_queued_jobs=context.config.limits.max_queued_jobs,
            now=now,
        )
        return presenters.job_response(session, job)

    return request.once(settings.model_dump_json().encode(), schemas.JobResponse, regenerate)


@router.get("/shots/{shot_id}/memory")
def get_memory(shot_id: str, context: Context) -> schemas.MemoryResponse:
    """Read the mode of a shot and the keyframes it was made from, with their scores."""
    with context.database.reading() as session:
        return presenters.memory_response(session, shots.get(session, shot_id))


@router.get("/jobs/{job_id}")
def get_job(job_id: str, context: Context) -> schemas.JobResponse:
    """Read the state and the progress of a job."""
    with context.database.reading() as session:
        return presenters.job_response(session, jobs.get(session, job_id))


@router.post("/jobs/{job_id}/cancel", responses=declare(409, 507))
def cancel_job(job_id: str, context: Context) -> schemas.JobResponse:
    """Cancel a job. Chunks that are finished stay in the film."""
    with context.database.writing() as session:
        job = jobs.cancel(session, job_id, now=context.database.clock())
        return presenters.job_response(session, job)
