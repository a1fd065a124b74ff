"""A story file to a film: chunks are written as they come, the storyboard at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cluster.console import Meter
from cluster.storyboard import Retrieved, Segment, write_storyboard
from fw_model.generator import StoryChunk, StoryGenerator
from fw_model.media.video import VideoWriter
from fw_model.model import load_model
from fw_model.story import StoryFile

if TYPE_CHECKING:
    from cluster.config import FilmWeaverConfig


@dataclass(frozen=True)
class FilmResult:
    """What was written."""

    num_frames: int
    duration_s: float


def num_chunks(story: StoryFile) -> int:
    """Chunks of the whole story."""
    return sum(segment.num_chunks for shot in story.shots for segment in shot.segments)


def generate_film(
    settings: FilmWeaverConfig,
    story: StoryFile,
    *,
    base_dir: Path,
    film: Path,
    storyboard: Path | None = None,
    progress: Meter,
) -> FilmResult:
    """Generate `story` and write it to `film`; nothing is left there when it fails.

    Reference images are read relative to `base_dir`.
    """
    model = load_model(settings.model)
    generator = StoryGenerator(model, settings.generation)
    film.parent.mkdir(parents=True, exist_ok=True)
    shown: list[StoryChunk] = []  # a film of an hour is held in memory only if it is drawn
    num_frames = 0
    with VideoWriter(film, fps=model.record.fps) as writer:
        for done, chunk in enumerate(generator.generate_story(story, base_dir=base_dir), start=1):
            writer.write(chunk.result.frames)
            num_frames += len(chunk.result.frames)
            if storyboard is not None:
                shown.append(chunk)
            progress.update(done, f"shot {chunk.shot + 1} {chunk.mode}")
    if storyboard is not None:
        write_storyboard(storyboard, story.title, storyboard_rows(shown))
    return FilmResult(num_frames, num_frames / model.record.fps)


def storyboard_rows(chunks: Sequence[StoryChunk]) -> list[Segment]:
    """One row for each mode of each segment: a new shot of three chunks is also extended."""
    groups: dict[tuple[int, int, str], list[StoryChunk]] = {}
    for chunk in chunks:
        groups.setdefault((chunk.shot, chunk.segment, chunk.mode), []).append(chunk)
    rows = []
    for (shot, _, mode), members in groups.items():
        request = members[0].request
        retrieved = [
            Retrieved(
                scored.keyframe.image,
                scored.score,
                scored.keyframe.name or f"shot {scored.keyframe.shot + 1}",
            )
            for scored in request.keyframes
        ]
        frames = np.concatenate([member.result.frames for member in members])
        rows.append(Segment(shot, mode, request.prompt, frames, retrieved))
    return rows
