"""Lance: `shots.lance` and `scenes.lance`, with the keyframes' JPEG bytes and embeddings of fixed
width, so that shots can be searched by vector and read at random. Each is written in one step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from itertools import islice
from typing import Any

import pyarrow as pa

from fw_model.errors import ConfigError, StorageError
from pipelines.exports.rows import SCENE_ROWS, SHOT_ROWS, scene_row, shot_rows
from pipelines.exports.snapshot import CuratedScene, Snapshot
from pipelines.storage.store import Store

ROWS_TOGETHER = 256


def check_lance() -> Any:
    """Return the library; ConfigError with the name of its package where it is missing."""
    try:
        return import_module("lance")
    except ImportError as error:
        raise ConfigError(
            "Exporting to Lance needs the package pylance: pip install 'filmweaver[lance]'."
        ) from error


def export_lance(snapshot: Snapshot, target: Store) -> None:
    """Write both datasets."""
    schema = _shot_schema(snapshot)
    shots = (
        row
        for scene, media in snapshot.with_media()
        for row in _shots(scene, media, snapshot.store)
    )
    _write(target.address("shots.lance"), schema, shots)
    _write(target.address("scenes.lance"), SCENE_ROWS, map(scene_row, snapshot.every_scene()))


def _shot_schema(snapshot: Snapshot) -> pa.Schema:
    """Return SHOT_ROWS with embeddings of fixed width and a column for the pictures."""
    embeddings = (shot.measured["embedding"] for s in snapshot.every_scene() for shot in s.shots)
    width = next((len(row) for row in embeddings if row is not None), 1)
    place = SHOT_ROWS.get_field_index("embedding")
    schema = SHOT_ROWS.set(place, pa.field("embedding", pa.list_(pa.float32(), width)))
    return schema.append(pa.field("keyframe_jpegs", pa.list_(pa.large_binary())))


def _shots(
    scene: CuratedScene, media: Mapping[str, bytes], store: Store
) -> Iterator[dict[str, Any]]:
    for shot, row in zip(scene.shots, shot_rows(scene, store), strict=True):
        jpegs = [media[keyframe["uri"]] for keyframe in shot.measured["keyframes"]]
        yield row | {"keyframe_jpegs": jpegs}


def _write(address: str, schema: pa.Schema, rows: Iterator[dict[str, Any]]) -> None:
    reader = pa.RecordBatchReader.from_batches(schema, _batches(schema, rows))
    try:
        check_lance().write_dataset(reader, address, schema=schema, mode="overwrite")
    except OSError as error:
        raise StorageError(f"Cannot write {address}: {error}.") from error


def _batches(schema: pa.Schema, rows: Iterator[dict[str, Any]]) -> Iterator[pa.RecordBatch]:
    while together := list(islice(rows, ROWS_TOGETHER)):
        yield pa.RecordBatch.from_pylist(together, schema=schema)
