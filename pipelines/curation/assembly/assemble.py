"""Analyzed videos to rows of the finished tables: filters, duplicates and scenes.

Pure and cheap (numbers only, no images), so every run does it again. Knows nothing about Ray.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fw_model.schemas.curated import MEASURED_SHOT_FIELDS, VIDEO_FIELDS, ShotReason
from pipelines.curation.assembly.filters import drop_reason, duration_s
from pipelines.curation.assembly.near_duplicates import ShotPrint
from pipelines.curation.assembly.scenes import Scene, cluster_shots, mean_similarity, scene_id
from pipelines.curation.config import FilterConfig, SceneConfig
from pipelines.curation.ledger.ledger import config_hash

PROVENANCE = ("config_hash", "code_version", "run_id", "created_at")
Row = Mapping[str, Any]


@dataclass
class Assembled:
    """Rows of the finished tables."""

    videos: list[dict[str, Any]] = field(default_factory=list)
    shots: list[dict[str, Any]] = field(default_factory=list)
    scenes: list[dict[str, Any]] = field(default_factory=list)


TABLES = tuple(table.name for table in fields(Assembled))


def assemble_video(
    video: Row,
    duplicates: set[str],
    *,
    filters: FilterConfig,
    scenes: SceneConfig,
    assembly_code: str,
) -> Assembled:
    """Return the rows of one analyzed video.

    A scene is stamped with `assembly_code` and with a hash of the settings that made it: those of
    its video's analysis, the filters and the clustering.
    """
    into = Assembled()
    stamp = {name: video[name] for name in PROVENANCE}
    scene_stamp = stamp | {
        "config_hash": config_hash(video["config_hash"], filters, scenes),
        "code_version": assembly_code,
    }
    into.videos.append({f.name: video[f.name] for f in VIDEO_FIELDS} | stamp)
    reasons = [
        drop_reason(shot, video, filters)
        or (ShotReason.DUPLICATE if shot["shot_id"] in duplicates else None)
        for shot in video["shots"]
    ]
    kept = [shot for shot, reason in zip(video["shots"], reasons, strict=True) if reason is None]
    scene_of: dict[str, str] = {}
    short: set[str] = set()
    for scene in _clustered(kept, scenes):
        members = [kept[i] for i in scene.shots]
        if len(members) < scenes.min_shots:
            short |= {shot["shot_id"] for shot in members}
            continue
        row = _scene_row(video, members, scene)
        into.scenes.append(row | {"index": len({*scene_of.values()})} | scene_stamp)
        scene_of |= {shot["shot_id"]: row["scene_id"] for shot in members}
    for shot, reason in zip(video["shots"], reasons, strict=True):
        if shot["shot_id"] in short:
            reason = ShotReason.SCENE_TOO_SHORT
        into.shots.append(
            {
                "video_id": video["video_id"],
                "uri": video["uri"],
                **{f.name: shot[f.name] for f in MEASURED_SHOT_FIELDS},
                "aesthetic": shot.get("aesthetic"),
                "scene_id": scene_of.get(shot["shot_id"]),
                "drop_reason": None if reason is None else str(reason),
                "detector": video["detector"],
                **stamp,
            }
        )
    return into


def shot_prints(videos: Iterable[Row], filters: FilterConfig) -> Iterable[ShotPrint]:
    """Yield the prints of the shots that pass the filters."""
    for video in videos:
        for shot in video["shots"]:
            if drop_reason(shot, video, filters) is None:
                row = shot["embedding"]
                yield ShotPrint(
                    shot["shot_id"],
                    duration_s(shot),
                    tuple(shot["fingerprint"]),
                    # A copy, because a view would keep the rows of all other shots in memory.
                    None if row is None else np.array(row, np.float32),
                )


def _clustered(kept: list[Row], config: SceneConfig) -> list[Scene]:
    """Cluster the kept shots; one without an embedding is similar to none."""
    weight = config.colour_weight
    # One joint row: the product of two is the weighted mean of both similarities.
    rows = np.concatenate(
        [
            np.sqrt(1 - weight) * _matrix(kept, "embedding"),
            np.sqrt(weight) * _matrix(kept, "colours"),
        ],
        axis=1,
    ).astype(np.float32)
    return cluster_shots(rows, [duration_s(s) for s in kept], config)


def _matrix(shots: list[Row], name: str) -> NDArray[np.float32]:
    """Return the rows of a column, zeros where a shot has none."""
    width = next((len(s[name]) for s in shots if s[name] is not None), 1)
    rows = [s[name] if s[name] is not None else [0.0] * width for s in shots]
    return np.asarray(rows, np.float32).reshape(len(shots), width)


def _scene_row(video: Row, members: list[Row], scene: Scene) -> dict[str, Any]:
    ids = [shot["shot_id"] for shot in members]
    rows = [shot["embedding"] for shot in members if shot["embedding"] is not None]
    return {
        "scene_id": scene_id(ids),
        "video_id": video["video_id"],
        "uri": video["uri"],
        "shot_ids": ids,
        "num_shots": len(ids),
        "start_frame": members[0]["start_frame"],
        "end_frame": members[-1]["end_frame"],
        "start_s": members[0]["start_s"],
        "end_s": members[-1]["end_s"],
        "duration_s": sum(duration_s(shot) for shot in members),
        "min_link_similarity": scene.min_link_similarity,
        "mean_similarity": mean_similarity(np.asarray(rows, np.float32)) if rows else 0.0,
    }
