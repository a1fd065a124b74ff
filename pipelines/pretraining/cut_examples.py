"""What the learned shot detector's two networks are trained on: positions and spans of made films,
measured as the detector measures them, and whether each is a transition.

F: features; N: examples.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fw_model.files.atomic import atomic_file
from pipelines.curation.detectors.base import Transition
from pipelines.curation.detectors.learned.cut_features import (
    HALF,
    NUM_FEATURES,
    change,
    cut_features,
)
from pipelines.curation.detectors.learned.detector import GATE
from pipelines.curation.detectors.learned.gradual import GradualFinder
from pipelines.curation.detectors.learned.gradual_features import NUM_GRADUAL_FEATURES
from pipelines.curation.detectors.learned.views import view_of
from pipelines.pretraining.cut_films import CutFilm, make_film
from pipelines.pretraining.cut_shots import Footage, load_footage

Floats = NDArray[np.float32]

FILMS_PER_TASK = 10
MIN_GRADUAL_FRAMES = 4  # a shorter span of a made film only marks where a cut is unclear
MIN_INSIDE, MIN_COVERED = 0.7, 0.35  # of a proposal, and of the true span, for it to be right
BATCH_FRAMES = 32


@dataclass(frozen=True)
class Examples:
    """Features [N, F] and whether each row is a transition [N]."""

    features: Floats
    is_true: NDArray[np.bool_]

    def split(self, share: float) -> tuple[Examples, Examples]:
        """Return the first `share` of the examples and the rest."""
        at = round(len(self.is_true) * share)
        return (
            Examples(self.features[:at], self.is_true[:at]),
            Examples(self.features[at:], self.is_true[at:]),
        )


def measure_cuts(film: CutFilm) -> Examples:
    """Measure a film's possible cuts.

    A frame at the border of a gradual transition is left out: it may be called either.
    """
    view = view_of(film.frames)
    last = len(film.frames) - 1
    features, is_cut = [], []
    for position in GATE.passing(np.pad(change(view), 2)).tolist():
        if position not in film.cuts and _is_unclear(position, film.gradual):
            continue
        around = view.part(np.clip(np.arange(position - HALF, position + HALF), 0, last))
        if not GATE.is_other_picture(around):
            continue
        features.append(cut_features(around, fps=film.fps))
        is_cut.append(position in film.cuts)
    return _examples(features, is_cut, NUM_FEATURES)


def _is_unclear(position: int, gradual: tuple[tuple[int, int], ...]) -> bool:
    near = [(first, last) for first, last in gradual if first - 1 <= position <= last + 2]
    return bool(near) and not any(
        first + 1 <= position <= last and last - first > 5 for first, last in near
    )


def measure_gradual(film: CutFilm) -> Examples:
    """Measure a film's possible gradual transitions; one that is partly right is left out."""
    recorder = _Recorder(fps=film.fps)
    cuts: list[list[Transition]] = [[] for _ in film.frames]
    for cut in film.cuts:
        known = min(cut + HALF - 1, len(cuts) - 1)  # when the detector reports it
        cuts[known].append(Transition("cut", cut, cut, 1.0))
    for first in range(0, len(film.frames), BATCH_FRAMES):
        own = slice(first, first + BATCH_FRAMES)
        recorder.update(first, view_of(film.frames[own]), cuts[own])
    recorder.finish([])
    features, is_true = [], []
    for proposal, row in recorder.seen:
        label = _label(proposal, film.gradual)
        if label is not None:
            features.append(row)
            is_true.append(label)
    return _examples(features, is_true, NUM_GRADUAL_FEATURES)


class _Recorder(GradualFinder):
    """Accepts and records every proposal."""

    def __init__(self, *, fps: float) -> None:
        super().__init__(fps=fps, threshold=None)
        self.seen: list[tuple[Transition, Floats]] = []

    def _is_gradual(self, found: Transition) -> bool:
        features = self.features(found)
        if features is not None:
            self.seen.append((found, features))
        return True


def _label(proposal: Transition, gradual: tuple[tuple[int, int], ...]) -> bool | None:
    """Return whether a proposal is a true transition; None if that is unclear."""
    frames = range(proposal.start_frame, proposal.end_frame)
    for first, last in gradual:
        shared = min(frames.stop, last + 1) - max(frames.start, first)
        if shared <= 0:
            continue
        is_right = shared >= MIN_INSIDE * len(frames) and shared >= MIN_COVERED * (last + 1 - first)
        return True if is_right and last + 1 - first >= MIN_GRADUAL_FRAMES else None
    return False


def _examples(features: list[Floats], is_true: list[bool], num_features: int) -> Examples:
    rows = np.stack(features) if features else np.empty((0, num_features), np.float32)
    return Examples(rows, np.array(is_true, bool))


def load_examples(
    footage: Path, path: Path, *, num_films: int, seed: int, num_workers: int
) -> tuple[Examples, Examples]:
    """Make and measure films of `footage`: possible cuts and possible gradual transitions.

    They are kept at `path`, and read from there by a run that continues.
    """
    if path.is_file():
        kept = np.load(path)
        cuts = Examples(kept["cut_features"], kept["is_cut"])
        return cuts, Examples(kept["gradual_features"], kept["is_gradual"])
    shots = load_footage(footage)
    starts = range(0, num_films, FILMS_PER_TASK)
    context = get_context("spawn")
    with ProcessPoolExecutor(num_workers, context, _set_footage, (shots,)) as pool:
        parts = list(pool.map(_measure_films, starts, [seed] * len(starts)))
    cuts, gradual = (_concatenated(part) for part in zip(*parts, strict=True))
    with atomic_file(path) as file:
        np.savez(
            file, cut_features=cuts.features, is_cut=cuts.is_true,
            gradual_features=gradual.features, is_gradual=gradual.is_true,
        )  # fmt: skip
    return cuts, gradual


_shots: Footage | None = None


def _set_footage(shots: Footage) -> None:
    global _shots
    _shots = shots


def _measure_films(start: int, seed: int) -> tuple[Examples, Examples]:
    """Measure the films from number `start` on, in a worker process."""
    assert _shots is not None  # the pool's initializer has set it
    cuts, gradual = [], []
    for number in range(start, start + FILMS_PER_TASK):
        film = make_film(_shots, np.random.default_rng((seed, number)))
        cuts.append(measure_cuts(film))
        gradual.append(measure_gradual(film))
    return _concatenated(cuts), _concatenated(gradual)


def _concatenated(parts: list[Examples] | tuple[Examples, ...]) -> Examples:
    return Examples(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.is_true for part in parts]),
    )
