"""What the graphs of curation share: blocks of work, and pools of actors that fit a cluster.

Knows nothing about what the rows hold or what an actor does with them.
"""

from __future__ import annotations

from typing import Any

import ray
import ray.data

from pipelines.curation.config import ResourceConfig
from pipelines.curation.spool import ShardSpool

MIN_BLOCKS = 256
BLOCKS_PER_ACTOR = 128
MAX_BLOCKS = 8192


def blocks_of(spool: ShardSpool, *, num_actors: int) -> ray.data.Dataset:
    """Return a dataset with enough blocks that all actors end at about the same time; the rows of
    a block belong to one shard.

    No more than that: the driver keeps about 90 KiB per block until the run ends.
    """
    size = _rows_per_block(len(spool), num_actors)
    blocks: Any = [
        ray.put(table.slice(i, size).combine_chunks())
        for _, table in spool.tables()
        for i in range(0, table.num_rows, size)
    ]
    return ray.data.from_arrow_refs(blocks)


def _rows_per_block(num_rows: int, num_actors: int) -> int:
    num_blocks = min(MAX_BLOCKS, max(MIN_BLOCKS, BLOCKS_PER_ACTOR * num_actors))
    return max(1, -(-num_rows // num_blocks))


def actor_pool(max_actors: int, *, cpus: float, gpus: float = 0.0) -> dict[str, Any]:
    """Return the arguments of `map_batches` for a pool that grows to `max_actors`."""
    return {
        "batch_format": "pyarrow",
        "num_cpus": cpus,
        "num_gpus": gpus or None,
        "compute": ray.data.ActorPoolStrategy(min_size=1, max_size=max_actors),
    }


def num_decoding_actors(share: ResourceConfig, num_videos: int) -> int:
    """Return how many actors decode `num_videos` videos: one for every CPU unless set."""
    return max(1, min(share.analyze_actors or int(_cluster_cpus()), num_videos))


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


def _cluster_cpus() -> float:
    return float(ray.cluster_resources().get("CPU", 1)) if ray.is_initialized() else 1.0


def _largest_node_cpus() -> float:
    nodes = ray.nodes() if ray.is_initialized() else []
    return max([1.0, *(node["Resources"].get("CPU", 0.0) for node in nodes if node["Alive"])])
