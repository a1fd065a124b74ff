"""Arrow schemas of the curated tables, made from their row types, and the reasons in their rows.

They are the contract between curation, which writes them, and encoding, training and other tools,
which read them. What each column means: `curated_rows`.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Annotated, Any, get_args, get_origin, get_type_hints, is_typeddict

import pyarrow as pa

from fw_model.schemas import curated_rows as rows

SCHEMA_VERSION = "1"


class VideoReason(enum.StrEnum):
    """Why a video is quarantined: a closed list, so every reason can be counted and retried."""

    UNREADABLE = "unreadable"  # no demuxer recognises the file
    NO_VIDEO_STREAM = "no_video_stream"
    NO_FRAMES = "no_frames"  # a video stream without a single picture
    TRUNCATED = "truncated"  # the header promises more frames than the file holds
    DECODE_ERRORS = "decode_errors"  # too many damaged packets
    UNSUPPORTED_CODEC = "unsupported_codec"
    TOO_LARGE = "too_large"  # frame size beyond the configured limit
    TIMEOUT = "timeout"
    DECODER_CRASH = "decoder_crash"  # the decoding child died
    ANALYSIS_ERROR = "analysis_error"  # the detector or our own code raised; `detail` says what
    OUT_OF_MEMORY = "out_of_memory"
    SOURCE_UNAVAILABLE = "source_unavailable"  # missing, forbidden or failing storage


PASSING_VIDEO_REASONS = frozenset({VideoReason.SOURCE_UNAVAILABLE})
"""Reasons that say nothing about the video itself: the next run tries again."""


class ShotReason(enum.StrEnum):
    """Why a filter drops a shot. The shot stays in the table and carries the reason."""

    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    TOO_SMALL = "too_small"
    DARK = "dark"
    FLAT = "flat"  # hardly anything to see: one colour, a fade, a blank
    STATIC = "static"
    TEXT_HEAVY = "text_heavy"
    SUBTITLED = "subtitled"
    TOO_MANY_FACES = "too_many_faces"
    NSFW = "nsfw"
    PERCEPTION_FAILED = "perception_failed"  # a keyframe could not be examined
    UNAESTHETIC = "unaesthetic"
    DUPLICATE = "duplicate"
    SCENE_TOO_SHORT = "scene_too_short"


class CaptionReason(enum.StrEnum):
    """Why a scene is rejected by captioning."""

    INVALID = "caption_invalid"  # broke a structural rule after one refinement
    MISMATCH = "caption_mismatch"  # does not fit its pictures: by CLIP, or by a verdict
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
"""Reasons that say nothing about the scene itself: the next run tries again."""


def _fields(row: type, *, first: Sequence[str] = (), last: Sequence[str] = ()) -> list[pa.Field]:
    """Return the columns of a row type, some of them `first` and some `last`.

    Columns keep their order of version 0.1, because files of one ledger are concatenated.
    """
    types = {
        name: _arrow_type(hint) for name, hint in get_type_hints(row, include_extras=True).items()
    }
    ends = {*first, *last}
    names = [*first, *(name for name in types if name not in ends), *last]
    return [pa.field(name, types[name]) for name in names]


def _arrow_type(hint: Any) -> pa.DataType:
    if is_typeddict(hint):
        return pa.struct(_fields(hint))
    arguments = get_args(hint)
    if get_origin(hint) is Annotated:
        return arguments[1]
    if get_origin(hint) is list:
        return pa.list_(_arrow_type(arguments[0]))
    if arguments:
        return _arrow_type(arguments[0])  # X | None
    return {str: pa.string(), bytes: pa.binary(), bool: pa.bool_()}[hint]


_PROVENANCE = tuple(rows.ProvenanceRow.__annotations__)
_VIDEO_FIRST = ("video_id", "source_id", "uri", "bytes", "modified")
_VIDEO_LAST = ("attempts", "analyze_s", "num_shots")

KEYFRAME = pa.struct(_fields(rows.KeyframeRow))
ENTITY = pa.struct(_fields(rows.EntityRow))
MEASURED_SHOT_FIELDS = _fields(rows.MeasuredShotRow)
CLIP_FIELDS = _fields(rows.ShotFileColumns)

VIDEOS = pa.schema(_fields(rows.VideoRow, first=_VIDEO_FIRST, last=_VIDEO_LAST + _PROVENANCE))
VIDEO_FIELDS = [field for field in VIDEOS if field.name not in _PROVENANCE]
ANALYZED_VIDEOS = pa.schema(
    _fields(
        rows.AnalyzedVideoRow,
        first=_VIDEO_FIRST,
        last=(*_VIDEO_LAST, "detector", "shots", *_PROVENANCE),
    )
)
SHOT_CLIPS = pa.schema(
    _fields(rows.ShotFileRow, first=("shot_id", "status", "attempts"), last=_PROVENANCE)
)
SHOTS = pa.schema(
    _fields(
        rows.ShotRow,
        first=("video_id", "uri", *rows.MeasuredShotRow.__annotations__),
        last=(*rows.ShotFileColumns.__annotations__, "detector", *_PROVENANCE),
    )
)
SCENES = pa.schema(_fields(rows.SceneRow, last=_PROVENANCE))
CAPTIONS = pa.schema(_fields(rows.CaptionRow, last=_PROVENANCE))

CURATED_TABLES: dict[str, tuple[pa.Schema, str]] = {
    "videos": (VIDEOS, "video_id"),
    "shots": (SHOTS, "shot_id"),
    "scenes": (SCENES, "scene_id"),
    "captions": (CAPTIONS, "scene_id"),
}
"""Table name -> (schema, its unique column)."""
