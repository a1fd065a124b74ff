"""Analyzed videos to rows of the finished tables: filters, duplicates and scenes.

Pure and cheap (numbers only, no images), so every run does it again. Knows nothing about Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fw_model.schemas.curated import ShotReason
from fw_model.schemas.curated_rows import (
    AnalyzedVideoRow,
    MeasuredShotRow,
    ProvenanceRow,
    SceneRow,
    ShotRow,
    VideoRow,
)
from pipelines.curation.assembly.filters import drop_reason, duration_s
from pipelines.curation.assembly.near_duplicates import ShotPrint
from pipelines.curation.assembly.scenes import Scene, cluster_shots, mean_similarity, scene_id
from pipelines.curation.config import FilterConfig, SceneConfig


@dataclass(frozen=True)
class Assembled:
    """Rows of the finished tables."""

    videos: list[VideoRow]
    shots: list[ShotRow]
    scenes: list[SceneRow]


TABLES = tuple(table.name for table in fields(Assembled))


def assemble_video(
    video: AnalyzedVideoRow,
    *,
    scores: Mapping[str, float],
    duplicates: set[str],
    filters: FilterConfig,
    scenes: SceneConfig,
    stamp: Callable[[str], ProvenanceRow],
) -> Assembled:
    """Return the rows of one analyzed video.

    `scores`: the aesthetic scores of its shots by id. `duplicates`: ids of shots that repeat
    others. `stamp`: gives the provenance of a scene; videos and shots keep that of the analysis.
    """
    reasons = {
        shot["shot_id"]: drop_reason(shot, video, filters, scores.get(shot["shot_id"]))
        or (ShotReason.DUPLICATE if shot["shot_id"] in duplicates else None)
        for shot in video["shots"]
    }
    kept = [shot for shot in video["shots"] if reasons[shot["shot_id"]] is None]
    scene_rows: list[SceneRow] = []
    scene_of: dict[str, str] = {}
    for scene in _clustered(kept, scenes):
        members = [kept[i] for i in scene.shots]
        ids = [shot["shot_id"] for shot in members]
        if len(ids) < scenes.min_shots:
            reasons |= dict.fromkeys(ids, ShotReason.SCENE_TOO_SHORT)
        else:
            scene_of |= dict.fromkeys(ids, scene_id(ids))
            provenance = stamp(scene_id(ids))
            scene_rows.append(_scene_row(video, members, scene, len(scene_rows), provenance))
    shot_rows: list[ShotRow] = [
        {
            **shot,
            "video_id": video["video_id"],
            "uri": video["uri"],
            "aesthetic": scores.get(shot["shot_id"]),
            "scene_id": scene_of.get(shot["shot_id"]),
            "drop_reason": reasons[shot["shot_id"]],
            "clip_uri": None,
            "clip_mode": None,
            "clip_detail": None,
            "detector": video["detector"],
            "config_hash": video["config_hash"],
            "code_version": video["code_version"],
            "run_id": video["run_id"],
            "created_at": video["created_at"],
        }
        for shot in video["shots"]
    ]
    # The row leaves out the shots: they would stay in memory until it is written.
    video_row: AnalyzedVideoRow = {**video, "shots": []}
    return Assembled([video_row], shot_rows, scene_rows)


def shot_prints(
    video: AnalyzedVideoRow, scores: Mapping[str, float], filters: FilterConfig
) -> Iterator[ShotPrint]:
    """Yield what `find_duplicates` compares, for each shot that passes the filters."""
    for shot in video["shots"]:
        if drop_reason(shot, video, filters, scores.get(shot["shot_id"])) is None:
            row = shot["embedding"]
            yield ShotPrint(
                shot["shot_id"],
                duration_s(shot),
                tuple(shot["fingerprint"]),
                # A copy, because a view would keep the rows of all other shots in memory.
                None if row is None else np.array(row, np.float32),
            )


def _clustered(kept: Sequence[MeasuredShotRow], config: SceneConfig) -> list[Scene]:
    """Cluster the kept shots; a shot without an embedding is not similar to any other."""
    weight = config.colour_weight
    # The product of two joint rows is the weighted mean of both similarities.
    embeddings = np.sqrt(1 - weight) * _matrix(kept, "embedding")
    colours = np.sqrt(weight) * _matrix(kept, "colours")
    rows = np.concatenate([embeddings, colours], axis=1).astype(np.float32)
    return cluster_shots(rows, [duration_s(shot) for shot in kept], config)


def _matrix(
    shots: Sequence[MeasuredShotRow], name: Literal["embedding", "colours"]
) -> NDArray[np.float32]:
    """Return a column as a matrix, with zeros for the shots that have no value."""
    found = [shot[name] for shot in shots]
    width = next((len(row) for row in found if row is not None), 1)
    rows = [row if row is not None else [0.0] * width for row in found]
    return np.asarray(rows, np.float32).reshape(len(shots), width)


def _scene_row(
    video: AnalyzedVideoRow,
    members: Sequence[MeasuredShotRow],
    scene: Scene,
    index: int,
    provenance: ProvenanceRow,
) -> SceneRow:
    ids = [shot["shot_id"] for shot in members]
    rows = [shot["embedding"] for shot in members if shot["embedding"] is not None]
    return {
        "scene_id": scene_id(ids),
        "video_id": video["video_id"],
        "uri": video["uri"],
        "index": index,
        "shot_ids": ids,
        "num_shots": len(ids),
        "start_frame": members[0]["start_frame"],
        "end_frame": members[-1]["end_frame"],
        "start_s": members[0]["start_s"],
        "end_s": members[-1]["end_s"],
        "duration_s": sum(duration_s(shot) for shot in members),
        "min_link_similarity": scene.min_link_similarity,
        "mean_similarity": mean_similarity(np.asarray(rows, np.float32)) if rows else 0.0,
        **provenance,
    }
