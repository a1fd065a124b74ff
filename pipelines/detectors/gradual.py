"""Gradual transitions: dissolves, fades and wipes, found by fitting a blend of two frames.

In a dissolve each frame between A and B is close to A + weight * (B - A) with a weight that rises
from 0 to 1; in a wipe each pixel is either A's or B's, ever more of them B's. A fade through black
(or white) is two dissolves that meet in a flat frame. A moving camera is neither: its frames are
no blend of two others.

N: pixels of a thumbnail; M: frames between A and B that are looked at.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.detectors.base import GRID_HEIGHT, GRID_WIDTH, SmallFrames, Transition

Floats = NDArray[np.float32]

LENGTHS_S = (0.4, 0.7, 1.2, 2.0)
FADE_LENGTHS_S = (0.2, 0.3, 0.4, 0.7)  # of one half, into or out of an even picture
MIN_STRUCTURE = 0.3  # 1 - correlation of A and B
# A transition changes the whole picture; a figure that comes or goes changes a part of it.
MIN_BLOCK_CHANGE = 20.0  # root mean square difference of A and B in the median of 3 x 4 blocks
MIN_AREA = 0.5  # share of pixels that differ by more than SAME_LUMA
SAME_LUMA = 8.0
MAX_RESIDUAL = 0.04  # share of the change that the blend leaves unexplained
# Two pictures one over the other have less contrast than either, however they move.
MAX_RESIDUAL_OF_DIP = 0.08
MIN_DIP = 0.3  # of the contrast's power half-way
MAX_ROUGH_RESIDUAL = 0.15  # of a window that may hold a transition and more
MAX_STEP = 0.2  # more weight than this in one frame is a cut or a flash
MAX_FADE_STEP = 0.35  # two pictures cannot be mistaken for an even one's neighbours
# A camera that turns to something else switches pixels too, if less cleanly than a wipe.
MAX_WIPE_RESIDUAL = 0.03
MIN_WIPE_STRUCTURE = 0.6
MIN_WIPE_AREA = 0.7
MAX_CLEAN_RESIDUAL = 0.01  # no camera switches pixels as cleanly
MIN_CLEAN_STRUCTURE = 0.5
MAX_HASTE = 2.5  # fastest step of a transition, as a multiple of its mean step
FLAT_STD = 6.0
JOIN_S = 0.6
EDGE_S = 0.4  # a picture seen for no longer than this at the end of the file is no shot
RETURN_STRUCTURE = 0.15  # two frames closer than this show the same view
LOOK_EVERY = 4


@dataclass(frozen=True)
class _Thumbnail:
    index: int
    luma: Floats  # [N]
    centred: Floats  # [N], its mean taken off
    power: float  # sum of squares of `centred`
    is_flat: bool


@dataclass(frozen=True)
class Blend:
    """How well the frames between A and B are a blend of the two.

    `weights` [M] is how much of B each frame holds; `residual` the unexplained share of change.
    """

    weights: Floats
    residual: float


def fit_dissolve(first: Floats, last: Floats, between: Floats) -> Blend:
    """Fit each frame of `between` [M, N] as `first` + weight * (`last` - `first`)."""
    change = last - first  # [N]
    energy = float(change @ change)
    offset = between - first  # [M, N]
    weights = offset @ change / energy  # [M]
    rest = offset - weights[:, None] * change
    return Blend(weights, float((rest * rest).sum(1).mean()) / energy)


def fit_wipe(first: Floats, last: Floats, between: Floats) -> Blend:
    """Fit each pixel of `between` [M, N] as either `first`'s or `last`'s."""
    change = last - first
    energy = float(change @ change)
    to_first, to_last = (between - first) ** 2, (between - last) ** 2  # [M, N]
    switched = to_last < to_first
    weights = (switched * change**2).sum(1) / energy  # [M]
    rest = np.minimum(to_first, to_last)
    return Blend(weights.astype(np.float32), float(rest.sum(1).mean()) / energy)


class GradualFinder:
    """Merges gradual transitions into a detector's cuts, in order of time."""

    def __init__(self, *, fps: float) -> None:
        self._lengths = sorted({max(6, round(s * fps)) for s in LENGTHS_S})
        self._fade_lengths = sorted({max(4, round(s * fps)) for s in FADE_LENGTHS_S})
        self._join_frames = round(JOIN_S * fps)
        self._edge_frames = round(EDGE_S * fps)
        longest = self._lengths[-1]
        self._recent: deque[_Thumbnail] = deque(maxlen=longest + 1)
        self._cuts: list[Transition] = []
        self._found: list[Transition] = []
        # What is needed to look at both sides of a transition when it is released.
        self._history: deque[_Thumbnail] = deque(maxlen=6 * longest)
        self._first_index = 0
        self._last_end = 0
        self._next_index = 0
        self._last_turn = 0  # the last frame that is even after one that is not, or the reverse
        # A fade is joined only after its second half was seen whole.
        self.max_delay = 2 * longest + self._join_frames

    def update(self, frames: SmallFrames, cuts: Sequence[Sequence[Transition]]) -> list[Transition]:
        """Take frames and, for each of them, the cuts that a detector found when it saw it."""
        released = []
        for thumbnail, found in zip(_thumbnails(frames), cuts, strict=True):
            released += self._take(thumbnail, found)
        return released

    def _take(self, thumbnail: _Thumbnail, cuts: Sequence[Transition]) -> list[Transition]:
        was_flat = bool(self._recent) and self._recent[-1].is_flat
        if thumbnail.is_flat != was_flat:
            self._last_turn = thumbnail.index
        self._recent.append(thumbnail)
        self._history.append(thumbnail)
        self._next_index = thumbnail.index + 1
        self._cuts += cuts
        if thumbnail.index % LOOK_EVERY == 0:
            self._look_back()
        if thumbnail.index - self._last_turn <= self._fade_lengths[-1]:
            self._look_for_fades()
        before = thumbnail.index - self.max_delay
        if all(t.end_frame >= before for t in (*self._cuts, *self._found)):
            return []
        return self._release(before)

    def finish(self, cuts: list[Transition]) -> list[Transition]:
        """Return all that is still open."""
        self._cuts += cuts
        self._look_back()
        return [self._at_end(found) for found in self._release(None)]

    def _look_back(self) -> None:
        """Ask of each length whether a gradual transition has just ended."""
        frames = list(self._recent)
        for length in self._lengths:
            if len(frames) <= length:
                return
            window = frames[-length - 1 :]
            if any(_is_cut_inside(window, cut.start_frame) for cut in self._cuts):
                return
            found = _judge(window)
            if found is not None:
                self._add(found)

    def _look_for_fades(self) -> None:
        """Ask whether a fade ends in the first frame of an even picture, or began in its last."""
        frames = list(self._recent)
        for length in self._fade_lengths:
            if len(frames) <= length:
                return
            window = frames[-length - 1 :]
            fades_out = window[-1].is_flat and not window[-2].is_flat
            fades_in = window[0].is_flat and not window[1].is_flat
            if fades_out or fades_in:
                found = _judge(window, max_step=MAX_FADE_STEP)
                if found is not None:
                    self._add(found)

    def _add(self, found: Transition) -> None:
        """Keep the best of those that overlap."""
        rivals = [f for f in self._found if _overlap(f, found)]
        if all(found.score > rival.score for rival in rivals):
            self._found = [f for f in self._found if f not in rivals] + [found]

    def _release(self, before: int | None) -> list[Transition]:
        """Judge and hand out what ended before frame `before`; None for all."""
        settled = [g for g in self._joined() if before is None or g.end_frame < before]
        self._found = [f for f in self._found if not any(_overlap(f, g) for g in settled)]
        gradual = [g for g in settled if not self._comes_back(g)]
        self._cuts = [c for c in self._cuts if not any(_holds(g, c.start_frame) for g in gradual)]
        cuts = [c for c in self._cuts if before is None or c.start_frame < before]
        self._cuts = self._cuts[len(cuts) :]
        ready = sorted([*cuts, *gradual], key=_start)
        if ready:
            self._last_end = ready[-1].end_frame
        return ready

    def _joined(self) -> list[Transition]:
        """Join what is one transition: two halves of a fade, pieces of a long dissolve."""
        joined: list[Transition] = []
        for found in sorted(self._found, key=_start):
            if joined and self._is_one(joined[-1], found):
                first = joined.pop()
                score = min(first.score, found.score)
                found = Transition("gradual", first.start_frame, found.end_frame, score)
            joined.append(found)
        return [self._at_start(found) for found in joined]

    def _is_one(self, first: Transition, second: Transition) -> bool:
        gap = range(first.end_frame, second.start_frame)
        if len(gap) <= 2:
            return True
        return len(gap) <= self._join_frames and self._are_flat(gap)

    def _are_flat(self, frames: range) -> bool:
        num_flat = sum(t.is_flat for t in self._history if t.index in frames)
        return num_flat >= 0.8 * len(frames)

    def _comes_back(self, found: Transition) -> bool:
        """Tell whether the view after is one that was there shortly before: something passed."""
        reach = self._lengths[-1]
        before = range(found.start_frame - reach, found.start_frame)
        after = range(found.end_frame, found.end_frame + reach)
        left = [t for t in self._history if t.index in before and not t.is_flat][::3]
        right = [t for t in self._history if t.index in after and not t.is_flat][::3]
        return any(_structure(a, b) < RETURN_STRUCTURE for a in left for b in right)

    def _at_start(self, found: Transition) -> Transition:
        """A fade in at the start of the file begins with the file."""
        before = range(self._first_index, found.start_frame)
        if self._last_end > self._first_index or not self._are_flat(before):
            return found
        return Transition("gradual", self._first_index, found.end_frame, found.score)

    def _at_end(self, found: Transition) -> Transition:
        """A fade out at the end of the file ends with the file."""
        after = range(found.end_frame, self._next_index)
        if found.kind == "cut" or (len(after) > self._edge_frames and not self._are_flat(after)):
            return found
        return Transition("gradual", found.start_frame, self._next_index, found.score)


