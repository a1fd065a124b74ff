"""How many generators the queue is worth: queued chunk-seconds, bounded by runnable stories.

Chunks of one story are drawn one after another, so more generators than stories with work would
idle. Knows Ray only by the shape of its policy call.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fw_model.errors import FilmWeaverError
from serve.config import ScalingConfig
from serve.stores.address import StoreAddress
from serve.stores.database import Database
from serve.stores.stories import LIVE
from serve.stores.tables import Job, Story, Usage

log = logging.getLogger(__name__)
MEASURED_CHUNKS = 200  # of the latest, from which costs are taken
EWMA_WEIGHT = 0.1
READ_EVERY_S = 1.0


@dataclass(frozen=True)
class Queue:
    """Work that waits: seconds of one generator, and stories that have any."""

    chunk_seconds: float
    num_stories: int


def read_queue(session: Session, *, default_chunk_s: float) -> Queue:
    """Estimate the work that waits from what chunks of each frame size cost lately."""
    costs = _costs(session)
    average = sum(costs.values()) / len(costs) if costs else default_chunk_s
    waiting = session.execute(
        select(Story.width, Story.height, func.sum(Job.num_chunks - Job.num_done))
        .join(Story, Story.id == Job.story_id)
        .where(Job.state.in_(LIVE))
        .group_by(Story.width, Story.height)
    )
    seconds = sum(costs.get((w, h), average) * int(chunks) for w, h, chunks in waiting)
    num_stories = session.scalar(
        select(func.count(Job.story_id.distinct())).where(Job.state.in_(LIVE))
    )
    return Queue(chunk_seconds=seconds, num_stories=num_stories or 0)


def desired_replicas(queue: Queue, scaling: ScalingConfig) -> int:
    """Generators that would work the queue off in drain_target_s, none of them idle."""
    wanted = math.ceil(queue.chunk_seconds / scaling.drain_target_s)
    useful = min(wanted, queue.num_stories)
    return max(scaling.min_replicas, min(useful, scaling.max_replicas))


class SlowToShrink:
    """Follows a rising wish at once and a falling one only after `delay_s`."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._wishes: deque[tuple[float, int]] = deque()

    def follow(self, wish: int, *, now: float) -> int:
        """The highest wish of the last `delay_s` seconds."""
        self._wishes.append((now, wish))
        while self._wishes[0][0] < now - self._delay_s:
            self._wishes.popleft()
        return max(count for _, count in self._wishes)


class QueuePolicy:
    """What Ray Serve's controller asks, many times a second; it never waits for the database.

    A thread keeps the newest reading. Until there is one, and while the database is away, the
    number of generators stays what it is: a policy that blocks would stall the whole controller.
    """

    def __init__(self, address: dict[str, Any], scaling: dict[str, Any]) -> None:
        self._address = StoreAddress(**address)
        self._scaling = ScalingConfig.model_validate(scaling)
        self._shrink = SlowToShrink(self._scaling.downscale_delay_s)
        self._queue: Queue | None = None
        self._stopped = threading.Event()
        threading.Thread(target=self._read, name="queue", daemon=True).start()

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """Ray Serve's AutoscalingContext -> (target, state to keep)."""
        queue = self._queue
        if queue is None:
            return context.target_num_replicas, {}
        wish = desired_replicas(queue, self._scaling)
        return self._shrink.follow(wish, now=time.monotonic()), {}

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
                log.warning("autoscaling holds: %s", error)
            self._stopped.wait(READ_EVERY_S)


def _costs(session: Session) -> dict[tuple[int, int], float]:
    """Seconds of a chunk by frame size, the latest counting most."""
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
