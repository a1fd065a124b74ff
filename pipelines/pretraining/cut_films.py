"""Films made of single shots whose cuts are known exactly: what the shot detector learns from.

Shots are joined by cuts, dissolves, fades, wipes and pushes; things that are no cut happen in them
(cut_events.py); the film as a whole gets bars, noise and another frame rate.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.detectors.base import GRID_HEIGHT, GRID_WIDTH
from pipelines.pretraining.cut_events import (
    add_events,
    add_noise,
    picture_in_picture,
    plain,
    put_between_bars,
    scrolled_page,
    title,
    weaken,
)
from pipelines.pretraining.cut_shots import Footage, resized, take

Floats = NDArray[np.float32]
Rng = np.random.Generator

NUM_SHOTS = 10
FPS = (24.0, 25.0, 30.0, 12.0, 60.0, 50.0)
FPS_SHARES = (0.4, 0.2, 0.2, 0.06, 0.07, 0.07)


@dataclass(frozen=True)
class CutFilm:
    """Frames uint8 [n, 3, H, W], the first frames of its shots, and the spans [first, last] of its
    gradual transitions: neither a cut nor certainly none begins there."""

    frames: NDArray[np.uint8]
    cuts: tuple[int, ...]
    gradual: tuple[tuple[int, int], ...]
    fps: float


@dataclass(frozen=True)
class Style:
    """How a film is edited: the share of its joins that are cuts, whether its shots are mostly
    short, and whether much moves in them."""

    share_of_cuts: float = 0.72
    is_montage: bool = False
    is_busy: bool = False


STYLES = (Style(), Style(is_montage=True), Style(share_of_cuts=0.25), Style(0.9, is_busy=True))
STYLE_SHARES = (0.48, 0.2, 0.24, 0.08)


@dataclass
class _Reel:
    """A film in the making."""

    parts: list[Floats] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    gradual: list[tuple[int, int]] = field(default_factory=list)
    length: int = 0

    def cut_to(self, frames: Floats, inner_cuts: list[int] | None = None) -> None:
        """Append frames after a cut."""
        if self.parts:
            self.cuts.append(self.length)
        self.append(frames, inner_cuts)

    def append(self, frames: Floats, inner_cuts: list[int] | None = None) -> None:
        """Append frames without a cut before them."""
        self.cuts += [self.length + cut for cut in inner_cuts or []]
        self.parts.append(frames)
        self.length += len(frames)


def make_film(footage: Footage, rng: Rng) -> CutFilm:
    """Return a film of random shots of `footage`."""
    reel = _Reel()
    style = STYLES[int(rng.choice(len(STYLES), p=STYLE_SHARES))]
    source = ""
    for _ in range(NUM_SHOTS):
        length = _shot_length(rng, is_montage=style.is_montage)
        source, frames, inner_cuts = _shot(footage, length, source, reel, style, rng)
        if source == "plain" and reel.parts and np.ptp(reel.parts[-1]) == 0:
            continue  # black cut to black is no cut
        _join(reel, frames, inner_cuts, style.share_of_cuts, rng)
    return _finish(reel, rng)


def _shot_length(rng: Rng, *, is_montage: bool) -> int:
    shares = (0.35, 0.4, 0.25) if is_montage else (0.06, 0.2, 0.74)
    low, high = ((3, 7), (6, 16), (16, 50))[int(rng.choice(3, p=shares))]
    return int(rng.integers(low, high))


def _shot(
    footage: Footage, length: int, source: str, reel: _Reel, style: Style, rng: Rng
) -> tuple[str, Floats, list[int]]:
    """Return a shot's source, its frames, and the cuts inside it."""
    kind = rng.random()
    if kind < 0.04:
        return "plain", plain(min(length, 30), rng), []
    follows = source == "title" and rng.random() < 0.5
    if kind < 0.13 or follows:
        return "title", title(length, rng, reel.parts[-1][-1:] if follows else None), []
    if kind < 0.15:
        return "page", scrolled_page(length, rng), []
    shot = footage.sample(rng, other_than=source)
    frames = take(shot, length, rng, is_fast=style.is_busy)
    frames = add_events(frames, rng, most=4 if style.is_busy else 2)
    inner_cuts = []
    if length >= 20 and rng.random() < 0.22:  # a short look at something else
        count = int(rng.choice([3, 3, 4, 4, 5, 5, 6, 7, 8]))
        at = int(rng.integers(6, length - count - 5))
        other = footage.sample(rng, other_than=shot.source)
        frames[at : at + count] = take(other, count, rng)
        inner_cuts = [at, at + count]
    if length >= 24 and rng.random() < 0.15:
        at = int(rng.integers(6, length - 6))
        halves = [take(footage.sample(rng), n, rng) for n in (at, length - at)]
        picture_in_picture(frames, np.concatenate(halves), rng)
    return shot.source, frames, inner_cuts


