"""Flat rows of exported scenes and shots: one row holds everything known about one of them.

Addresses of media are absolute, so they can be read from anywhere.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from fw_model.schemas.curated import CLIP_FIELDS, ENTITY, KEYFRAME, MEASURED_SHOT_FIELDS
from fw_model.schemas.curated_rows import KeyframeRow
from pipelines.exports.snapshot import CuratedScene
from pipelines.storage.byte_ranges import ByteRange
from pipelines.storage.store import Store

_LEFT_OUT = ("index", "transition_in", "fingerprint", "colours", "keyframes", "embedding")

EXPORTED_KEYFRAME = pa.struct(
    [
        *KEYFRAME,
        # The bytes of the file at `uri` that are the JPEG; null if all of them are.
        pa.field("offset", pa.int64()),
        pa.field("length", pa.int64()),
    ]
)

SHOT_ROWS = pa.schema(
    [
        pa.field("scene_id", pa.string()),
        pa.field("position", pa.int32()),  # in the scene, from 0
        pa.field("video_id", pa.string()),
        pa.field("uri", pa.string()),  # of the source video
        # Frames of the source; the content span leaves out transitions, as a shot's own file does.
        *[field for field in MEASURED_SHOT_FIELDS if field.name not in _LEFT_OUT],
        pa.field("text", pa.string()),
        pa.field("entity_ids", pa.list_(pa.string())),
        pa.field("framing", pa.string()),
        pa.field("entities", pa.list_(ENTITY)),  # of the whole scene
        pa.field("keyframes", pa.list_(EXPORTED_KEYFRAME)),
        *CLIP_FIELDS,
        pa.field("embedding", pa.list_(pa.float32())),
    ]
)

SCENE_ROWS = pa.schema(
    [
        pa.field("scene_id", pa.string()),
        pa.field("video_id", pa.string()),
        pa.field("uri", pa.string()),
        pa.field("num_shots", pa.int32()),
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
        pa.field("duration_s", pa.float64()),
        pa.field("style", pa.string()),
        pa.field("entities", pa.list_(ENTITY)),
        pa.field("shot_ids", pa.list_(pa.string())),
        pa.field("texts", pa.list_(pa.string())),
        pa.field("min_link_similarity", pa.float32()),
        pa.field("mean_similarity", pa.float32()),
        pa.field("captioner", pa.string()),
        pa.field("model", pa.string()),
        pa.field("prompt_version", pa.string()),
    ]
)


def shot_rows(scene: CuratedScene, store: Store) -> list[dict[str, Any]]:
    """Return a row of SHOT_ROWS for each shot of a scene, whose media are in `store`."""
    return [_shot_row(scene, position, store) for position in range(len(scene.shots))]


def _shot_row(scene: CuratedScene, position: int, store: Store) -> dict[str, Any]:
    shot = scene.shots[position]
    known = {**shot.measured, **{name: shot.said[name] for name in ("text", "entity_ids")}}
    clip = shot.measured.get("clip_uri")
    known |= {
        "scene_id": scene.scene["scene_id"],
        "position": position,
        "framing": shot.said["framing"],
        "entities": scene.caption["entities"],
        "keyframes": [_keyframe(keyframe, store) for keyframe in shot.measured["keyframes"]],
        "clip_uri": store.address(clip) if clip else None,
    }
    return {name: known.get(name) for name in SHOT_ROWS.names}


def _keyframe(keyframe: KeyframeRow, store: Store) -> dict[str, Any]:
    file, offset, length = ByteRange.parse(keyframe["uri"])
    place = {"offset": None if length is None else offset, "length": length}
    return {**keyframe, "uri": store.address(file), **place}


def scene_row(scene: CuratedScene) -> dict[str, Any]:
    """Return the row of SCENE_ROWS of a scene."""
    known = {
        **scene.caption,
        **scene.scene,
        "num_shots": len(scene.shots),
        "shot_ids": [shot.said["shot_id"] for shot in scene.shots],
        "texts": [shot.said["text"] for shot in scene.shots],
    }
    return {name: known[name] for name in SCENE_ROWS.names}
