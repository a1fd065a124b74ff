"""Batches by Ray Data: the plan from some step on, read and packed by tasks, in order.

A row is what one rank trains on in one step, packed as bytes; a block is a row. With the order kept
and rows dealt out in turn, rank r gets every world_size-th row: just what the plan gives it. The
worker checks that, because a wrong order would train in silence.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray.data
from ray.data import ExecutionOptions
from ray.data._internal.datasource.range_datasource import RangeDatasource

from fw_model.errors import DataError
from fw_model.loading.folders import load_record
from fw_model.training.checkpoint import TrainingState
from fw_model.training.data.batch import Batch
from fw_model.training.data.dataset import EncodedDataset
from fw_model.training.data.plan import TrainingPlan
from fw_model.training.local import RunFolder
from fw_model.training.loop import LocalFeed
from pipelines.encoding.dataset_store import local_dataset
from pipelines.training.job import TrainJob

_SNAPSHOT = "checkpoint_manager_snapshot.json"  # Ray Train's own record of its checkpoints
_NUM_READERS = 1  # reading mapped arrays is cheap beside a step
_READER_CPUS = 0.1  # and must fit beside the workers


_ROW = pa.schema([("step", pa.int64()), ("rank", pa.int64()), ("batches", pa.large_binary())])


def feed_options() -> ExecutionOptions:
    """Return the options that keep rows in order."""
    options = ExecutionOptions()
    options.preserve_order = True
    return options


def plan_stream(job: TrainJob) -> ray.data.Dataset:
    """Return the stream of rows that are still to be trained on; Ray Train asks at every start."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    world_size = job.config.num_workers
    first = resume_step(job.output)
    count = (job.config.num_steps - first) * world_size
    rows = ray.data.read_datasource(  # ray.data.range, whose tasks would reserve a whole core
        RangeDatasource(n=max(1, count), block_format="arrow", column_name="id"),
        ray_remote_args={"num_cpus": _READER_CPUS},
        concurrency=_NUM_READERS,  # each task at once would be a process to start
        override_num_blocks=max(1, count),
    )
    return rows.map_batches(  # actors, not tasks: a task's process would map the dataset anew
        PackRows,
        fn_constructor_args=(job, first),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=_NUM_READERS),
        num_cpus=_READER_CPUS,
    )


def resume_step(output: Path) -> int:
    """Return the step that the newest committed checkpoint goes on with; 0 if there is none."""
    state = committed_state(output)
    return 0 if state is None else state.step


def committed_state(output: Path) -> TrainingState | None:
    """Return the state of the newest checkpoint that Ray Train has committed, if any."""
    folder = RunFolder(output).train_state
    if not (folder / _SNAPSHOT).is_file():
        return None
    latest = json.loads((folder / _SNAPSHOT).read_text(encoding="utf-8"))[
        "latest_checkpoint_result"
    ]
    return None if latest is None else TrainingState.read(folder / latest["checkpoint_dir_name"])


class PackRows:
    """Ray Data actor: row number -> the packed batches of one rank in one step."""

    def __init__(self, job: TrainJob, first_step: int) -> None:
        config = job.config
        data = EncodedDataset(local_dataset(job.dataset))
        cache = load_record(job.model).cache
        plan = TrainingPlan(config, cache, data)
        self._first_step = first_step
        self._feeds = [
            LocalFeed(
                data, plan, rank, config.num_workers, config.micro_batch, cache.history_latents
            )
            for rank in range(config.num_workers)
        ]

    def __call__(self, rows: dict[str, Any]) -> pa.Table:
        packed: list[dict[str, Any]] = []
        for number in rows["id"].tolist():
            step = self._first_step + number // len(self._feeds)
            rank = number % len(self._feeds)
            feed = self._feeds[rank]
            data = pack(feed.read(step)) if step < feed.plan.num_steps else b""
            packed.append({"step": step, "rank": rank, "batches": data})
        return pa.Table.from_pylist(packed, schema=_ROW)


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
                continue  # the stream was laid out from an older checkpoint
            if (step, rank) != (expected, self.rank):
                raise DataError(
                    f"The feed gave worker {self.rank} the rows of step {step}, worker {rank}, "
                    f"instead of step {expected}; set training.feed=local and report this."
                )
            expected += 1
            yield unpack(rows["batches"][0])
            if expected == self.num_steps:
                return
        if expected < self.num_steps:
            raise DataError(f"The feed ended at step {expected} of {self.num_steps}.")


def pack(groups: list[list[Batch]]) -> bytes:
    """Return the batches of a step as bytes; `unpack` undoes it."""
    parts = [struct.pack("<I", len(groups))]
    for batches in groups:
        parts.append(struct.pack("<I", len(batches)))
        for batch in batches:
            data = batch.to_bytes()
            parts += [struct.pack("<Q", len(data)), data]
    return b"".join(parts)


def unpack(data: bytes) -> list[list[Batch]]:
    """Undo `pack`."""
    view = memoryview(data)
    (num_groups,), at = struct.unpack_from("<I", view), 4
    groups: list[list[Batch]] = []
    for _ in range(num_groups):
        (num_batches,), at = struct.unpack_from("<I", view, at), at + 4
        batches: list[Batch] = []
        for _ in range(num_batches):
            (size,), at = struct.unpack_from("<Q", view, at), at + 8
            batches.append(Batch.from_bytes(bytes(view[at : at + size])))
            at += size
        groups.append(batches)
    return groups
