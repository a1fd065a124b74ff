"""Whether the process is alive, and whether the server can do its work."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.exceptions import HTTPException

from serve.http.dependencies import Context
from serve.http.problems import declare
from serve.http.schemas import AliveResponse, ReadyResponse
from serve.work import jobs

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> AliveResponse:
    """Check that the process answers."""
    return AliveResponse(status="ok")


@router.get("/readyz", responses=declare(503, 507))
def readyz(context: Context) -> ReadyResponse:
    """Check that the database and the blobs work and that a generator is running.

    The status is "cold" if no generator is running but the first job will start one.
    """
    with context.database.reading() as session:
        since = context.database.clock() - context.config.lease.duration_s
        num_generators = jobs.count_workers(session, since=since)
    context.blobs.check_writable()
    if not num_generators and context.config.scaling.min_replicas > 0:
        headers = {"Retry-After": "2"}
        raise HTTPException(503, "No generator is running yet; try again soon.", headers)
    status = "ready" if num_generators else "cold"
    return ReadyResponse(status=status, num_generators=num_generators)
