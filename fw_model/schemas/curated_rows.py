"""The rows of the curated tables as Python types: one per Arrow schema of `curated`.

A row is what crosses Ray and what a ledger keeps; `tests/fw_model/schemas` holds the keys equal to
the schema's columns. `| None` marks a column that may be null.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32] | Sequence[float]
"""A list column of floats: a NumPy row as read, any sequence as written."""


class ProvenanceRow(TypedDict):
    """Who made a row, and when (ISO 8601, UTC)."""

    config_hash: str
    code_version: str
    run_id: str
    created_at: str


class KeyframeRow(TypedDict):
    """A keyframe of a shot; `uri` is relative to the output folder."""

    frame: int
    time_s: float
    uri: str
    sha256: str
    width: int
    height: int


class TransitionRow(TypedDict):
    """How a shot begins: start, cut or gradual."""

    kind: str
    start_frame: int
    end_frame: int
    score: float


class MeasuredShotRow(TypedDict):
    """A shot as analysis leaves it."""

    shot_id: str
    index: int
    start_frame: int
    end_frame: int
    content_start_frame: int
    content_end_frame: int
    start_s: float
    end_s: float
    transition_in: TransitionRow
    motion: float
    luma: float
    contrast: float
    text_area: float | None
    fingerprint: list[bytes]
    colours: Vector | None
    keyframes: list[KeyframeRow]
    embedding: Vector | None


class SourceColumns(TypedDict):
    """What is known of a video before it is opened."""

    source_id: str
    bytes: int
    modified: str
    attempts: int


class DecodedColumns(TypedDict):
    """What decoding a video gives, whether it is kept or quarantined."""

    video_id: str
    uri: str
    content_sha256: str | None
    container: str | None
    codec: str | None
    pixel_format: str | None
    width: int | None
    height: int | None
    rotation: int | None
    sample_aspect_ratio: float | None
    fps: float | None
    variable_fps: bool | None
    duration_s: float | None
    num_frames: int | None
    num_video_streams: int | None
    decode_errors: int | None
    status: str
    reason: str | None
    detail: str | None
    analyze_s: float | None
    num_shots: int


class DecodedVideoRow(DecodedColumns):
    """A video with all of its shots, before its source and its provenance are added."""

    shots: list[MeasuredShotRow]


class VideoRow(SourceColumns, DecodedColumns, ProvenanceRow):
    """A row of the videos table."""


class AnalyzedVideoRow(SourceColumns, DecodedVideoRow, ProvenanceRow):
    """A row of the analyze ledgers."""

    detector: str


class ShotFileColumns(TypedDict):
    """A shot as a file of its own; null where none was asked for."""

    clip_uri: str | None
    clip_mode: str | None
    clip_detail: str | None


class ShotFileRow(ShotFileColumns, ProvenanceRow):
    """A row of the cut ledger."""

    shot_id: str
    status: str
    attempts: int


class ShotRow(MeasuredShotRow, ShotFileColumns, ProvenanceRow):
    """A row of the shots table."""

    video_id: str
    uri: str
    aesthetic: float | None
    scene_id: str | None
    drop_reason: str | None
    detector: str


class SceneRow(ProvenanceRow):
    """A row of the scenes table."""

    scene_id: str
    video_id: str
    uri: str
    index: int
    shot_ids: list[str]
    num_shots: int
    start_frame: int
    end_frame: int
    start_s: float
    end_s: float
    duration_s: float
    min_link_similarity: float | None
    mean_similarity: float | None


class EntityRow(TypedDict):
    """Somebody or something that a scene's captions name by id."""

    id: str
    name: str
    attributes: str
    kind: str


class CaptionedShotRow(TypedDict):
    """A shot with its caption; frames are its content span."""

    shot_id: str
    video_id: str
    uri: str
    start_frame: int
    end_frame: int
    text: str
    entity_ids: list[str]
    framing: str
    keyframe_frames: list[int]


class CheckRow(TypedDict):
    """One check of a caption."""

    check: str
    passed: bool
    detail: str


class CaptionRow(ProvenanceRow):
    """A row of the captions table: a scene captioned or rejected."""

    scene_id: str
    video_id: str
    uri: str
    status: str
    reason: str | None
    detail: str | None
    style: str
    entities: list[EntityRow]
    shots: list[CaptionedShotRow]
    checks: list[CheckRow]
    captioner: str
    model: str
    prompt_version: str
    cache_key: str
    refined: bool
    references: int
    references_resolved: int
    recurrences: int
    recurrences_same_id: int
    attempts: int
    requests: int
    prompt_tokens: int
    output_tokens: int
    cost_usd: float
    caption_s: float
