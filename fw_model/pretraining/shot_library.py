"""Frames of many shots in one memory-mapped array: what the small models are trained on.

Knows nothing about where shots come from. N frames in all, H x W pixels, uint8 [N, H, W, 3].
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap

from fw_model.errors import DataError
from fw_model.media.video import read_frames

logger = logging.getLogger(__name__)

FRAMES_FILE = "frames.npy"
SHOTS_FILE = "shots.json"


@dataclass(frozen=True)
class ShotSource:
    """One shot in a video file: frames [start, end), and its caption if it is known."""

    video: str
    start_frame: int
    end_frame: int
    caption: str = ""
    tags: tuple[str, ...] = ()
    """Facts about what is seen, a few words each (place, light, ...)."""
    caption_tags: tuple[str, ...] = ()
    """The facts that the caption states; all of `tags` if empty."""

    @property
    def num_frames(self) -> int:
        """How many frames the shot has."""
        return self.end_frame - self.start_frame


class ShotLibrary:
    """Shots by index, their frames by slice."""

    def __init__(
        self, frames: np.ndarray, shots: Sequence[ShotSource], starts: Sequence[int]
    ) -> None:
        self.frames = frames  # uint8 [N, H, W, 3]
        self.shots = tuple(shots)
        self._starts = tuple(starts)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every frame, in pixels."""
        return int(self.frames.shape[1]), int(self.frames.shape[2])

    @property
    def identity(self) -> str:
        """A hash of the shots and their captions; the folder of the videos does not count."""
        known = [replace(shot, video=Path(shot.video).name) for shot in self.shots]
        return hashlib.sha256(repr((self.frames.shape, known)).encode()).hexdigest()[:16]

    def clip(self, shot: int, start: int, num_frames: int) -> np.ndarray:
        """Return frames [start, start + num_frames) of a shot, uint8 [F, H, W, 3]."""
        first = self._starts[shot] + start
        return self.frames[first : first + num_frames]

    def random_clip(
        self, shots: Sequence[int], num_frames: int, rng: np.random.Generator
    ) -> tuple[int, int]:
        """Choose one of `shots` and the first frame of a clip of `num_frames` in it."""
        shot = shots[int(rng.integers(len(shots)))]
        return shot, int(rng.integers(self.shots[shot].num_frames - num_frames + 1))

    def with_frames(self, num_frames: int) -> list[int]:
        """Return the shots that have at least `num_frames` frames."""
        return [i for i, shot in enumerate(self.shots) if shot.num_frames >= num_frames]


def open_library(
    shots: Iterable[ShotSource], folder: Path, *, width: int, height: int
) -> ShotLibrary:
    """Decode all shots into `folder`, or reuse its frames if they come from the same shots.

    Raises DataError if there are no shots, MediaError if a video cannot be read.
    """
    shots = [shot for shot in shots if shot.num_frames > 0]
    if not shots:
        raise DataError("There are no shots to train on; give a folder with films.")
    folder.mkdir(parents=True, exist_ok=True)
    counts = [shot.num_frames for shot in shots]
    starts = [0, *np.cumsum(counts).tolist()]
    index = {"width": width, "height": height, "shots": [asdict(shot) for shot in shots]}
    text = json.dumps(index)
    frames_path, index_path = folder / FRAMES_FILE, folder / SHOTS_FILE
    if not (index_path.is_file() and index_path.read_text(encoding="utf-8") == text):
        _decode(shots, starts, frames_path, width=width, height=height)
        index_path.write_text(text, encoding="utf-8")
    return ShotLibrary(np.load(frames_path, mmap_mode="r"), shots, starts[:-1])


def _decode(
    shots: Sequence[ShotSource], starts: Sequence[int], path: Path, *, width: int, height: int
) -> None:
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    array = open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(starts[-1], height, width, 3))
    video, pixels = "", np.empty((0, height, width, 3), np.uint8)
    for shot, start in zip(shots, starts, strict=False):
        if shot.video != video:
            video, pixels = shot.video, read_frames(shot.video, size=(width, height))
        part = pixels[shot.start_frame : shot.end_frame]
        if len(part) != shot.num_frames:
            raise DataError(
                f"{video} has {len(pixels)} frames, but a shot ends at {shot.end_frame}; "
                "give the labels that belong to this file."
            )
        array[start : start + len(part)] = part
    array.flush()
    os.replace(temporary, path)
    logger.info("decoded %d shots, %d frames", len(shots), starts[-1])


def augmented(pixels: np.ndarray, hue_augmentation: float, rng: np.random.Generator) -> np.ndarray:
    """Mirror pixels [..., H, W, 3] at random; permute colours with chance `hue_augmentation`."""
    if rng.random() < 0.5:
        pixels = pixels[..., ::-1, :]
    if rng.random() < hue_augmentation:
        pixels = pixels[..., rng.permutation(3)]
    return pixels


def to_tensor(pixels: Sequence[np.ndarray]) -> torch.Tensor:
    """Return a batch of uint8 pictures or clips [..., H, W, 3] as [B, 3, ..., H, W] in [-1, 1]."""
    return torch.from_numpy(np.stack(pixels)).movedim(-1, 1).float() / 127.5 - 1.0
