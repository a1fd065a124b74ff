"""How many generators should run: queued chunk-seconds, bounded by the stories with work.

Chunks of one story are generated one after another, so more generators than stories with work
would idle. Reads the database; all it knows of Ray is how Ray Serve calls a policy.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pydantic import TypeAdapter
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fw_model.errors import FilmWeaverError
from serve.config import ScalingConfig
from serve.stores.address import StoreAddress
from serve.stores.database import Database
from serve.stores.tables import UNFINISHED, Job, Story, Usage

log = logging.getLogger(__name__)
MEASURED_CHUNKS = 200  # the latest chunks, whose costs are averaged
EWMA_WEIGHT = 0.1
READ_INTERVAL_S = 1.0


@dataclass(frozen=True)
class Queue:
    """Queued work: seconds for one generator, and the number of stories that have any."""

    chunk_seconds: float
    num_stories: int


def read_queue(session: Session, *, default_chunk_s: float) -> Queue:
    """Estimate the queued work from the recent cost of chunks of each frame size."""
    costs = _costs(session)
    average = sum(costs.values()) / len(costs) if costs else default_chunk_s
    queued = session.execute(
        select(Story.width, Story.height, func.sum(Job.num_chunks - Job.num_done))
        .join(Story, Story.id == Job.story_id)
        .where(Job.state.in_(UNFINISHED))
        .group_by(Story.width, Story.height)
    )
    seconds = sum(costs.get((w, h), average) * int(chunks) for w, h, chunks in queued)
    num_stories = session.scalar(
        select(func.count(Job.story_id.distinct())).where(Job.state.in_(UNFINISHED))
    )
    return Queue(chunk_seconds=seconds, num_stories=num_stories or 0)


def desired_replicas(queue: Queue, scaling: ScalingConfig) -> int:
    """Number of generators that finish the queue in drain_target_s without any of them idling."""
    needed = math.ceil(queue.chunk_seconds / scaling.drain_target_s)
    useful = min(needed, queue.num_stories)
    return max(scaling.min_replicas, min(useful, scaling.max_replicas))


class DownscaleDelay:
    """Follows a rising number at once and a falling one after `delay_s`."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._recent: deque[tuple[float, int]] = deque()

    def apply(self, count: int, *, now: float) -> int:
        """The highest number of the last `delay_s` seconds."""
        self._recent.append((now, count))
        while self._recent[0][0] < now - self._delay_s:
            self._recent.popleft()
        return max(count for _, count in self._recent)


class PolicyContext(Protocol):
    """The part of Ray Serve's AutoscalingContext that the policy reads."""

    target_num_replicas: int


class QueuePolicy:
    """The policy that Ray Serve's controller calls many times a second; it never blocks.

    A thread reads the queue, because a policy that waits for the database would stall the whole
    controller. The number of generators stays the same until the first reading.
    """

    def __init__(self, address: Mapping[str, object], scaling: Mapping[str, object]) -> None:
        self._address = TypeAdapter(StoreAddress).validate_python(address)
        self._scaling = ScalingConfig.model_validate(scaling)
        self._delay = DownscaleDelay(self._scaling.downscale_delay_s)
        self._queue: Queue | None = None
        self._stopped = threading.Event()
        threading.Thread(target=self._read, name="queue", daemon=True).start()

    def __call__(self, context: PolicyContext) -> tuple[int, dict[str, object]]:
        """Return the target number of replicas, and the state that Ray Serve keeps (none)."""
        queue = self._queue
        if queue is None:
            return context.target_num_replicas, {}
        desired = desired_replicas(queue, self._scaling)
        return self._delay.apply(desired, now=time.monotonic()), {}

    def stop(self) -> None:
        """End the reading thread."""
        self._stopped.set()

    def _read(self) -> None:
        database: Database | None = None
        while not self._stopped.is_set():
            try:
                database = database or self._address.open_database()
                with database.reading() as session:
                    self._queue = read_queue(session, default_chunk_s=self._scaling.default_chunk_s)
            except FilmWeaverError as error:
                log.warning("autoscaling keeps its last reading of the queue: %s", error)
            self._stopped.wait(READ_INTERVAL_S)


def _costs(session: Session) -> dict[tuple[int, int], float]:
    """Seconds per chunk for each frame size; the latest chunks weigh most."""
    query = select(Usage.width, Usage.height, Usage.seconds).order_by(Usage.created_at.desc())
    by_size: dict[tuple[int, int], list[float]] = defaultdict(list)
    for width, height, seconds in session.execute(query.limit(MEASURED_CHUNKS)):
        by_size[width, height].append(seconds)
    return {size: _ewma(list(reversed(seconds))) for size, seconds in by_size.items()}


def _ewma(values: list[float]) -> float:
    mean = values[0]
    for value in values[1:]:
        mean += EWMA_WEIGHT * (value - mean)
    return mean
