"""The rows of the curated tables: one type per table, which also gives its Arrow schema.

A row is what crosses Ray and what a ledger keeps. `| None` marks a column that may be null. Knows
nothing about Ray, decoding or models.

Frame numbers count the decoded frames of a file's first video stream in presentation order and
start at 0; every span is half-open, `[start, end)`. Times are in seconds of that stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypedDict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Int32 = Annotated[int, pa.int32()]
Int64 = Annotated[int, pa.int64()]
Float32 = Annotated[float, pa.float32()]
Float64 = Annotated[float, pa.float64()]
Vector = Annotated[NDArray[np.float32] | Sequence[float], pa.list_(pa.float32())]
"""A list column of floats: a NumPy row as read, any sequence as written."""


class ProvenanceRow(TypedDict):
    """Which settings, code and run made a row, and when (ISO 8601, UTC)."""

    config_hash: str
    code_version: str
    run_id: str
    created_at: str


class FaceRow(TypedDict):
    """A face in a keyframe: its box in pixels of the keyframe, from the top left corner."""

    x: Float32
    y: Float32
    width: Float32
    height: Float32
    score: Float32  # 0..1


class TextLineRow(TypedDict):
    """A line of text in a keyframe: what it says, and the upright box around it in pixels."""

    text: str  # empty if it cannot be read
    x: Float32
    y: Float32
    width: Float32
    height: Float32
    area_px: Float32  # of the line itself, which may be slanted
    score: Float32  # 0..1


class KeyframeRow(TypedDict):
    """A keyframe of a shot; `uri` is relative to the output folder: media/ab/abcd....jpg.

    `faces`, `text_lines` and `nsfw` are null if they were not looked for.
    """

    frame: Int64
    time_s: Float64
    uri: str
    sha256: str
    width: Int32
    height: Int32
    faces: list[FaceRow] | None
    text_lines: list[TextLineRow] | None
    nsfw: Float32 | None  # probability of explicit content, 0..1


class TransitionRow(TypedDict):
    """How a shot begins."""

    kind: str  # start | cut | gradual
    start_frame: Int64  # [start_frame, end_frame) belong to neither shot
    end_frame: Int64
    score: Float32


class CropRow(TypedDict):
    """Pixels of black bars at the edges of a video's frames as stored, before rotation."""

    top: Int32
    bottom: Int32
    left: Int32
    right: Int32


class MeasuredShotRow(TypedDict):
    """A shot as measured by analysis.

    The spans of a video's shots follow one another without a gap; a gradual transition is split in
    its middle. The content span leaves the transition's frames out.
    """

    shot_id: str
    index: Int32
    start_frame: Int64
    end_frame: Int64
    content_start_frame: Int64
    content_end_frame: Int64
    start_s: Float64
    end_s: Float64
    transition_in: TransitionRow
    motion: Float32  # mean change of luma between frames, 0..255
    luma: Float32  # mean luma, 0..255
    contrast: Float32  # mean spread of luma inside a frame, 0..255
    text_area: Float32 | None  # share of the middle keyframe that looks like text
    fingerprint: list[bytes]  # 256-bit difference hash of each keyframe
    colours: Vector | None  # unit row: how much of each colour it shows
    keyframes: list[KeyframeRow]
    embedding: Vector | None  # unit mean of the keyframes' CLIP embeddings
    crop: CropRow | None  # the bars that its keyframes are without; null for none
    field_order: str | None  # tff | bff if its frames are interlaced; null for progressive ones
    # Of the keyframe with the most; null if not looked for, or if no keyframe could be examined.
    num_faces: Int32 | None
    ocr_area: Float32 | None  # share of the picture that lines of text cover, 0..1
    subtitle_area: Float32 | None  # the part of it in the lowest third
    nsfw: Float32 | None
    perception_error: str | None  # why a keyframe could not be examined


class SourceColumns(TypedDict):
    """What is known about a video before it is opened."""

    source_id: str  # from its address, size and date
    bytes: Int64
    modified: str
    attempts: Int32


