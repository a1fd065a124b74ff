"""Gives jobs to the actors that film them, one at a time each. Knows nothing about what they do."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import ray
from ray.actor import ActorHandle

from pipelines.evaluation.film_story import StoryFilmer
from pipelines.evaluation.jobs import StoryJob

logger = logging.getLogger(__name__)


def film_all(actors: Sequence[ActorHandle[StoryFilmer]], jobs: Sequence[StoryJob]) -> None:
    """Give every free actor the next job until all are done, then end the actors.

    Only actors that have started get jobs: if the cluster has no room for the rest, they do all the
    work. The first error ends the run.
    """
    started_s = time.perf_counter()
    waiting = iter(jobs)
    busy: dict[Any, ActorHandle[StoryFilmer]] = {  # by the reference of its current task
        actor.__ray_ready__.remote(): actor for actor in actors
    }
    num_done = 0
    try:
        while num_done < len(jobs):
            (ready,), _ = ray.wait([*busy], num_returns=1)
            done = ray.get(ready)
            actor = busy.pop(ready)
            if isinstance(done, StoryJob):  # otherwise the actor has just started
                num_done += 1
                _log_progress(done, num_done, len(jobs), time.perf_counter() - started_s)
            if (job := next(waiting, None)) is not None:
                busy[actor.film.remote(job)] = actor
    finally:
        for actor in actors:
            ray.kill(actor)


def _log_progress(job: StoryJob, num_done: int, num_jobs: int, elapsed_s: float) -> None:
    left_s = elapsed_s / num_done * (num_jobs - num_done)
    logger.info(
        "film %d/%d: %s of story %d (%.0f s, %.0f s to go)",
        num_done, num_jobs, job.variant, job.seed, elapsed_s, left_s,
    )  # fmt: skip
