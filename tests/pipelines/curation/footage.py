"""Small films for tests: drawn scenes with structure, so that shots differ as pictures do."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fw_model.media.video import write_video

FPS = 12
SIZE = (96, 64)


def scenery(seed: int, *, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return a picture [H, W, 3] of random soft blocks; each seed is another place."""
    rng = np.random.default_rng(seed)
    width, height = size
    coarse = rng.integers(20, 235, (5, 7, 3)).astype(np.float32)
    rows = np.linspace(0, 4, height).astype(int)
    columns = np.linspace(0, 6, width).astype(int)
    return coarse[rows][:, columns].astype(np.uint8)


def shot(seed: int, num_frames: int, *, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return a shot [F, H, W, 3]: one place, through which a bright square moves."""
    frames = np.repeat(scenery(seed, size=size)[None], num_frames, 0)
    side = max(2, size[1] // 6)
    for i, frame in enumerate(frames):
        x = (3 * i + 7 * seed) % max(1, size[0] - side)
        y = size[1] // 2
        frame[y : y + side, x : x + side] = (250, 240, 60)
    return frames


def film(seeds: list[int], num_frames: int = 18) -> np.ndarray:
    """Return shots cut hard one after another."""
    return np.concatenate([shot(seed, num_frames) for seed in seeds])


def write_film(path: Path, seeds: list[int], num_frames: int = 18) -> Path:
    """Write a film as a video file."""
    write_video(path, film(seeds, num_frames), fps=FPS)
    return path
