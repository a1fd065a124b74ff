"""What happens in a shot, and to a whole film, that is no cut: flashes, captions, bars, noise.

Everything changes float frames [n, 3, H, W] in place or returns them. Knows nothing about where
shots come from.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.curation.detectors.base import GRID_HEIGHT, GRID_WIDTH
from pipelines.pretraining.cut_shots import resized

Floats = NDArray[np.float32]
Rng = np.random.Generator

MAX_FLASH = 5  # frames
MIN_EVENT_FRAMES = 16
MAX_CAPTION_AREA = 0.35  # of the picture


def add_events(frames: Floats, rng: Rng, *, most: int = 2) -> Floats:
    """Let up to `most` things happen in a shot that is long enough."""
    for _ in range(rng.integers(0, most + 1) if len(frames) >= MIN_EVENT_FRAMES else 0):
        event = _EVENTS[int(rng.integers(len(_EVENTS)))]
        if event is not None:
            frames = event(frames, int(rng.integers(4, len(frames) - 8)), rng)
    return np.clip(frames, 0, 255)


def _flash(frames: Floats, at: int, rng: Rng) -> Floats:
    """White, black or grey frames over the picture."""
    count = int(rng.integers(1, MAX_FLASH + 1))
    share = rng.uniform(0.85, 1, (count, 1, 1, 1))
    colour = np.array([rng.choice([235.0, 255.0, 16.0, 0.0]), 128.0, 128.0])[:, None, None]
    frames[at : at + count] = frames[at : at + count] * (1 - share) + colour * share
    return frames


def _bright(frames: Floats, at: int, rng: Rng) -> Floats:
    """A camera's flash: the picture is still seen."""
    lit = slice(at, at + int(rng.integers(1, MAX_FLASH + 1)))
    frames[lit, 0] = frames[lit, 0] * rng.uniform(1.2, 2.5) + rng.uniform(0, 90)
    return frames


def _occluder(frames: Floats, at: int, rng: Rng) -> Floats:
    """Something large passes close to the camera."""
    count, width = int(rng.integers(4, min(16, len(frames) - at))), int(rng.integers(16, 60))
    noise = rng.normal(rng.uniform(0, 255), rng.uniform(2, 50), (GRID_HEIGHT, width))
    texture = cv2.GaussianBlur(noise.astype(np.float32), (0, 0), 2)
    for i in range(count):
        left = int(-width + (GRID_WIDTH + width) * (i + 1) / (count + 1))
        first, last = max(0, left), min(GRID_WIDTH, left + width)
        frames[at + i, 0, :, first:last] = texture[:, first - left : last - left]
        frames[at + i, 1:, :, first:last] = 128
    return frames


def _light(frames: Floats, at: int, rng: Rng) -> Floats:
    """Somebody switches the light."""
    share = np.clip((np.arange(len(frames)) - at) / rng.integers(2, 13), 0, 1)[:, None, None]
    gain, offset = rng.uniform(0.3, 2.2), rng.uniform(-40, 40)
    frames[:, 0] = frames[:, 0] * (1 + (gain - 1) * share) + offset * share
    if rng.random() < 0.3:
        frames[:, 1:] += rng.normal(0, 15, (1, 2, 1, 1)) * share[:, None]
    return frames


def _caption(frames: Floats, at: int, rng: Rng) -> Floats:
    """A caption or a logo comes and goes."""
    height, width = int(rng.integers(3, 12)), int(rng.integers(10, GRID_WIDTH))
    if height * width > MAX_CAPTION_AREA * GRID_HEIGHT * GRID_WIDTH:
        return frames
    top = int(rng.integers(GRID_HEIGHT - height))
    left = int(rng.integers(GRID_WIDTH - width + 1))
    shown = slice(at, at + int(rng.integers(4, len(frames) - at)))
    letters = rng.normal(rng.uniform(0, 255), rng.uniform(0, 60), (height, width))
    frames[shown, 0, top : top + height, left : left + width] = letters
    return frames