class DecodedColumns(TypedDict):
    """The result of decoding a video, whether it is kept or quarantined."""

    video_id: str
    uri: str
    content_sha256: str | None
    container: str | None
    codec: str | None
    pixel_format: str | None
    width: Int32 | None  # as stored, before rotation and sample aspect ratio
    height: Int32 | None
    rotation: Int32 | None
    sample_aspect_ratio: Float32 | None
    fps: Float64 | None
    variable_fps: bool | None
    duration_s: Float64 | None
    num_frames: Int64 | None
    num_video_streams: Int32 | None
    decode_errors: Int32 | None
    field_order: str | None  # progressive | tff | bff, as the pictures show
    interlaced_share: Float32 | None  # of the frames looked at: their fields differ
    interlaced_flag_share: Float32 | None  # of all frames: the file calls them interlaced
    status: str  # kept | quarantined
    reason: str | None  # a VideoReason if quarantined
    detail: str | None
    analyze_s: Float32 | None
    num_shots: Int32


class DecodedVideoRow(DecodedColumns):
    """A video with all of its shots, before its source and its provenance are added."""

    shots: list[MeasuredShotRow]


class VideoRow(SourceColumns, DecodedColumns, ProvenanceRow):
    """A row of the videos table."""


class AnalyzedVideoRow(SourceColumns, DecodedVideoRow, ProvenanceRow):
    """A row of the analyze ledgers: a video with all of its shots, committed as a whole."""

    detector: str


class ShotFileColumns(TypedDict):
    """The content span of a shot as its own file; null if no file was requested."""

    clip_uri: str | None  # relative to the output folder
    clip_mode: str | None  # copy | transcode | failed
    clip_detail: str | None  # why there is no file, or why it is not a copy


class ShotFileRow(ShotFileColumns, ProvenanceRow):
    """A row of the cut ledger: a shot that was cut or could not be.

    `status` is cut, failed, away (the video cannot be read) or unfinished. The next run tries again
    if it is away, and up to three times if it is unfinished.
    """

    shot_id: str
    status: str
    attempts: Int32


class ShotRow(MeasuredShotRow, ShotFileColumns, ProvenanceRow):
    """A row of the shots table."""

    video_id: str
    uri: str
    aesthetic: Float32 | None  # about 1..10; null if it was not measured
    scene_id: str | None  # null if dropped
    drop_reason: str | None  # a ShotReason, null if kept
    detector: str


class SceneRow(ProvenanceRow):
    """A row of the scenes table."""

    scene_id: str
    video_id: str
    uri: str
    index: Int32
    shot_ids: list[str]
    num_shots: Int32
    start_frame: Int64
    end_frame: Int64
    start_s: Float64
    end_s: Float64
    duration_s: Float64  # of its shots, without the gaps between them
    min_link_similarity: Float32 | None  # the weakest link that held it together
    mean_similarity: Float32 | None


class EntityRow(TypedDict):
    """A person or thing that the captions of a scene refer to by id."""

    id: str
    name: str
    attributes: str
    kind: str  # person, animal, thing; empty if unknown


class CaptionedShotRow(TypedDict):
    """A shot with its caption; frames are its content span, without any of a transition."""

    shot_id: str
    video_id: str
    uri: str
    start_frame: Int64
    end_frame: Int64
    text: str
    entity_ids: list[str]
    framing: str
    keyframe_frames: list[Int64]


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
    status: str  # captioned | rejected
    reason: str | None  # a CaptionReason if rejected
    detail: str | None
    style: str
    entities: list[EntityRow]
    shots: list[CaptionedShotRow]
    checks: list[CheckRow]
    captioner: str
    model: str
    prompt_version: str
    cache_key: str  # hash of the request; the state of a sidecar
    refined: bool
    # How consistently entities are named, see curation/captioning/entity_consistency.py.
    references: Int32
    references_resolved: Int32
    recurrences: Int32
    recurrences_same_id: Int32
    attempts: Int32
    requests: Int32
    prompt_tokens: Int64
    output_tokens: Int64
    cost_usd: Float64
    caption_s: Float32
