"""How many blocks a dataset of work has: what Ray Data hands out and remembers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import ray.data

LEAST_BLOCKS = 256
BLOCKS_PER_ACTOR = 128


def blocks_of(
    rows: Sequence[Mapping[str, Any]], schema: pa.Schema, *, num_actors: int
) -> ray.data.Dataset:
    """Return a dataset in blocks: so many that all actors end at about the same time, and no more,
    for each costs the driver some 90 KiB until the run ends."""
    size = max(1, -(-len(rows) // max(LEAST_BLOCKS, BLOCKS_PER_ACTOR * num_actors)))
    tables = [
        pa.Table.from_pylist(list(rows[i : i + size]), schema=schema)
        for i in range(0, max(1, len(rows)), size)
    ]
    return ray.data.from_arrow(tables)
