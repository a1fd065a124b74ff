"""The default detector: a small network judges how the frames before a frame differ from those
after.

It never sees a picture, only how far frames are from each other (cut_features.py), without their
black bars (borders.py). `filmweaver pretrain detector` trains it on transitions made from any
footage. Gradual transitions are found beside it by fitting blends (gradual.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.detectors.base import GRID_HEIGHT, GRID_WIDTH, SmallFrames, Transition
from pipelines.curation.detectors.learned.cut_features import (
    HALF,
    NUM_FEATURES,
    change,
    cut_features,
    difference,
)
from pipelines.curation.detectors.learned.cut_network import PACKAGED, load_network
from pipelines.curation.detectors.learned.gradual import GradualFinder
from pipelines.curation.detectors.learned.views import View, view_of

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Gate:
    """Where a cut is possible at all: cheap tests before the network's features are measured.

    The margins are wide. Of the 450 cuts that the network finds on the tuning footage, all pass
    each test by the least that is given; of those in 100 made films, which are harder, 0.1 % do not
    pass. Of other frames, 97 in 100 are rejected.
    """

    min_change: float = 0.4
    """Contrasts by which a frame differs from the one before. Least of a cut: 0.66."""
    min_of_neighbour: float = 0.65
    """Share of the larger change beside it. Least of a cut: 0.81."""
    min_of_surrounding: float = 1.2
    """Multiple of the mean change of the two frames before and the two after. Least: 1.6."""
    min_luma: float = 0.2
    """Mean change of luma across the cut, in contrasts, for a cut whose structure stays. Least:
    0.31."""
    min_structure: float = 0.1
    """1 - correlation across the cut, for a cut whose luma stays."""

    def passing(self, changes: Floats) -> NDArray[np.intp]:
        """Return which of changes [N] pass, from the third on: two lie on either side of each."""
        middle = changes[2:-2]
        around = (changes[:-4], changes[1:-3], changes[3:-1], changes[4:])
        return np.flatnonzero(
            (middle >= self.min_change)
            & (middle >= self.min_of_neighbour * np.maximum(around[1], around[2]))
            & (middle >= self.min_of_surrounding * sum(around) / 4.0)
        )

    def is_other_picture(self, view: View) -> bool:
        """Ask of a window whether the two frames in its middle differ."""
        luma, structure = difference(view)
        return luma >= self.min_luma or structure >= self.min_structure


class LearnedDetector:
    """Cuts by a network; gradual transitions by fitting blends.

    `path` and `gradual_path` are the files of the two networks; empty: the packaged ones.
    """

    def __init__(
        self,
        *,
        fps: float,
        path: str = "",
        gradual_path: str = "",
        threshold: float = 0.5,
        gradual: bool = True,
    ) -> None:
        self._fps = fps
        self._threshold = threshold
        self._network = load_network(path or str(PACKAGED), NUM_FEATURES)
        self._frames = _Recent()
        self._next = 0  # the position that is judged next
        self._held: tuple[int, float] | None = None
        self._gradual = GradualFinder(fps=fps, path=gradual_path) if gradual else None
        self.max_delay = HALF + 1 + (self._gradual.max_delay if self._gradual else 0)

    def update(self, frames: SmallFrames) -> list[Transition]:
        if self._frames.is_empty:
            self._next = frames.first + 1
        view = view_of(frames.planes)
        self._frames.append(frames.first, view)
        # A position is judged with the frame HALF - 1 after it, whatever the batches are.
        cuts: list[list[Transition]] = [[] for _ in frames.planes]
        for position, found in self._judge(frames.last - HALF + 2):
            cuts[position + HALF - 1 - frames.first] += found
        if self._gradual:
            return self._gradual.update(frames.first, view, cuts)
        return [cut for found in cuts for cut in found]

    def finish(self) -> list[Transition]:
        cuts = [cut for _, found in self._judge(self._frames.stop) for cut in found]
        cuts += self._release()
        return self._gradual.finish(cuts) if self._gradual else cuts

    def _judge(self, stop: int) -> Iterator[tuple[int, list[Transition]]]:
        """Judge the positions up to `stop`; yield each with the cut that is certain by then."""
        first, stop = self._next, max(self._next, stop)
        self._next = stop
        places = (first + GATE.passing(self._frames.changes(first - 2, stop + 2))).tolist()
        windows = {p: self._frames.window(p) for p in places}
        places = [p for p in places if GATE.is_other_picture(windows[p])]
        rows = [cut_features(windows[p], fps=self._fps) for p in places]
        likely = self._network.probability(np.stack(rows)) if rows else np.empty(0, np.float32)
        scores = dict(zip(places, likely.tolist(), strict=True))
        for position in range(first, stop):
            yield position, self._take(position, scores.get(position, 0.0))
        self._frames.forget_before(stop - HALF - 2)

    def _take(self, position: int, score: float) -> list[Transition]:
        """Hold a cut until the next position has not beaten it."""
        if self._held is not None and score > self._held[1]:
            self._held = (position, score)
            return []
        found = self._release()
        if not found and score >= self._threshold:
            self._held = (position, score)
        return found

    def _release(self) -> list[Transition]:
        if self._held is None:
            return []
        (index, score), self._held = self._held, None
        return [Transition("cut", index, index, score)]


GATE = Gate()


class _Recent:
    """The last frames, and how much each changed."""

    def __init__(self) -> None:
        self._first = 0
        self._view = view_of(np.empty((0, 3, GRID_HEIGHT, GRID_WIDTH), np.uint8))
        self._changes = np.empty(0, np.float32)

    @property
    def is_empty(self) -> bool:
        """Whether no frame has come yet."""
        return not len(self._view)

    @property
    def stop(self) -> int:
        """The index after the last frame."""
        return self._first + len(self._view)

    def append(self, first: int, view: View) -> None:
        """Take the next frames, from index `first` on."""
        if self.is_empty:
            self._first = first
        before = (
            self._view.part(slice(len(self._view) - 1, None)) if len(self._view) else self._view
        )
        changes = change(before.followed_by(view))
        self._changes = np.concatenate([self._changes, changes[-len(view) :]])
        self._view = self._view.followed_by(view)

    def changes(self, start: int, stop: int) -> Floats:
        """Return the changes of the frames `[start, stop)`; beyond the ends nothing changes."""
        at = np.arange(start, stop) - self._first
        inside = np.clip(at, 0, len(self._changes) - 1)
        return np.where(at == inside, self._changes[inside], np.float32(0))

    def window(self, position: int) -> View:
        """Return the frames around a position; the first and the last of the video repeat."""
        start, stop = position - HALF - self._first, position + HALF - self._first
        if start >= 0 and stop <= len(self._view):
            return self._view.part(slice(start, stop))
        return self._view.part(np.clip(np.arange(start, stop), 0, len(self._view) - 1))

    def forget_before(self, index: int) -> None:
        """Drop the frames before `index`."""
        kept = slice(max(0, index - self._first), None)
        self._first += kept.start
        self._view = self._view.part(kept)
        self._changes = self._changes[kept]
