"""True toy films in the form of a model's films: what the metrics themselves are checked on."""

from __future__ import annotations

from collections.abc import Sequence

from fw_model.evaluation.config import EvaluationConfig
from fw_model.evaluation.self_test.metric_checks import TrueFilm
from fw_model.evaluation.stories.truth import CachedFrame, FilmedShot, Pixels, StoryTruth
from pipelines.evaluation.suites import toy_story

_SIZE_PX = 64
_FPS = 12.0
_TO_OTHER_SEED = 500_000  # from a story's seed to that of the story that replaces its shots


def true_films(
    seeds: Sequence[int], *, num_shots: int = 5, chunk_starts: Sequence[int] = (0, 9, 21, 33)
) -> list[TrueFilm]:
    """Return the true films of `seeds`; the last chunk of a shot has 12 frames."""
    config = EvaluationConfig(shots_per_story=num_shots)
    films = []
    for seed in seeds:
        own, other = (
            _filmed(s, config, tuple(chunk_starts)) for s in (seed, seed + _TO_OTHER_SEED)
        )
        films.append(TrueFilm(own[0], own[1], other[1]))
    return films


def _filmed(
    seed: int, config: EvaluationConfig, starts: tuple[int, ...]
) -> tuple[StoryTruth, list[FilmedShot]]:
    story = toy_story(seed, config)
    assert story.render_truth is not None  # toy stories have true frames
    length = starts[-1] + 12
    frames = story.render_truth([length] * len(story.truth.shots), _SIZE_PX, _SIZE_PX, _FPS)
    return story.truth, [
        FilmedShot(own, starts, _earlier(frames, story.truth, index))
        for index, own in enumerate(frames)
    ]


def _earlier(frames: list[Pixels], story: StoryTruth, index: int) -> tuple[CachedFrame, ...]:
    """Return the middle frames of earlier shots, those of the same place first."""
    place = story.shots[index].place_index
    order = sorted(range(index), key=lambda i: (story.shots[i].place_index != place, -i))
    return tuple(
        CachedFrame(i, len(frames[i]) // 2, 1.0, frames[i][len(frames[i]) // 2]) for i in order[:3]
    )
