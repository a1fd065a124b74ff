"""Sets of stories to be filmed and judged; `toyfilms` is the one whose truth is known.

A suite is a function of (seed, config) that returns a `SuiteStory`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fw_model.evaluation.config import EvaluationConfig
from fw_model.evaluation.truth import FigureTruth, Pixels, ShotTruth, StoryTruth
from fw_model.registry import resolve
from pipelines.toyfilms.config import ToyFilmsConfig
from pipelines.toyfilms.prompts import shot_prompt
from pipelines.toyfilms.render import render_shot, zoom_of
from pipelines.toyfilms.story import FilmSpec, sample_film

SUITES = {"toyfilms": "pipelines.story_suites:toy_story"}


@dataclass(frozen=True)
class SuiteStory:
    """A story to film, and how to draw its true frames; None where words are all there is.

    `render_truth(lengths, width, height, fps)` gives frames [F, H, W, 3] for each shot, as long
    as asked.
    """

    truth: StoryTruth
    render_truth: Callable[[Sequence[int], int, int, float], list[Pixels]] | None = None


def suite_story(seed: int, config: EvaluationConfig) -> SuiteStory:
    """Return the story of `seed` in the suite that the config names."""
    story: SuiteStory = resolve(config.suite, SUITES, "story suite")(seed, config)
    return story


def toy_story(seed: int, config: EvaluationConfig) -> SuiteStory:
    """Draw a toy film of as many shots as asked; its scenes return to a place where they can."""
    film = sample_film(
        seed,
        ToyFilmsConfig(
            min_shots=config.shots_per_story,
            max_shots=config.shots_per_story,
            place_return_probability=1.0,
            dissolve_probability=0.0,
            fade_probability=0.0,
        ),
    )
    return SuiteStory(toy_truth(film), _ToyRenderer(film))


def toy_truth(film: FilmSpec) -> StoryTruth:
    """Return what the prompts of a toy film ask for."""
    shots = []
    for index, shot in enumerate(film.shots):
        place = film.places[shot.place]
        shots.append(
            ShotTruth(
                prompt=shot_prompt(film, index),
                place=place.kind,
                place_index=shot.place,
                light=place.light,
                scale=shot.scale,
                figures=tuple(
                    FigureTruth(film.figures[role.figure].kind, role.action) for role in shot.roles
                ),
                camera=shot.camera,
                zoom=zoom_of(shot.scale),
                landmarks=tuple(landmark.kind for landmark in place.landmarks),
            )
        )
    return StoryTruth(film.seed, tuple(shots))


@dataclass(frozen=True)
class _ToyRenderer:
    film: FilmSpec

    def __call__(self, lengths: Sequence[int], width: int, height: int, fps: float) -> list[Pixels]:
        shots = tuple(
            replace(shot, num_frames=length)
            for shot, length in zip(self.film.shots, lengths, strict=True)
        )
        film = replace(self.film, shots=shots, fps=round(fps))
        return [render_shot(film, i, width=width, height=height) for i in range(len(shots))]
