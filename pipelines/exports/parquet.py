"""Parquet: `shots/` and `scenes/`, two flat tables with one file per part of the snapshot."""

from __future__ import annotations

import pyarrow as pa

from pipelines.exports.rows import SCENE_ROWS, SHOT_ROWS, scene_row, shot_rows
from pipelines.exports.snapshot import Snapshot
from pipelines.storage.store import Store


def export_parquet(snapshot: Snapshot, target: Store) -> None:
    """Write the tables, except the files that an interrupted export has finished."""
    for place in snapshot.places:
        name = f"part-{place:05d}.parquet"
        if target.exists(f"scenes/{name}"):  # the last of the two to be written
            continue
        scenes = list(snapshot.scenes(place))
        shots = [row for scene in scenes for row in shot_rows(scene, snapshot.store)]
        target.write_table(f"shots/{name}", pa.Table.from_pylist(shots, schema=SHOT_ROWS))
        rows = [scene_row(scene) for scene in scenes]
        target.write_table(f"scenes/{name}", pa.Table.from_pylist(rows, schema=SCENE_ROWS))
