"""Gradual transitions: dissolves, fades and wipes, merged into a detector's cuts.

Windows of several lengths are fitted as a blend of their first and last frames (proposals); a small
network judges each proposal with the frames around it. A moving camera is no blend of two frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.detectors.base import Transition
from pipelines.curation.detectors.learned.cut_network import load_network
from pipelines.curation.detectors.learned.gradual_features import (
    MARGIN,
    NUM_GRADUAL_FEATURES,
    gradual_features,
)
from pipelines.curation.detectors.learned.gradual_gate import may_hold
from pipelines.curation.detectors.learned.gradual_proposals import LIMITS, propose
from pipelines.curation.detectors.learned.thumbnails import (
    Window,
    no_frames,
    pair_structures,
    thumbnails,
)
from pipelines.curation.detectors.learned.views import View

Floats = NDArray[np.float32]

PACKAGED_GRADUAL = Path(__file__).parent / "learned_gradual.safetensors"
LENGTHS_S = (0.4, 0.7, 1.2, 2.0, 3.0)
FADE_LENGTHS_S = (0.2, 0.3, 0.4, 0.7, 1.2)  # of one half, into or out of a flat picture
JOIN_S = 0.6
EDGE_S = 0.4  # a picture seen for no longer than this at the end of the file is no shot
RETURN_STRUCTURE = 0.15  # two frames closer than this show the same view
LOOK_EVERY = 4  # frames; a window of n times LONG_FRAMES is looked at n times as rarely
LONG_FRAMES = 24
WORTH_CROPPING = 8  # windows with the same border: fewer are cheaper to try one by one


class GradualFinder:
    """Merges gradual transitions into a detector's cuts, in order of time.

    `threshold` is the probability at which a proposal counts; None accepts every proposal.
    """

    def __init__(self, *, fps: float, path: str = "", threshold: float | None = 0.5) -> None:
        self._fps = fps
        self._threshold = threshold
        if threshold is not None:
            self._network = load_network(path or str(PACKAGED_GRADUAL), NUM_GRADUAL_FEATURES)
        self._unjudged: list[Transition] = []
        self._lengths = sorted({max(6, round(s * fps)) for s in LENGTHS_S})
        self._fade_lengths = sorted({max(4, round(s * fps)) for s in FADE_LENGTHS_S})
        self._join_frames = round(JOIN_S * fps)
        self._edge_frames = round(EDGE_S * fps)
        longest = self._lengths[-1]
        self._cuts: list[Transition] = []
        self._found: list[Transition] = []
        self._recent = no_frames()  # what a proposal may begin in
        # What is needed to look at both sides of a transition when it is released.
        self._history: deque[Window] = deque()
        self._kept_frames = 6 * longest
        self._first_index = 0
        self._last_end = 0
        self._next_index = 0
        self._last_turn = 0  # the last frame that is even after one that is not, or the reverse
        # A fade is joined only after its second half was seen whole.
        self.max_delay = 2 * longest + self._join_frames

    def update(
        self, first: int, view: View, cuts: Sequence[Sequence[Transition]]
    ) -> list[Transition]:
        """Take frames from index `first` on and, for each of them, the cuts that a detector found
        when it saw it."""
        longest = self._lengths[-1]
        new = thumbnails(first, view)
        before = self._recent.part(-longest, None) if len(self._recent) else self._recent
        self._recent = before.followed_by(new)
        self._history.append(new)
        possible = self._possible(len(new))
        released = []
        for place, found in enumerate(cuts, len(before)):
            released += self._take(place, found, possible.get(place, ()))
        while self._history[0].first + len(self._history[0]) < self._next_index - self._kept_frames:
            self._history.popleft()
        return released

    def _take(
        self, place: int, cuts: Sequence[Transition], lengths: Sequence[int]
    ) -> list[Transition]:
        """Take a recent frame, the cuts that were found with it, and the lengths of the gradual
        transitions that it may end."""
        is_flat, index = self._recent.is_flat, self._recent.first + place
        if is_flat[place] != (place > 0 and is_flat[place - 1]):
            self._last_turn = index
        self._next_index = index + 1
        self._cuts += cuts
        self._look_back(place, lengths)
        if index - self._last_turn <= self._fade_lengths[-1]:
            self._look_for_fades(place)
        if self._unjudged:
            self._judge(index - MARGIN)
        before = index - self.max_delay
        if all(t.end_frame >= before for t in (*self._cuts, *self._found)):
            return []
        return self._release(before)

    def finish(self, cuts: list[Transition]) -> list[Transition]:
        """Return all that is still open."""
        self._cuts += cuts
        self._look_back(len(self._recent) - 1, self._lengths)
        self._judge(None)
        return [self._at_end(found) for found in self._release(None)]

    def _possible(self, num_new: int) -> dict[int, list[int]]:
        """Return the lengths of the gradual transitions that may end in each of the new frames,
        shortest first, by its place among the recent ones."""
        recent = self._recent
        stops = np.arange(len(recent) - num_new, len(recent))
        firsts, lasts = [], []
        for length in self._lengths:
            every = LOOK_EVERY * max(1, length // LONG_FRAMES)
            asked = stops[((recent.first + stops) % every == 0) & (stops >= length)]
            firsts.append(asked - length)
            lasts.append(asked)
        first, last = np.concatenate(firsts), np.concatenate(lasts)
        borders = recent.borders.shared_by(first, last)
        found: dict[int, list[int]] = {}
        for border in set(borders):
            own = np.flatnonzero([border == other for other in borders])
            if not any(border) or len(own) >= WORTH_CROPPING:
                own = own[may_hold(recent.without(border), first[own], last[own])]
            for start, place in zip(first[own].tolist(), last[own].tolist(), strict=True):
                found.setdefault(place, []).append(place - start)
        return {place: sorted(lengths) for place, lengths in found.items()}

    def _look_back(self, place: int, lengths: Sequence[int]) -> None:
        """Ask of each length whether a gradual transition has just ended."""
        for length in lengths:
            if length > place:
                return
            window = self._recent.part(place - length, place + 1)
            if any(_is_cut_inside(window, cut.start_frame) for cut in self._cuts):
                return
            found = propose(window)
            if found is not None:
                self._add(found)

    def _look_for_fades(self, place: int) -> None:
        """Ask whether a fade ends in the first frame of an even picture, or began in its last."""
        is_flat = self._recent.is_flat
        fades_out = is_flat[place] and not is_flat[place - 1]
        for length in self._fade_lengths:
            if length > place:
                return
            first = place - length
            if fades_out or (is_flat[first] and not is_flat[first + 1]):
                window = self._recent.part(first, place + 1)
                found = propose(window, max_step=LIMITS.max_fade_step)
                if found is not None:
                    self._add(found)

    def _add(self, found: Transition) -> None:
        """Keep the best of those that overlap."""
        overlapping = [f for f in self._found if _overlap(f, found)]
        if all(found.score > other.score for other in overlapping):
            self._found = [f for f in self._found if f not in overlapping] + [found]
            self._unjudged = [f for f in self._unjudged if f not in overlapping] + [found]

    def _judge(self, before: int | None) -> None:
        """Drop the proposals that ended before frame `before` and are rejected; None for all."""
        ended = [f for f in self._unjudged if before is None or f.end_frame <= before]
        for found in ended:
            self._unjudged.remove(found)
            if found in self._found and not self._is_gradual(found):
                self._found.remove(found)

    def _is_gradual(self, found: Transition) -> bool:
        features = self.features(found)
        if features is None or self._threshold is None:
            return True
        return float(self._network.probability(features[None])[0]) >= self._threshold

    def features(self, found: Transition) -> Floats | None:
        """Measure a proposal; None at the ends of the video, where a side is missing."""
        around = self._seen(found.start_frame - MARGIN - 1, found.end_frame + MARGIN + 1)
        start, end = found.start_frame - around.first, found.end_frame - around.first
        if start < 1 or end >= len(around):
            return None
        return gradual_features(around, start, end, fps=self._fps)

    def _seen(self, start: int, stop: int) -> Window:
        """Return the frames `[start, stop)`, as far as they have come and are kept."""
        start = max(start, self._next_index - self._kept_frames)
        stop = min(stop, self._next_index)
        around = no_frames()
        for part in self._history:
            own = part.part(max(0, start - part.first), max(0, stop - part.first))
            if len(own):
                around = around.followed_by(own)
        return around

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
        seen = self._seen(frames.start, frames.stop)
        return np.count_nonzero(seen.is_flat) >= 0.8 * len(frames)

    def _comes_back(self, found: Transition) -> bool:
        """Tell whether the view after is one that was there shortly before: something passed."""
        reach = self._lengths[-1]
        before = self._seen(found.start_frame - reach, found.start_frame)
        after = self._seen(found.end_frame, found.end_frame + reach)
        left, right = (side.chosen(np.flatnonzero(~side.is_flat)[::3]) for side in (before, after))
        return bool((pair_structures(left, right) < RETURN_STRUCTURE).any())

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


def _is_cut_inside(window: Window, frame: int) -> bool:
    """Tell whether a hard cut at `frame` parts the window.

    What looks like a cut out of an even picture may be the first frame of a fade in.
    """
    place = frame - window.first
    return 0 < place < len(window) and not window.is_flat[place - 1]


def _start(transition: Transition) -> int:
    return transition.start_frame


def _overlap(a: Transition, b: Transition) -> bool:
    return a.start_frame < b.end_frame and b.start_frame < a.end_frame


def _holds(span: Transition, frame: int) -> bool:
    return span.start_frame <= frame < span.end_frame
