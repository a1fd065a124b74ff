"""The takes of toy films: their shots without transitions, and what is true of each.

Knows nothing about what is learned from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fw_model.errors import DataError
from pipelines.toyfilms.truth import TrueShot
from pipelines.toyfilms.write import read_truth

VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"}


@dataclass(frozen=True)
class Take:
    """Frames [start, end) of a toy film, all of one shot."""

    start_frame: int
    end_frame: int
    shot: TrueShot


def split_videos(folder: Path, num_held_out: int) -> tuple[list[Path], list[Path]]:
    """Return the videos to train on and those held out, the last by name; DataError if too few."""
    videos = sorted(p for p in Path(folder).glob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
    if len(videos) <= num_held_out:
        raise DataError(
            f"{folder} holds {len(videos)} videos; training needs more than the {num_held_out} "
            "that are kept for validation. Add films, or lower pretrain.num_validation_films."
        )
    return videos[:-num_held_out], videos[-num_held_out:]


def iter_takes(video: Path) -> Iterator[Take]:
    """Yield the takes of a toy film; the frames of a transition belong to none. DataError if the
    film has no truth beside it."""
    truth = read_truth(video)
    gradual = [(span["start_frame"], span["end_frame"]) for span in truth["gradual"]]
    for shot in truth["shots"]:
        start, end = shot["start_frame"], shot["end_frame"]
        start = max([start, *(stop for begin, stop in gradual if begin <= start < stop)])
        end = min([end, *(begin for begin, stop in gradual if begin < end <= stop)])
        if end > start:
            yield Take(start, end, shot)
