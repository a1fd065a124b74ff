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

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.curation.detectors.base import GRID_HEIGHT, GRID_WIDTH, SmallFrames, Transition

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
LOOK_EVERY = 4  # frames; a window of n times LONG_FRAMES is looked at n times as rarely
LONG_FRAMES = 24
_ROWS, _COLUMNS = GRID_HEIGHT // 2, GRID_WIDTH // 2


@dataclass(frozen=True, slots=True)
class _Thumbnail:
    index: int
    luma: Floats  # [N]
    centred: Floats  # [N], its mean taken off
    power: float  # sum of squares of `centred`
    is_flat: bool


@dataclass(frozen=True, slots=True)
class _Window:
    """M frames in a row, and the luma of all of them, [M, N]."""

    frames: Sequence[_Thumbnail]
    luma: Floats

    def part(self, start: int, stop: int | None) -> _Window:
        """Return the frames `[start, stop)` of these; counted from the end if negative."""
        return _Window(self.frames[start:stop], self.luma[start:stop])


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
    # What is left is at right angles to the change, so its square is a difference of squares.
    rest = float(np.vdot(offset, offset)) - float(weights @ weights) * energy
    return Blend(weights, max(0.0, rest) / len(between) / energy)


def fit_wipe(first: Floats, last: Floats, between: Floats) -> Blend:
    """Fit each pixel of `between` [M, N] as either `first`'s or `last`'s."""
    change = last - first
    power = change * change  # [N]
    energy = float(power.sum())
    offset = between - first  # [M, N]
    # A pixel's square distance from `first` less that from `last`: above 0 it has switched.
    nearer = (2.0 * change) * offset - power
    weights = (nearer > 0).astype(np.float32) @ power / energy  # [M]
    rest = float(np.vdot(offset, offset)) - float(np.maximum(nearer, 0.0, out=nearer).sum())
    return Blend(weights, max(0.0, rest) / len(between) / energy)


