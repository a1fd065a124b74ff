"""Arrow schemas of the curated tables: videos, shots, scenes and captions.

They are the contract between curation, which writes them, and encoding, training and anybody's
own tools, which read them. Knows nothing about Ray, decoding or models.

Frame numbers count the decoded frames of a file's first video stream in presentation order and
start at 0; every span is half-open, `[start, end)`. Times are in seconds of that stream.
"""

from __future__ import annotations

import enum

import pyarrow as pa

SCHEMA_VERSION = "1"


class VideoReason(enum.StrEnum):
    """Why a video is quarantined: a closed list, so every reason can be counted and retried."""

    UNREADABLE = "unreadable"  # no demuxer knows the bytes
    NO_VIDEO_STREAM = "no_video_stream"
    NO_FRAMES = "no_frames"  # a video stream that holds no picture at all
    TRUNCATED = "truncated"  # the header promises more than the file holds
    DECODE_ERRORS = "decode_errors"  # too many damaged packets
    UNSUPPORTED_CODEC = "unsupported_codec"
    TOO_LARGE = "too_large"  # frame size beyond the configured limit
    TIMEOUT = "timeout"
    DECODER_CRASH = "decoder_crash"  # the decoding child died
    ANALYSIS_ERROR = "analysis_error"  # the detector or our own code raised; `detail` says what
    OUT_OF_MEMORY = "out_of_memory"
    SOURCE_UNAVAILABLE = "source_unavailable"  # missing, forbidden or failing storage


PASSING_VIDEO_REASONS = frozenset({VideoReason.SOURCE_UNAVAILABLE})
"""Reasons that say nothing of the video itself: the next run tries again what it finds there."""


class ShotReason(enum.StrEnum):
    """Why a filter drops a shot. The shot stays in the table and carries the reason."""

    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    TOO_SMALL = "too_small"
    DARK = "dark"
    FLAT = "flat"  # hardly any picture: one colour, a fade, a blank
    STATIC = "static"
    TEXT_HEAVY = "text_heavy"
    UNAESTHETIC = "unaesthetic"
    DUPLICATE = "duplicate"
    SCENE_TOO_SHORT = "scene_too_short"


class CaptionReason(enum.StrEnum):
    """Why a scene is rejected by captioning."""

    INVALID = "caption_invalid"  # broke a structural rule after one refinement
    MISMATCH = "caption_mismatch"  # does not suit its pictures: by CLIP, or by a verdict
    REFUSED = "caption_refused"
    ENDPOINT_EXHAUSTED = "endpoint_exhausted"
    BUDGET_EXHAUSTED = "budget_exhausted"
    NO_SIDECAR = "no_sidecar"
    MEDIA_MISSING = "media_missing"
    TOO_MANY_PEOPLE = "too_many_people"


PASSING_CAPTION_REASONS = frozenset(
    {
        CaptionReason.ENDPOINT_EXHAUSTED,
        CaptionReason.BUDGET_EXHAUSTED,
        CaptionReason.NO_SIDECAR,
        CaptionReason.MEDIA_MISSING,
    }
)
"""Reasons that say nothing of the scene itself: the next run asks again."""


def _provenance() -> list[pa.Field]:
    return [
        pa.field("config_hash", pa.string()),
        pa.field("code_version", pa.string()),
        pa.field("run_id", pa.string()),
        pa.field("created_at", pa.string()),  # ISO 8601, UTC
    ]


