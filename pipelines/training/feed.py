"""Batches from Ray Data: an actor reads and packs them, in the order of the plan.

A row is what one rank trains on in one step. Rows stay in order and are dealt out in turn, so rank
r gets every world_size-th row, which is what the plan gives it. The worker checks that, because
with a wrong order training would continue without an error. Knows nothing about the graph.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import pyarrow as pa
import ray.data
from numpy.typing import NDArray

from fw_model.errors import DataError
from fw_model.training.data.batch import Batch
from pipelines.training.job import TrainJob

FEED = pa.schema([("step", pa.int64()), ("rank", pa.int64()), ("batches", pa.large_binary())])


class FeedRow(TypedDict):
    """A row of FEED: the micro-batches of each group of a step, pickled."""

    step: int
    rank: int
    batches: bytes


class ReadBatches:
    """Ray Data actor: row number -> FEED, 1:1."""

    def __init__(self, job: TrainJob, first_step: int) -> None:
        data = job.open_data()
        plan = job.plan(data)
        ranks = range(job.config.num_workers)
        self._first_step = first_step
        self._num_steps = plan.num_steps
        self._feeds = [job.local_feed(data, plan, rank, len(ranks)) for rank in ranks]

    def __call__(self, rows: dict[str, NDArray[np.int64]]) -> pa.Table:
        return pa.Table.from_pylist([self._row(int(n)) for n in rows["id"]], schema=FEED)

    def _row(self, number: int) -> FeedRow:
        step, rank = divmod(number, len(self._feeds))
        step += self._first_step
        batches = pack(self._feeds[rank].read(step)) if step < self._num_steps else b""
        return {"step": step, "rank": rank, "batches": batches}


@dataclass(frozen=True)
class RayDataFeed:
    """A rank's batches from its shard of the stream."""

    shard: ray.data.DataIterator
    rank: int
    num_steps: int

    def steps(self, start: int) -> Iterator[list[list[Batch]]]:
        """Yield, from step `start` on, the micro-batches of each group of the step."""
        expected = start
        if start >= self.num_steps:
            return
        for rows in self.shard.iter_batches(batch_size=1, prefetch_batches=2):
            step, rank = int(rows["step"][0]), int(rows["rank"][0])
            if step < start:
                continue  # the stream began at an older checkpoint
            if (step, rank) != (expected, self.rank):
                raise DataError(
                    f"The feed gave worker {self.rank} the rows of step {step}, worker {rank}, "
                    f"instead of step {expected}; set training.feed=local and report this."
                )
            expected += 1
            yield unpack(rows["batches"][0])
            if expected == self.num_steps:
                return
        raise DataError(f"The feed ended at step {expected} of {self.num_steps}.")


def pack(groups: list[list[Batch]]) -> bytes:
    """Return the batches of a step as bytes."""
    return pickle.dumps(groups, pickle.HIGHEST_PROTOCOL)


def unpack(data: bytes) -> list[list[Batch]]:
    """Return what was packed."""
    groups: list[list[Batch]] = pickle.loads(data)
    return groups
