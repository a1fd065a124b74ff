"""A whole film in one call, for scripts and notebooks.

Holds the film in memory; to write it chunk by chunk, use `StoryGenerator.generate_story`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fw_model.generation.generator import StoryGenerator
from fw_model.generation.request import GenerationConfig, Pixels
from fw_model.generation.story_file import ShotSpec, StoryFile
from fw_model.loading.load import FilmModel
from fw_model.media.video import write_video


@dataclass(frozen=True)
class Film:
    """Frames [F, H, W, 3] of a story, and frames/s."""

    frames: Pixels
    fps: float

    def save(self, path: str | Path) -> Path:
        """Write the film as H.264 (MP4) and return its path."""
        return write_video(path, self.frames, fps=self.fps)

    def __repr__(self) -> str:
        count, height, width, _ = self.frames.shape
        return f"Film({count} frames, {count / self.fps:.1f} s, {width}x{height})"


def make_film(
    model: FilmModel,
    story: StoryFile | Sequence[str],
    *,
    base_dir: Path = Path(),
    config: GenerationConfig | None = None,
) -> Film:
    """Generate a story, or one shot of two chunks for each prompt.

    Paths of reference images are relative to `base_dir`.
    """
    if not isinstance(story, StoryFile):
        story = StoryFile(shots=tuple(ShotSpec(prompt=p, num_chunks=2) for p in story))
    chunks = StoryGenerator(model, config).generate_story(story, base_dir=base_dir)
    return Film(np.concatenate([c.result.frames for c in chunks]), model.record.fps)
