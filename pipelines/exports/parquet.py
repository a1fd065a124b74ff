"""Parquet: `shots/` and `scenes/`, two flat tables with one file per part of the snapshot."""

from __future__ import annotations

import pyarrow as pa

from pipelines.exports.rows import SCENE_ROWS, SHOT_ROWS, scene_row, shot_rows
from pipelines.exports.snapshot import Snapshot
from pipelines.storage.parallel import map_ahead
from pipelines.storage.store import Store

PARTS_AHEAD = 4


def export_parquet(snapshot: Snapshot, target: Store) -> None:
    """Write the tables, except the files that an interrupted export has finished."""
    done = set(target.keys("scenes", ".parquet"))

    def write(part: tuple[int, int]) -> None:
        number, place = part
        name = f"part-{number:05d}.parquet"
        if f"scenes/{name}" in done:  # the last of the two to be written
            return
        scenes = list(snapshot.scenes(place))
        shots = [row for scene in scenes for row in shot_rows(scene, snapshot.store)]
        target.write_table(f"shots/{name}", pa.Table.from_pylist(shots, schema=SHOT_ROWS))
        rows = [scene_row(scene) for scene in scenes]
        target.write_table(f"scenes/{name}", pa.Table.from_pylist(rows, schema=SCENE_ROWS))

    for _ in map_ahead(write, enumerate(snapshot.places), ahead=PARTS_AHEAD):
        pass
