"""Turns a story file into a film: writes each chunk as it comes, and the storyboard last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cluster.console import Meter
from cluster.storyboard import Retrieved, StoryboardRow, write_storyboard
from fw_model.errors import ConfigError, StorageError
from fw_model.generation.generator import StoryChunk, StoryGenerator
from fw_model.generation.story_file import StoryFile
from fw_model.loading.load import load_model
from fw_model.media.video import VideoWriter

if TYPE_CHECKING:
    from cluster.config import FilmWeaverConfig


@dataclass(frozen=True)
class FilmResult:
    """How much was written."""

    num_frames: int
    duration_s: float


def num_chunks(story: StoryFile) -> int:
    """Return the number of chunks in the story."""
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
    """Generate `story` and write it to `film`; a failure leaves no file there.

    Reference images are read relative to `base_dir`.
    """
    make_place(film, ".mp4")
    if storyboard is not None:
        make_place(storyboard, ".png")
    model = load_model(settings.model)
    generator = StoryGenerator(model, settings.generation)
    shown: list[StoryChunk] = []  # kept only for a storyboard: an hour of film is large
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


def make_place(path: Path, suffix: str) -> None:
    """Make the folder for the file `path`; ConfigError or StorageError if it cannot be there.

    `suffix` is the one that the file's format requires.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give the name of a {suffix} file.")
    if path.suffix.lower() != suffix:
        raise ConfigError(f"{path.name!r} must end with {suffix}; rename it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"Cannot create the folder of {path}: {error.strerror}; choose another."
        ) from error


def storyboard_rows(chunks: Sequence[StoryChunk]) -> list[StoryboardRow]:
    """Return one row per mode of each segment: a new shot of three chunks also has an extension."""
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
        rows.append(StoryboardRow(shot, mode, request.prompt, frames, retrieved))
    return rows
