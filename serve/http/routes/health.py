"""Whether the process lives, and whether the server can do its work."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from serve.http import problems
from serve.http.dependencies import Context
from serve.work import jobs

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", response_model=None)
def readyz(context: Context) -> dict[str, Any] | JSONResponse:
    """Database and blobs work, and a generator is there (or may start from zero: "cold")."""
    lease = context.config.lease
    with context.database.reading() as session:
        since = context.database.clock() - lease.duration_s
        num_workers = jobs.count_workers(session, since=since)
    context.blobs.check_writable()
    if num_workers:
        return {"status": "ready", "num_generators": num_workers}
    if context.config.scaling.min_replicas == 0:
        return {"status": "cold", "num_generators": 0}
    return problems.problem(503, "No generator is up yet; ask again.", headers={"Retry-After": "2"})