def _on_twos(frames: Floats, at: int, rng: Rng) -> Floats:
    """Every picture is held for two or three frames, as in animation."""
    hold = int(rng.choice([2, 2, 3]))
    return frames[np.arange(len(frames)) // hold * hold]


def _strobe(frames: Floats, at: int, rng: Rng) -> Floats:
    """A stroboscope, even or uneven: white, black, bright or dim every few frames."""
    looks = ((0.0, 235.0), (0.0, 16.0), (0.3, 180.0), (rng.uniform(0.2, 0.5), 0.0))
    gain, offset = looks[int(rng.integers(len(looks)))]
    on, off = rng.integers(1, 4, 2)
    is_even = rng.random() < 0.5
    for i in range(at, min(len(frames) - 2, at + int(rng.integers(8, 25)))):
        if (i - at) % (on + off) < on if is_even else rng.random() < 0.5:
            frames[i, 0] = frames[i, 0] * gain + offset
    return frames


def _flicker(frames: Floats, at: int, rng: Rng) -> Floats:
    """An old film's uneven exposure."""
    frames[:, 0] *= 1 + rng.normal(0, rng.uniform(0.02, 0.12), (len(frames), 1, 1))
    return frames


_EVENTS: tuple[Callable[[Floats, int, Rng], Floats] | None, ...] = (
    None, _flash, _bright, _occluder, _light, _caption, _on_twos, _strobe, _flicker,
)  # fmt: skip


def plain(count: int, rng: Rng) -> Floats:
    """Return frames of one colour, mostly black or white."""
    luma = rng.choice([0.0, 16.0, 235.0, 255.0, rng.uniform(0, 255)], p=[0.3, 0.35, 0.1, 0.1, 0.15])
    chroma = rng.uniform(60, 200, 2) if rng.random() < 0.2 else (128.0, 128.0)
    frames = np.empty((count, 3, GRID_HEIGHT, GRID_WIDTH), np.float32)
    frames[:] = np.array([luma, *chroma])[:, None, None]
    return frames


def title(count: int, rng: Rng, background: Floats | None = None) -> Floats:
    """Return letters on a plain background [1, 3, H, W], or on a new one."""
    still = plain(1, rng) if background is None else background.copy()
    ink = 235.0 if still[0, 0].mean() < 128 else 20.0
    letters = np.zeros((GRID_HEIGHT * 4, GRID_WIDTH * 4), np.uint8)
    smallest = rng.choice([0.25, 0.4, 0.7])
    for _ in range(rng.integers(1, 6)):
        words = "".join(
            chr(rng.integers(65, 91)) if rng.random() < 0.85 else " "
            for _ in range(rng.integers(3, 18))
        )
        place = int(rng.integers(5, 120)), int(rng.integers(20, 140))
        size, weight = float(rng.uniform(smallest, 2 * smallest)), int(rng.integers(1, 4))
        cv2.putText(letters, words, place, cv2.FONT_HERSHEY_SIMPLEX, size, 255, weight, cv2.LINE_AA)
    size_px = (GRID_WIDTH, GRID_HEIGHT)
    smooth = cv2.resize(letters, size_px, interpolation=cv2.INTER_AREA)
    # Analysis reads few samples of a cell, so thin letters come out uneven.
    share = (smooth if rng.random() < 0.5 else letters[2::4, 2::4]).astype(np.float32) / 255.0
    still[:, 0] = still[:, 0] * (1 - share) + ink * share
    return np.repeat(still, count, axis=0)


def scrolled_page(count: int, rng: Rng) -> Floats:
    """Return a page of text that is scrolled evenly: everything changes, and nothing is cut."""
    still = plain(1, rng)
    parts = [title(1, rng, background=still) for _ in range(6)]
    page = np.concatenate(parts, axis=2)  # [1, 3, 6 * H, W]
    speed = min(rng.choice([0.3, 1.0, 2.5, 5.0]), 5 * GRID_HEIGHT / count)
    tops = (np.arange(count) * speed).astype(int)
    return np.concatenate([page[:, :, top : top + GRID_HEIGHT] for top in tops])


def picture_in_picture(frames: Floats, inner: Floats, rng: Rng) -> None:
    """Show `inner` [n, 3, H, W] small in a corner; its cuts are not the film's."""
    height, width = int(rng.integers(8, 20)), int(rng.integers(12, 33))
    top = int(rng.integers(GRID_HEIGHT - height + 1))
    left = int(rng.integers(GRID_WIDTH - width + 1))
    frames[:, :, top : top + height, left : left + width] = resized(inner, height, width)


def weaken(frames: Floats, rng: Rng) -> Floats:
    """Return the film darker or with less contrast, or without colour, as some are."""
    if rng.random() < 0.35:
        gain = rng.uniform(0.12, 1.0)
        offset = rng.choice([0.0, 16.0, rng.uniform(0, 235 * (1 - gain))])
        frames[:, 0] = frames[:, 0] * gain + offset
        frames[:, 1:] = (frames[:, 1:] - 128) * rng.uniform(gain * 0.5, 1) + 128
    if rng.random() < 0.12:
        frames[:, 1:] = 128
    return frames


def put_between_bars(frames: Floats, rng: Rng) -> Floats:
    """Return the film between bars: at the sides, above and below, all around, or blurred."""
    kind = rng.choice(["letterbox", "pillarbox", "window", "blurred"])
    top = bottom = left = right = 0
    if kind in ("letterbox", "window"):
        top = int(rng.integers(1, 11))
        bottom = top if rng.random() < 0.85 else int(rng.integers(0, 11))
    if kind in ("pillarbox", "window"):
        left = int(rng.integers(2, 23))
        right = left if rng.random() < 0.85 else int(rng.integers(0, 23))
    if kind == "blurred":
        left = right = int(rng.integers(8, 22))
        blurred = [cv2.GaussianBlur(f.transpose(1, 2, 0), (0, 0), 6) for f in frames]
        around = np.stack(blurred).transpose(0, 3, 1, 2) * 0.7
        around[:, 1:] += 128 * 0.3
    else:
        level = rng.choice([0.0, 16.0, rng.uniform(0, 40)])
        around = np.empty_like(frames)
        around[:] = np.array([level if rng.random() < 0.92 else 200.0, 128.0, 128.0])[:, None, None]
    height, width = GRID_HEIGHT - top - bottom, GRID_WIDTH - left - right
    inside = (slice(top, top + height), slice(left, left + width))
    around[:, :, *inside] = resized(frames, height, width)
    if top >= 4 and rng.random() < 0.1:
        around[:, 0, 1:3, 50:58] = rng.uniform(50, 200)  # a channel's logo in the bar
    return np.asarray(around, np.float32)


def add_noise(frames: Floats, rng: Rng) -> Floats:
    """Return the film with the noise of its sensor and of its compression."""
    deviation = rng.choice([0.0, 0.5, 1.5, 4.0], p=[0.3, 0.4, 0.2, 0.1])
    noise = rng.normal(0, deviation, frames.shape) if deviation else np.zeros((1, 3, 1, 1))
    shares = np.array([1.0, 0.4, 0.4])[:, None, None]  # of luma's noise
    return np.asarray(frames + noise * shares, np.float32)