def _is_cut_inside(window: list[_Thumbnail], frame: int) -> bool:
    """Tell whether a hard cut at `frame` parts the window.

    What looks like a cut out of an even picture may be the first frame of a fade in.
    """
    place = frame - window[0].index
    return 0 < place < len(window) and not window[place - 1].is_flat


def _judge(window: list[_Thumbnail], *, max_step: float = MAX_STEP) -> Transition | None:
    """Return the gradual transition that the frames of `window` hold, None if there is none.

    `max_step` is the most weight that may change from one frame to the next.
    """
    first, last = window[0].luma, window[-1].luma
    structure = _structure(window[0], window[-1])
    # A picture that has all but faded is still like the one it was.
    fades = window[0].is_flat != window[-1].is_flat
    if structure < MIN_STRUCTURE and not fades:
        return None
    area = float((np.abs(last - first) > SAME_LUMA).mean())
    if area < MIN_AREA:
        return None
    change = _median_block(last - first)
    if change < MIN_BLOCK_CHANGE:
        return None
    between = np.stack([thumbnail.luma for thumbnail in window])  # [M, N]
    blend = fit_dissolve(first, last, between)
    if blend.residual > (MAX_RESIDUAL_OF_DIP if _dips(window, blend) else MAX_RESIDUAL):
        core = _core(window, blend)
        found = None if core is None else _judge(core, max_step=max_step)
        if found is not None:
            return found
        blend = fit_wipe(first, last, between)
        if blend.residual > MAX_WIPE_RESIDUAL or area < MIN_WIPE_AREA:
            return None
        is_clean = blend.residual < MAX_CLEAN_RESIDUAL
        if structure < (MIN_CLEAN_STRUCTURE if is_clean else MIN_WIPE_STRUCTURE):
            return None
    inside = np.flatnonzero((blend.weights > 0.04) & (blend.weights < 0.96))
    if len(inside) < 3 or not _rises(blend.weights, len(inside), max_step):
        return None
    start, end = window[int(inside[0])].index, window[int(inside[-1])].index + 1
    # A part of a dissolve is a dissolve too: the larger change is the whole.
    score = (1.0 - blend.residual) * change / (change + MIN_BLOCK_CHANGE)
    return Transition("gradual", start, end, score)