def _join(
    reel: _Reel, frames: Floats, inner_cuts: list[int], share_of_cuts: float, rng: Rng
) -> None:
    """Append a shot by one kind of transition."""
    if rng.random() < 0.08 and reel.parts:
        _jump(reel, rng)
    kind = 0.72 + 0.28 * (rng.random() - share_of_cuts) / (1.0 - share_of_cuts)
    shortest = min(len(frames), len(reel.parts[-1])) if reel.parts else 0
    if kind < 0.72 or shortest < 10 or inner_cuts:
        is_clean = rng.random() > 0.08 or shortest < 4
        if is_clean or inner_cuts:
            reel.cut_to(frames, inner_cuts)
        else:  # the fields of an interlaced frame belong to two shots
            reel.parts[-1][-1] = (reel.parts[-1][-1] + frames[0]) / 2
            reel.gradual.append((reel.length - 1, reel.length))
            reel.append(frames)
    elif kind < 0.86:
        _blend(reel, frames, int(rng.integers(4, max(5, min(shortest, 40) - 3))), rng)
    elif kind < 0.91:
        _fade(reel, frames, int(rng.integers(2, max(3, min(20, shortest - 2)))), rng)
    elif kind < 0.94:
        _push(reel, frames, int(rng.integers(4, max(5, min(shortest, 40) - 3))))
    elif kind < 0.97:
        reel.cut_to(plain(int(rng.integers(1, 24)), rng))
        reel.cut_to(frames)
    else:  # a white flash hides the cut
        count = int(rng.integers(1, 4))
        share = rng.uniform(0.7, 1, (count, 1, 1))
        frames[:count, 0] = frames[:count, 0] * (1 - share) + 245 * share
        reel.gradual.append((reel.length, reel.length + count))
        reel.append(frames)


def _jump(reel: _Reel, rng: Rng) -> None:
    """Cut within the last shot: leave some of it out, or move closer. Unclear if hardly seen."""
    frames = reel.parts[-1]
    later = frames[int(len(frames) * rng.uniform(0.4, 0.8)) :].copy()
    earlier = frames[: int(len(frames) * rng.uniform(0.2, 0.4))]
    if len(earlier) < 3 or len(later) < 3:
        return
    if rng.random() < 0.5:
        height = int(GRID_HEIGHT * rng.uniform(0.5, 0.85))
        width = height * GRID_WIDTH // GRID_HEIGHT
        top, left = rng.integers(GRID_HEIGHT - height), rng.integers(GRID_WIDTH - width)
        part = later[:, :, top : top + height, left : left + width]
        later = resized(np.ascontiguousarray(part), GRID_HEIGHT, GRID_WIDTH)
    start = reel.length - len(frames)
    if any(start < cut for cut in reel.cuts) or any(start <= last for _, last in reel.gradual):
        return  # what is known of the shot would move
    step = float(np.abs(earlier[-1] - later[0])[0].mean())
    usual = max(float(np.abs(np.diff(part[:, 0], axis=0)).mean()) for part in (earlier, later))
    contrast = float(later[:, 0].std()) + 3.0
    reel.parts[-1] = np.concatenate([earlier, later])
    reel.length = start + len(earlier)
    if step > 3.0 * usual and step > 0.25 * contrast:
        reel.cuts.append(reel.length)
    elif step > 1.5 * usual:
        reel.gradual.append((reel.length, reel.length))
    reel.length += len(later)