class GradualFinder:
    """Merges gradual transitions into a detector's cuts, in order of time."""

    def __init__(self, *, fps: float) -> None:
        self._lengths = sorted({max(6, round(s * fps)) for s in LENGTHS_S})
        self._fade_lengths = sorted({max(4, round(s * fps)) for s in FADE_LENGTHS_S})
        self._join_frames = round(JOIN_S * fps)
        self._edge_frames = round(EDGE_S * fps)
        longest = self._lengths[-1]
        self._recent = _Window([], np.empty((0, _ROWS * _COLUMNS), np.float32))
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
        longest = self._lengths[-1]
        before, new = self._recent.part(-longest, None), _thumbnails(frames)
        self._recent = _Window(
            [*before.frames, *new.frames], np.concatenate([before.luma, new.luma])
        )
        released = []
        stops = range(len(before.frames) + 1, len(self._recent.frames) + 1)
        for stop, found in zip(stops, cuts, strict=True):
            released += self._take(self._recent.part(max(0, stop - longest - 1), stop), found)
        return released

    def _take(self, recent: _Window, cuts: Sequence[Transition]) -> list[Transition]:
        """Take the last of the recent frames and the cuts that were found with it."""
        thumbnail = recent.frames[-1]
        was_flat = len(recent.frames) > 1 and recent.frames[-2].is_flat
        if thumbnail.is_flat != was_flat:
            self._last_turn = thumbnail.index
        self._history.append(thumbnail)
        self._next_index = thumbnail.index + 1
        self._cuts += cuts
        if thumbnail.index % LOOK_EVERY == 0:
            self._look_back(recent, thumbnail.index // LOOK_EVERY)
        if thumbnail.index - self._last_turn <= self._fade_lengths[-1]:
            self._look_for_fades(recent)
        before = thumbnail.index - self.max_delay
        if all(t.end_frame >= before for t in (*self._cuts, *self._found)):
            return []
        return self._release(before)

    def finish(self, cuts: list[Transition]) -> list[Transition]:
        """Return all that is still open."""
        self._cuts += cuts
        self._look_back(self._recent.part(-self._lengths[-1] - 1, None), 0)
        return [self._at_end(found) for found in self._release(None)]

    def _look_back(self, recent: _Window, look: int) -> None:
        """Ask of each length whose turn it is whether a gradual transition has just ended."""
        for length in self._lengths:
            if len(recent.frames) <= length:
                return
            window = recent.part(-length - 1, None)
            if any(_is_cut_inside(window.frames, cut.start_frame) for cut in self._cuts):
                return
            if look % max(1, length // LONG_FRAMES):
                continue
            found = _judge(window)
            if found is not None:
                self._add(found)

    def _look_for_fades(self, recent: _Window) -> None:
        """Ask whether a fade ends in the first frame of an even picture, or began in its last."""
        for length in self._fade_lengths:
            if len(recent.frames) <= length:
                return
            window = recent.part(-length - 1, None)
            frames = window.frames
            fades_out = frames[-1].is_flat and not frames[-2].is_flat
            fades_in = frames[0].is_flat and not frames[1].is_flat
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


def _is_cut_inside(window: Sequence[_Thumbnail], frame: int) -> bool:
    """Tell whether a hard cut at `frame` parts the window.

    What looks like a cut out of an even picture may be the first frame of a fade in.
    """
    place = frame - window[0].index
    return 0 < place < len(window) and not window[place - 1].is_flat


def _judge(window: _Window, *, max_step: float = MAX_STEP) -> Transition | None:
    """Return the gradual transition that the frames of `window` hold, None if there is none.

    `max_step` is the most weight that may change from one frame to the next.
    """
    begin, end = window.frames[0], window.frames[-1]
    structure = _structure(begin, end)
    # A picture that has all but faded is still like the one it was.
    fades = begin.is_flat != end.is_flat
    if structure < MIN_STRUCTURE and not fades:
        return None
    step = end.luma - begin.luma
    area = float(np.count_nonzero(np.abs(step) > SAME_LUMA)) / step.size
    if area < MIN_AREA:
        return None
    change = _median_block(step)
    if change < MIN_BLOCK_CHANGE:
        return None
    blend = fit_dissolve(begin.luma, end.luma, window.luma)
    if blend.residual > (MAX_RESIDUAL_OF_DIP if _dips(window, blend) else MAX_RESIDUAL):
        core = _core(window, blend)
        found = None if core is None else _judge(core, max_step=max_step)
        if found is not None:
            return found
        wipe = _wipe(window, structure, area)
        if wipe is None:
            return None
        blend = wipe
    inside = np.flatnonzero((blend.weights > 0.04) & (blend.weights < 0.96))
    if len(inside) < 3 or not _rises(blend.weights, len(inside), max_step):
        return None
    # A part of a dissolve is a dissolve too: the larger change is the whole.
    score = (1.0 - blend.residual) * change / (change + MIN_BLOCK_CHANGE)
    first, last = window.frames[int(inside[0])], window.frames[int(inside[-1])]
    return Transition("gradual", first.index, last.index + 1, score)


def _wipe(window: _Window, structure: float, area: float) -> Blend | None:
    """Return how the frames are a wipe between the first and the last, None if they are not."""
    if area < MIN_WIPE_AREA or structure < MIN_CLEAN_STRUCTURE:
        return None
    first, last = window.frames[0].luma, window.frames[-1].luma
    some = window.luma[1::3]  # they alone tell most windows: what is left of them is left of all
    if fit_wipe(first, last, some).residual * len(some) > MAX_WIPE_RESIDUAL * len(window.luma):
        return None
    blend = fit_wipe(first, last, window.luma)
    is_clean = blend.residual < MAX_CLEAN_RESIDUAL
    if structure < (MIN_CLEAN_STRUCTURE if is_clean else MIN_WIPE_STRUCTURE):
        return None
    return blend if blend.residual <= MAX_WIPE_RESIDUAL else None


def _dips(window: _Window, blend: Blend) -> bool:
    """Tell whether contrast sinks half-way, as it does where two pictures lie over each other."""
    middle = window.frames[int(np.abs(blend.weights - 0.5).argmin())].power
    both = window.frames[0].power + window.frames[-1].power
    return 2.0 * middle < (1.0 - MIN_DIP) * both


def _core(window: _Window, blend: Blend) -> _Window | None:
    """Return the frames in which a roughly fitted dissolve goes from 0 to 1, if they are fewer.

    What moves before and after a dissolve is no part of it.
    """
    if blend.residual > MAX_ROUGH_RESIDUAL:
        return None
    inside = np.flatnonzero((blend.weights > 0.08) & (blend.weights < 0.92))
    if len(inside) < 3:
        return None
    core = window.part(max(0, int(inside[0]) - 1), int(inside[-1]) + 2)
    return core if len(core.frames) < len(window.frames) and _dips(window, blend) else None


def _median_block(change: Floats) -> float:
    """Return the root mean square of the median of 3 x 4 blocks of a thumbnail [N]."""
    ordered = np.sort((change * change) @ _BLOCK_MEANS)  # [12]
    return math.sqrt(float(ordered[5] + ordered[6]) / 2.0)


def _block_means() -> Floats:
    """Return what makes the means of 3 x 4 blocks of a thumbnail: [N, 12]."""
    rows, columns = np.arange(_ROWS) * 3 // _ROWS, np.arange(_COLUMNS) * 4 // _COLUMNS
    block = (rows[:, None] * 4 + columns).ravel()  # [N]: which one a pixel lies in
    return np.asarray(np.eye(12, dtype=np.float32)[block] * 12 / len(block), np.float32)


_BLOCK_MEANS = _block_means()


def _rises(weights: Floats, num_inside: int, max_step: float) -> bool:
    """Tell whether weights go from 0 to 1 steadily: no way back, no jump, no sudden haste."""
    steps = np.diff(weights)
    return bool(steps.min() > -0.06 and steps.max() < min(max_step, MAX_HASTE / num_inside))


def _structure(first: _Thumbnail, last: _Thumbnail) -> float:
    floor = 4.0 * first.luma.size
    power = (first.power + floor) * (last.power + floor)
    return 1.0 - (float(first.centred @ last.centred) + floor) / math.sqrt(power)


def _thumbnails(frames: SmallFrames) -> _Window:
    # All frames, one below the other, are one picture to be halved.
    column = frames.planes[:, 0].reshape(-1, GRID_WIDTH).astype(np.float32)
    halved = cv2.resize(column, (_COLUMNS, len(column) // 2), interpolation=cv2.INTER_AREA)
    luma = np.asarray(halved, np.float32).reshape(-1, _ROWS * _COLUMNS)  # [B, N]
    centred = luma - luma.mean(1, keepdims=True)  # [B, N]
    powers = np.einsum("bn,bn->b", centred, centred)  # [B]
    flat = powers < FLAT_STD**2 * luma.shape[1]
    thumbnails = [
        _Thumbnail(frames.first + i, luma[i], centred[i], float(powers[i]), bool(flat[i]))
        for i in range(len(luma))
    ]
    return _Window(thumbnails, luma)


def _start(transition: Transition) -> int:
    return transition.start_frame


def _overlap(a: Transition, b: Transition) -> bool:
    return a.start_frame < b.end_frame and b.start_frame < a.end_frame


def _holds(span: Transition, frame: int) -> bool:
    return span.start_frame <= frame < span.end_frame