KEYFRAME = pa.struct(
    [
        pa.field("frame", pa.int64()),
        pa.field("time_s", pa.float64()),
        pa.field("uri", pa.string()),  # relative to the output folder: media/ab/abcd....jpg
        pa.field("sha256", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
    ]
)

TRANSITION = pa.struct(
    [
        pa.field("kind", pa.string()),  # start | cut | gradual
        pa.field("start_frame", pa.int64()),  # frames that belong to neither shot
        pa.field("end_frame", pa.int64()),
        pa.field("score", pa.float32()),
    ]
)

MEASURED_SHOT_FIELDS: list[pa.Field] = [
    pa.field("shot_id", pa.string()),
    pa.field("index", pa.int32()),
    # The spans of a video's shots follow one another without a gap; a gradual transition is
    # split in its middle. The content span leaves the transition's frames out.
    pa.field("start_frame", pa.int64()),
    pa.field("end_frame", pa.int64()),
    pa.field("content_start_frame", pa.int64()),
    pa.field("content_end_frame", pa.int64()),
    pa.field("start_s", pa.float64()),
    pa.field("end_s", pa.float64()),
    pa.field("transition_in", TRANSITION),
    pa.field("motion", pa.float32()),  # mean change of luma between frames, 0..255
    pa.field("luma", pa.float32()),  # mean luma, 0..255
    pa.field("contrast", pa.float32()),  # mean spread of luma inside a frame, 0..255
    pa.field("text_area", pa.float32()),  # share of the middle keyframe that looks like text
    pa.field("fingerprint", pa.list_(pa.binary())),  # 256-bit difference hash of each keyframe
    pa.field("colours", pa.list_(pa.float32())),  # unit row: how much of each colour it shows
    pa.field("keyframes", pa.list_(KEYFRAME)),
    pa.field("embedding", pa.list_(pa.float32())),  # unit mean of the keyframes' CLIP embeddings
]

VIDEO_FIELDS: list[pa.Field] = [
    pa.field("video_id", pa.string()),
    pa.field("source_id", pa.string()),  # address, size and date: known without reading it
    pa.field("uri", pa.string()),
    pa.field("bytes", pa.int64()),
    pa.field("modified", pa.string()),
    pa.field("content_sha256", pa.string()),
    pa.field("container", pa.string()),
    pa.field("codec", pa.string()),
    pa.field("pixel_format", pa.string()),
    pa.field("width", pa.int32()),  # as stored, before rotation and sample aspect ratio
    pa.field("height", pa.int32()),
    pa.field("rotation", pa.int32()),
    pa.field("sample_aspect_ratio", pa.float32()),
    pa.field("fps", pa.float64()),
    pa.field("variable_fps", pa.bool_()),
    pa.field("duration_s", pa.float64()),
    pa.field("num_frames", pa.int64()),
    pa.field("num_video_streams", pa.int32()),
    pa.field("decode_errors", pa.int32()),
    pa.field("status", pa.string()),  # kept | quarantined
    pa.field("reason", pa.string()),  # a VideoReason when quarantined
    pa.field("detail", pa.string()),
    pa.field("attempts", pa.int32()),
    pa.field("analyze_s", pa.float32()),
    pa.field("num_shots", pa.int32()),
]

VIDEOS = pa.schema([*VIDEO_FIELDS, *_provenance()])

# One row of the analyze ledger: a video with all of its shots, committed as a whole.
ANALYZED_VIDEOS = pa.schema(
    [
        *VIDEO_FIELDS,
        pa.field("detector", pa.string()),
        pa.field("shots", pa.list_(pa.struct(MEASURED_SHOT_FIELDS))),
        *_provenance(),
    ]
)

CLIP_FIELDS: list[pa.Field] = [
    # The content span as a file of its own; null where none was asked for.
    pa.field("clip_uri", pa.string()),  # relative to the output folder
    pa.field("clip_mode", pa.string()),  # copy | transcode | failed
    pa.field("clip_detail", pa.string()),  # why it is not the copy that was asked for, or no clip
]

# One row of the cut ledger: a shot that was cut or could not be.
SHOT_CLIPS = pa.schema(
    [
        pa.field("shot_id", pa.string()),
        # cut | failed; the next run tries again: away (no file), unfinished (up to three times)
        pa.field("status", pa.string()),
        pa.field("attempts", pa.int32()),
        *CLIP_FIELDS,
        *_provenance(),
    ]
)

SHOTS = pa.schema(
    [
        pa.field("video_id", pa.string()),
        pa.field("uri", pa.string()),
        *MEASURED_SHOT_FIELDS,
        pa.field("aesthetic", pa.float32()),  # about 1..10; null where nobody measured it
        pa.field("scene_id", pa.string()),  # null when dropped
        pa.field("drop_reason", pa.string()),  # a ShotReason, null when kept
        *CLIP_FIELDS,
        pa.field("detector", pa.string()),
        *_provenance(),
    ]
)

SCENES = pa.schema(
    [
        pa.field("scene_id", pa.string()),
        pa.field("video_id", pa.string()),
        pa.field("uri", pa.string()),
        pa.field("index", pa.int32()),
        pa.field("shot_ids", pa.list_(pa.string())),
        pa.field("num_shots", pa.int32()),
        pa.field("start_frame", pa.int64()),
        pa.field("end_frame", pa.int64()),
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
        pa.field("duration_s", pa.float64()),  # of its shots, without what lies between
        pa.field("min_link_similarity", pa.float32()),  # weakest link that held it together
        pa.field("mean_similarity", pa.float32()),
        *_provenance(),
    ]
)

ENTITY = pa.struct(
    [
        pa.field("id", pa.string()),
        pa.field("name", pa.string()),
        pa.field("attributes", pa.string()),
        pa.field("kind", pa.string()),  # person, animal, thing; empty where nobody said
    ]
)

CAPTIONED_SHOT = pa.struct(
    [
        pa.field("shot_id", pa.string()),
        pa.field("video_id", pa.string()),
        pa.field("uri", pa.string()),
        pa.field("start_frame", pa.int64()),  # the content span: no frame of a transition
        pa.field("end_frame", pa.int64()),
        pa.field("text", pa.string()),
        pa.field("entity_ids", pa.list_(pa.string())),
        pa.field("framing", pa.string()),
        pa.field("keyframe_frames", pa.list_(pa.int64())),
    ]
)

CHECK = pa.struct(
    [
        pa.field("check", pa.string()),
        pa.field("passed", pa.bool_()),
        pa.field("detail", pa.string()),
    ]
)

CAPTIONS = pa.schema(
    [
        pa.field("scene_id", pa.string()),
        pa.field("video_id", pa.string()),
        pa.field("uri", pa.string()),
        pa.field("status", pa.string()),  # captioned | rejected
        pa.field("reason", pa.string()),  # a CaptionReason when rejected
        pa.field("detail", pa.string()),
        pa.field("style", pa.string()),
        pa.field("entities", pa.list_(ENTITY)),
        pa.field("shots", pa.list_(CAPTIONED_SHOT)),
        pa.field("checks", pa.list_(CHECK)),
        pa.field("captioner", pa.string()),
        pa.field("model", pa.string()),
        pa.field("prompt_version", pa.string()),
        pa.field("cache_key", pa.string()),  # what was asked; the state of a sidecar
        pa.field("refined", pa.bool_()),
        # How consistently entities are named, see curation/captioning/entity_consistency.py.
        pa.field("references", pa.int32()),
        pa.field("references_resolved", pa.int32()),
        pa.field("recurrences", pa.int32()),
        pa.field("recurrences_same_id", pa.int32()),
        pa.field("attempts", pa.int32()),
        pa.field("requests", pa.int32()),
        pa.field("prompt_tokens", pa.int64()),
        pa.field("output_tokens", pa.int64()),
        pa.field("cost_usd", pa.float64()),
        pa.field("caption_s", pa.float32()),
        *_provenance(),
    ]
)

CURATED_TABLES: dict[str, tuple[pa.Schema, str]] = {
    "videos": (VIDEOS, "video_id"),
    "shots": (SHOTS, "shot_id"),
    "scenes": (SCENES, "scene_id"),
    "captions": (CAPTIONS, "scene_id"),
}
"""Table name -> (schema, its unique column)."""