def _dips(window: list[_Thumbnail], blend: Blend) -> bool:
    """Tell whether contrast sinks half-way, as it does where two pictures lie over each other."""
    middle = window[int(np.abs(blend.weights - 0.5).argmin())].power
    return 2.0 * middle < (1.0 - MIN_DIP) * (window[0].power + window[-1].power)


def _core(window: list[_Thumbnail], blend: Blend) -> list[_Thumbnail] | None:
    """Return the frames in which a roughly fitted dissolve goes from 0 to 1, if they are fewer.

    What moves before and after a dissolve is no part of it.
    """
    if blend.residual > MAX_ROUGH_RESIDUAL:
        return None
    inside = np.flatnonzero((blend.weights > 0.08) & (blend.weights < 0.92))
    if len(inside) < 3:
        return None
    core = window[max(0, int(inside[0]) - 1) : int(inside[-1]) + 2]
    return core if len(core) < len(window) and _dips(window, blend) else None


def _median_block(change: Floats) -> float:
    """Return the root mean square of the median of 3 x 4 blocks of a thumbnail [N]."""
    rows, columns = GRID_HEIGHT // 2 // 3, GRID_WIDTH // 2 // 4
    blocks = (change * change).reshape(3, rows, 4, columns).mean((1, 3))
    return float(np.sqrt(np.median(blocks)))


def _rises(weights: Floats, num_inside: int, max_step: float) -> bool:
    """Tell whether weights go from 0 to 1 steadily: no way back, no jump, no sudden haste."""
    steps = np.diff(weights)
    return bool(steps.min() > -0.06 and steps.max() < min(max_step, MAX_HASTE / num_inside))


def _structure(first: _Thumbnail, last: _Thumbnail) -> float:
    floor = 4.0 * first.luma.size
    power = (first.power + floor) * (last.power + floor)
    return 1.0 - (float(first.centred @ last.centred) + floor) / math.sqrt(power)


def _thumbnails(frames: SmallFrames) -> list[_Thumbnail]:
    rows, columns = GRID_HEIGHT // 2, GRID_WIDTH // 2
    halves = frames.planes[:, 0].reshape(-1, rows, 2, columns, 2)
    luma = halves.sum((2, 4), dtype=np.uint16).reshape(-1, rows * columns) * np.float32(0.25)
    centred = luma - luma.mean(1, keepdims=True)  # [B, N]
    powers = np.einsum("bn,bn->b", centred, centred)  # [B]
    flat = powers < FLAT_STD**2 * luma.shape[1]
    return [
        _Thumbnail(frames.first + i, luma[i], centred[i], float(powers[i]), bool(flat[i]))
        for i in range(len(luma))
    ]


def _start(transition: Transition) -> int:
    return transition.start_frame


def _overlap(a: Transition, b: Transition) -> bool:
    return a.start_frame < b.end_frame and b.start_frame < a.end_frame


def _holds(span: Transition, frame: int) -> bool:
    return span.start_frame <= frame < span.end_frame
