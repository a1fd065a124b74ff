"""What the graphs on Ray Data share: blocks of work, and pools of actors that follow a cluster.

Knows nothing about what the rows hold or what an actor does with them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa
import ray
import ray.data
from ray.data.read_api import from_blocks

from pipelines.curation.config import ResourceConfig
from pipelines.curation.spool import ShardSpool
from pipelines.storage.shared_paths import SharedPaths

Operator = TypeVar("Operator")

MAX_BLOCKS = 4096
"""Enough for a cluster that grows to hundreds of actors; the driver keeps 90 KiB for each."""
ROWS_IN_MEMORY = 1_000_000


def set_up_ray_data() -> None:
    """Set what every later dataset of this process inherits."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # progress is reported per phase
    # A long video may take hours without being stuck: each of its ranges has its own deadline.
    context.execution_no_progress_timeout_s = -1
    # Ray Data's own exception would reach the driver without its cause.
    context.raise_original_map_exception = True
    for name in ("exceptions", "_internal.execution.streaming_executor_state"):
        logging.getLogger(f"ray.data.{name}").addFilter(_is_no_error)  # the command shows them


def _is_no_error(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR


def blocks_of(spool: ShardSpool) -> ray.data.Dataset:
    """Return a dataset with enough blocks that actors which join late still find work; the rows of
    a block belong to one shard."""
    size = max(1, -(-len(spool) // MAX_BLOCKS))
    blocks = (
        table.slice(start, size).combine_chunks()
        for _, table in spool.tables()
        for start in range(0, table.num_rows, size)
    )
    if len(spool) <= ROWS_IN_MEMORY:
        return from_blocks(list(blocks))
    # Never all of them in this process, at the price of a task for each.
    refs: Any = [ray.put(block) for block in blocks]
    return ray.data.from_arrow_refs(refs)


def blocks_of_rows(rows: Sequence[Mapping[str, object]], schema: pa.Schema) -> ray.data.Dataset:
    """Return a dataset with a block for each row, or for a few if there are many."""
    size = max(1, -(-len(rows) // MAX_BLOCKS))
    tables = [
        pa.Table.from_pylist(list(rows[i : i + size]), schema=schema)
        for i in range(0, max(1, len(rows)), size)
    ]
    return from_blocks(tables)  # from_arrow would run a task for each


def actor_pool(max_actors: int, *, cpus: float, gpus: float = 0.0) -> dict[str, Any]:
    """Return the arguments of `map_batches` for a pool that grows to `max_actors`.

    Ray Data adds actors while work waits and the cluster has room for them, also on nodes that
    join during the run; the one actor that has no room makes an autoscaler start a node.
    """
    return {
        "batch_format": "pyarrow",
        "num_cpus": cpus,
        "num_gpus": gpus or None,
        "compute": ray.data.ActorPoolStrategy(min_size=1, max_size=max(1, max_actors)),
    }


def on_nodes(operator: type[Operator], shared: SharedPaths) -> type[Operator]:
    """Return `operator` as a class that first checks that its node sees the paths of the run.

    An error in its constructor is raised by its first call: of an error in an actor's
    constructor, Ray keeps only the text.
    """

    class Checked(operator):  # type: ignore[valid-type,misc]
        def __init__(self, *args: object, **kwargs: object) -> None:
            self._failed: Exception | None = None
            try:
                shared.check()
                super().__init__(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - any error, and only for a moment
                self._failed = error

        def __call__(self, rows: pa.Table) -> Any:
            if self._failed is not None:
                raise self._failed
            return super().__call__(rows)

    Checked.__name__ = Checked.__qualname__ = operator.__name__
    return Checked


def max_decoding_actors(share: ResourceConfig, num_videos: int) -> int:
    """Return how many actors may decode `num_videos` videos, if the cluster has room for them."""
    return max(1, min(share.analyze_actors or num_videos, num_videos))


def fitting_cpus(cpus: float) -> float:
    """Return `cpus`, or all of the largest node's if it has fewer: else an actor would never start.

    A cluster without nodes is taken to start nodes that are large enough.
    """
    return min(cpus, max(_node_cpus(), default=cpus))


def children_per_long_video(share: ResourceConfig) -> int:
    """Return how many child processes decode a long video, limited to the CPUs of one node."""
    fitting = int(_largest_node_cpus() / share.analyze_cpus)
    return max(2, min(share.children_per_long_video, fitting))


def decoding_cpus(share: ResourceConfig, num_children: int) -> float:
    """Return the CPUs that an actor with `num_children` child processes reserves on its node.

    They leave room for the actor that embeds: on a single node, both have to run.
    """
    free = _largest_node_cpus() - share.embed_cpus
    return max(share.analyze_cpus, min(share.analyze_cpus * num_children, free))


def _largest_node_cpus() -> float:
    return max([1.0, *_node_cpus()])


def _node_cpus() -> list[float]:
    """Return the CPUs of each node that has some."""
    nodes = ray.nodes() if ray.is_initialized() else []
    cpus = [float(node["Resources"].get("CPU", 0.0)) for node in nodes if node["Alive"]]
    return [count for count in cpus if count]
