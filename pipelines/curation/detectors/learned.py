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
from pipelines.curation.detectors.borders import Borders, find_borders, joined
from pipelines.curation.detectors.cut_features import HALF, NUM_FEATURES, change, cut_features
from pipelines.curation.detectors.cut_network import PACKAGED, load_network
from pipelines.curation.detectors.gradual import GradualFinder

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Gate:
    """Where a cut is possible at all. The margins are wide: on the footage that it was set on, the
    least true cut changes by 0.66, by 0.81 of the larger change beside it and by 1.6 times the mean
    around it. Some 7 frames in 100 pass."""

    min_change: float = 0.4
    min_of_neighbour: float = 0.65
    min_of_surrounding: float = 1.2
    """Multiple of the mean change of the two frames before and the two after."""

    def passes(self, changes: Floats) -> bool:
        """Ask of the middle of five changes in a row."""
        middle = changes[2]
        return bool(
            middle >= self.min_change
            and middle >= self.min_of_neighbour * max(changes[1], changes[3])
            and middle >= self.min_of_surrounding * (changes.sum() - middle) / 4.0
        )


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
        self._frames.append(frames)
        # A position is judged with the frame HALF - 1 after it, whatever the batches are.
        cuts: list[list[Transition]] = [[] for _ in frames.planes]
        for position, found in self._judge(frames.last - HALF + 2):
            cuts[position + HALF - 1 - frames.first] += found
        if self._gradual:
            return self._gradual.update(frames, cuts)
        return [cut for found in cuts for cut in found]

    def finish(self) -> list[Transition]:
        cuts = [cut for _, found in self._judge(self._frames.stop) for cut in found]
        cuts += self._release()
        return self._gradual.finish(cuts) if self._gradual else cuts

    def _judge(self, stop: int) -> Iterator[tuple[int, list[Transition]]]:
        """Judge the positions up to `stop`; yield each with the cut that is certain by then."""
        first, stop = self._next, max(self._next, stop)
        self._next = stop
        places = [p for p in range(first, stop) if GATE.passes(self._frames.changes(p))]
        rows = [cut_features(*self._frames.window(p), fps=self._fps) for p in places]
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
    """The last frames, their borders, and how much each changed."""

    def __init__(self) -> None:
        self._first = 0
        self._planes = np.empty((0, 3, GRID_HEIGHT, GRID_WIDTH), np.uint8)
        self._borders = find_borders(self._planes[:, 0])
        self._changes = np.empty(0, np.float32)

    @property
    def is_empty(self) -> bool:
        """Whether no frame has come yet."""
        return not len(self._planes)

    @property
    def stop(self) -> int:
        """The index after the last frame."""
        return self._first + len(self._planes)

    def append(self, frames: SmallFrames) -> None:
        """Take the next frames."""
        if self.is_empty:
            self._first = frames.first
        borders = find_borders(frames.planes[:, 0])
        before = slice(len(self._planes) - 1, None) if len(self._planes) else slice(0, 0)
        both = joined(self._borders.part(before), borders)
        changes = change(np.concatenate([self._planes[before], frames.planes]), both)
        self._changes = np.concatenate([self._changes, changes[-len(frames.planes) :]])
        self._planes = np.concatenate([self._planes, frames.planes])
        self._borders = joined(self._borders, borders)

    def changes(self, position: int) -> Floats:
        """Return the changes of five frames around a position; beyond the ends nothing changes."""
        at = np.arange(position - 2, position + 3) - self._first
        inside = np.clip(at, 0, len(self._changes) - 1)
        return np.where(at == inside, self._changes[inside], np.float32(0))

    def window(self, position: int) -> tuple[NDArray[np.uint8], Borders]:
        """Return the frames around a position; the first and the last of the video repeat."""
        around = np.arange(position - HALF, position + HALF) - self._first
        inside = np.clip(around, 0, len(self._planes) - 1)
        return self._planes[inside], self._borders.part(inside)

    def forget_before(self, index: int) -> None:
        """Drop the frames before `index`."""
        kept = slice(max(0, index - self._first), None)
        self._first += kept.start
        self._planes = self._planes[kept]
        self._borders = self._borders.part(kept)
        self._changes = self._changes[kept]