def _overlap(reel: _Reel, frames: Floats, mixed: Floats) -> None:
    """Put `mixed` in place of the last frames of the film and the first of the next shot."""
    count = len(mixed)
    reel.parts[-1][-count:] = mixed
    margin = 1 if count <= 5 else 0
    reel.gradual.append((reel.length - count - margin, reel.length - 1 + 2 * margin))
    reel.append(frames[count:])


def _blend(reel: _Reel, frames: Floats, count: int, rng: Rng) -> None:
    """Join by a dissolve or by a wipe in any direction."""
    before, after = reel.parts[-1][-count:], frames[:count]
    share = ((np.arange(count) + 1) / (count + 1))[:, None, None, None]
    if rng.random() < 0.6:
        _overlap(reel, frames, (before * (1 - share) + after * share).astype(np.float32))
        return
    x, y = np.meshgrid(np.linspace(0, 1, GRID_WIDTH), np.linspace(0, 1, GRID_HEIGHT))
    angle = rng.uniform(0, 2 * np.pi)
    order = x * np.cos(angle) + y * np.sin(angle)
    order = (order - order.min()) / np.ptp(order)
    _overlap(reel, frames, np.where(order < share, after, before).astype(np.float32))


def _push(reel: _Reel, frames: Floats, count: int) -> None:
    """Join by a shot that pushes the last one out."""
    both = np.concatenate([reel.parts[-1][-count:], frames[:count]], axis=3)
    lefts = ((np.arange(count) + 1) / (count + 1) * GRID_WIDTH).astype(int)
    pushed = [f[..., left : left + GRID_WIDTH] for f, left in zip(both, lefts, strict=True)]
    _overlap(reel, frames, np.stack(pushed))


def _fade(reel: _Reel, frames: Floats, count: int, rng: Rng) -> None:
    """Join by a fade through black or white."""
    share = ((np.arange(count) + 1) / (count + 1))[:, None, None, None]
    colour = np.array([rng.choice([0.0, 16.0, 235.0]), 128.0, 128.0])[:, None, None]
    reel.parts[-1][-count:] = reel.parts[-1][-count:] * (1 - share) + colour * share
    frames[:count] = colour * (1 - share) + frames[:count] * share
    hold = np.zeros((int(rng.integers(0, 8)), *frames.shape[1:]), np.float32) + colour
    reel.gradual.append((reel.length - count, reel.length + len(hold) + count - 1))
    reel.append(np.concatenate([hold, frames]).astype(np.float32))


def _finish(reel: _Reel, rng: Rng) -> CutFilm:
    """Give the whole film its picture, its bars, its frame rate and its noise."""
    frames = weaken(np.concatenate(reel.parts), rng)
    if rng.random() < 0.4:
        frames = put_between_bars(np.clip(frames, 0, 255), rng)
    cuts, gradual = reel.cuts, reel.gradual
    if rng.random() < 0.12:  # fewer frames per second
        step = int(rng.choice([2, 3, 5]))
        frames = frames[::step]
        # A shot that no frame is left of is no shot: two cuts at one frame are one.
        cuts = [-(-cut // step) for cut in cuts]
        gradual = [(first // step, -(-last // step)) for first, last in gradual]
        doubled = {cut for cut in cuts if cuts.count(cut) > 1}
        gradual += [(cut, cut) for cut in doubled]
        cuts = [cut for cut in cuts if cut not in doubled]
    if rng.random() < 0.08:  # every frame twice
        frames = np.repeat(frames, 2, axis=0)
        cuts = [2 * cut for cut in cuts]
        gradual = [(2 * first, 2 * last + 1) for first, last in gradual]
    noisy = np.clip(np.round(add_noise(frames, rng)), 0, 255).astype(np.uint8)
    kept = sorted({cut for cut in cuts if cut < len(noisy)})
    fps = float(rng.choice(FPS, p=FPS_SHARES))
    return CutFilm(noisy, tuple(kept), tuple(gradual), fps)
