"""The captioned shots of a curated folder, video by video: what there is to encode.

Knows nothing about frames or models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fw_model.errors import DataError
from fw_model.media.deinterlace import FieldOrder, as_field_order
from fw_model.schemas.curated_rows import CaptionedShotRow, CaptionRow, ShotRow, VideoRow
from pipelines.curation.analysis.bars import NO_BARS, Bars
from pipelines.curation.ledger.tables import has_column, read_published
from pipelines.encoding.shot_frames import ShotSpan, VideoSpans
from pipelines.storage.store import Store


def read_curated(curated: str | Path, *, crop_bars: bool = True) -> list[VideoSpans]:
    """Return the captioned shots of a curated folder by video, in a fixed order; `crop_bars`:
    without the black bars that curation found."""
    store = Store(str(curated))
    scenes = read_published(store, CaptionRow, ["scene_id", "status", "shots"])
    rates = read_published(store, VideoRow, ["video_id", "fps"])
    fps = {row["video_id"]: row["fps"] or 0.0 for row in rates}
    bars = _bars(store) if crop_bars else {}
    videos = spans_of_scenes(scenes, fps, bars, _field_orders(store))
    if not videos:
        raise DataError(
            f"{curated} has no captioned scene ({len(scenes)} scenes in all); look at its "
            "report.html for why scenes were rejected."
        )
    return videos


def _bars(store: Store) -> dict[str, Bars]:
    """Return the bars of the shots that have some; version 0.1 of curation stored none."""
    if not has_column(store, "shots", "crop"):
        return {}
    rows = read_published(store, ShotRow, ["shot_id", "crop"])
    return {row["shot_id"]: Bars(**row["crop"]) for row in rows if row["crop"] is not None}


def _field_orders(store: Store) -> dict[str, FieldOrder]:
    """Return the field orders of interlaced shots; version 0.1 of curation stored none."""
    if not has_column(store, "shots", "field_order"):
        return {}
    rows = read_published(store, ShotRow, ["shot_id", "field_order"])
    found = {row["shot_id"]: as_field_order(row["field_order"]) for row in rows}
    return {shot_id: order for shot_id, order in found.items() if order is not None}


def spans_of_scenes(
    scenes: Iterable[Mapping[str, Any]],
    fps: Mapping[str, float],
    bars: Mapping[str, Bars] = MappingProxyType({}),
    field_orders: Mapping[str, FieldOrder] = MappingProxyType({}),
) -> list[VideoSpans]:
    """Group the captioned scenes' shots by video, in the order of their frames."""
    shots: dict[str, list[ShotSpan]] = {}
    uris: dict[str, str] = {}
    for scene in scenes:
        if scene["status"] != "captioned":
            continue
        own: list[CaptionedShotRow] = scene["shots"]
        for shot in own:
            uris[shot["video_id"]] = shot["uri"]
            shots.setdefault(shot["video_id"], []).append(
                ShotSpan(
                    shot_id=shot["shot_id"],
                    scene_id=scene["scene_id"],
                    index=0,
                    start=shot["start_frame"],
                    end=shot["end_frame"],
                    text=shot["text"],
                    keyframes=tuple(shot["keyframe_frames"] or ()),
                    bars=bars.get(shot["shot_id"], NO_BARS),
                    field_order=field_orders.get(shot["shot_id"]),
                )
            )
    return [_video_spans(id_, uris[id_], fps.get(id_, 0.0), shots[id_]) for id_ in sorted(shots)]


def _video_spans(video_id: str, uri: str, fps: float, shots: list[ShotSpan]) -> VideoSpans:
    ordered = sorted(shots, key=lambda shot: (shot.start, shot.shot_id))
    numbered = tuple(replace(shot, index=index) for index, shot in enumerate(ordered))
    # Without bars and fields, the hash is that of version 0.1, which knew of none.
    known: tuple[object, ...] = (uri, fps, numbered)
    for found in ([s.bars for s in numbered], [s.field_order for s in numbered]):
        known += (found,) if any(found) else ()
    digest = hashlib.sha256(repr(known).encode()).hexdigest()[:16]
    return VideoSpans(video_id, uri, fps, numbered, digest)
