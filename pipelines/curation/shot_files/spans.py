"""What is cut out of a video, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fw_model.media.deinterlace import FieldOrder
from pipelines.curation.analysis.bars import NO_BARS, Bars


@dataclass(frozen=True)
class CutSpan:
    """The frames [start_frame, end_frame) of a shot to cut out.

    If they are encoded, the bars are cropped, and frames of two fields (`field_order`) are
    deinterlaced; packets are copied as they are.
    """

    shot_id: str
    start_frame: int
    end_frame: int
    bars: Bars = NO_BARS
    field_order: FieldOrder | None = None


@dataclass(frozen=True)
class ShotFile:
    """What became of a shot; `file` is a name in the output folder.

    `detail` says why the file is not the copy that was asked for, or why there is no file. A shot
    is unfinished if cutting stopped before its turn.
    """

    shot_id: str
    mode: Literal["copy", "transcode", "failed", "unfinished"]
    file: str | None = None
    detail: str | None = None


def file_name(span: CutSpan) -> str:
    """Return the name of a span's file in the output folder."""
    return f"{span.shot_id}.mp4"
