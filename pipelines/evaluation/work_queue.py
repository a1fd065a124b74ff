"""Gives jobs to the actors that film them, one at a time each, and gives a lost job to another.

Knows nothing about what the actors do.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError

from pipelines.evaluation.film_story import StoryFilmer
from pipelines.evaluation.jobs import StoryJob
from pipelines.evaluation.run import EvaluationRun
from pipelines.storage.shared_paths import SharedPaths

logger = logging.getLogger(__name__)

ATTEMPTS = 4  # of a job whose actors die: it may be the reason


class FilmingActor:
    """A StoryFilmer on a node that sees the paths of the run.

    It is made by the first job: of an error in an actor's constructor, Ray keeps only the text.
    """

    def __init__(self, run: EvaluationRun, shared: SharedPaths) -> None:
        self._run, self._shared = run, shared
        self._filmer: StoryFilmer | None = None

    def film(self, job: StoryJob) -> StoryJob:
        """Film, score and store one story."""
        if self._filmer is None:
            self._shared.check()
            self._filmer = StoryFilmer(self._run)
        return self._filmer.film(job)


def film_all(
    start_actor: Callable[[], Any], jobs: Sequence[StoryJob], *, num_actors: int, replace: bool
) -> None:
    """Give every free actor the next job until all are done, then end the actors.

    Only actors that have started get jobs: if the cluster has no room for the rest, they do all the
    work. A job whose actor died goes to another, and with `replace` a new actor is started. The
    first error of a job ends the run.
    """
    queue = _Queue(start_actor, jobs, replace=replace)
    try:
        for _ in range(min(num_actors, len(jobs))):
            queue.add_actor()
        while queue.num_done < len(jobs):
            queue.wait()
    finally:
        queue.end()


class _Queue:
    """Jobs that wait, and what each actor is doing."""

    def __init__(
        self, start_actor: Callable[[], Any], jobs: Sequence[StoryJob], *, replace: bool
    ) -> None:
        self._start_actor, self._replace = start_actor, replace
        self._waiting = deque(jobs)
        self._busy: dict[Any, tuple[Any, StoryJob | None]] = {}  # by the reference of the task
        self._idle: list[Any] = []
        self._attempts: Counter[str] = Counter()
        self._num_jobs, self._started_s = len(jobs), time.perf_counter()
        self.num_done = 0

    def add_actor(self) -> None:
        """Start an actor; it gets a job once it is ready."""
        actor = self._start_actor()
        self._busy[actor.__ray_ready__.remote()] = (actor, None)

    def wait(self) -> None:
        """Wait until an actor has started, has finished a job, or has died."""
        (ready,), _ = ray.wait([*self._busy], num_returns=1)
        actor, job = self._busy.pop(ready)
        try:
            ray.get(ready)
        except RayActorError as error:
            self._lost(actor, job, error)
        else:
            if job is not None:
                self.num_done += 1
                self._log(job)
            self._idle.append(actor)
        while self._idle and self._waiting:
            actor, job = self._idle.pop(), self._waiting.popleft()
            self._busy[actor.film.remote(job)] = (actor, job)

    def _lost(self, actor: Any, job: StoryJob | None, error: RayActorError) -> None:
        ray.kill(actor)  # it may be alive and only out of reach
        name = job.result_key if job else ""
        self._attempts[name] += 1
        if not self._replace or self._attempts[name] >= ATTEMPTS:
            raise error
        logger.warning("an actor died (%s); its story is filmed again", _first_line(error))
        if job is not None:
            self._waiting.appendleft(job)
        self.add_actor()

    def _log(self, job: StoryJob) -> None:
        elapsed_s = time.perf_counter() - self._started_s
        left_s = elapsed_s / self.num_done * (self._num_jobs - self.num_done)
        logger.info(
            "film %d/%d: %s of story %d (%.0f s, %.0f s to go)",
            self.num_done, self._num_jobs, job.variant, job.seed, elapsed_s, left_s,
        )  # fmt: skip

    def end(self) -> None:
        """End all actors."""
        for actor in [*self._idle, *(actor for actor, _ in self._busy.values())]:
            ray.kill(actor)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
