"""Sets of stories to be filmed and judged; `toyfilms` is the one whose truth is known.

A suite is a function of (seed, config) that returns a `SuiteStory`. Suites that are written down
have so many stories: there a seed is a story's number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fw_model.errors import ConfigError
from fw_model.evaluation.config import EvaluationConfig
from fw_model.evaluation.judges.config import whole_path
from fw_model.evaluation.stories.scenes import packaged_scenes
from fw_model.evaluation.stories.truth import FigureTruth, Pixels, ShotTruth, StoryTruth
from fw_model.registry import resolve
from pipelines.evaluation.suite_files import read_suite
from pipelines.toyfilms.config import ToyFilmsConfig
from pipelines.toyfilms.prompts import shot_prompt
from pipelines.toyfilms.render import RENDER_VERSION, render_shot, zoom_of
from pipelines.toyfilms.story import FilmSpec, sample_film

SUITES = {
    "toyfilms": "pipelines.evaluation.suites:toy_story",
    "scenes20x5": "pipelines.evaluation.suites:written_story",
    "file": "pipelines.evaluation.suites:written_story",
}


@dataclass(frozen=True)
class SuiteStory:
    """A story to film, and how to draw its true frames; None where words are all there is.

    `render_truth(lengths, width, height, fps)` gives frames [F, H, W, 3] for each shot, as long
    as asked.
    """

    truth: StoryTruth
    render_truth: Callable[[Sequence[int], int, int, float], list[Pixels]] | None = None
    facts: str = ""
    """What its true frames follow from, beside `truth`."""

    @property
    def identity(self) -> str:
        """Tells stories apart: a hash of all that is asked for and drawn."""
        return hashlib.sha256(f"{self.truth!r}\n{self.facts}".encode()).hexdigest()


def suite_story(seed: int, config: EvaluationConfig) -> SuiteStory:
    """Return the story of `seed` in the suite that the config names."""
    story: SuiteStory = resolve(config.suite, SUITES, "story suite")(seed, config)
    return story


def settled(config: EvaluationConfig) -> EvaluationConfig:
    """Return `config` with its seeds said and its file named in full, so that every process, in
    whatever folder, films the same; ConfigError for seeds that the suite has not.
    """
    update: dict[str, Any] = {
        "aesthetic": config.aesthetic.with_whole_paths(),
        "inception": config.inception.with_whole_paths(),
        "toy_judge": whole_path(config.toy_judge),
        "clip": whole_path(config.clip),
        "checkpoints": {name: whole_path(path) for name, path in config.checkpoints.items()},
    }
    if config.suite_path is not None and "://" not in config.suite_path:
        update["suite_path"] = whole_path(config.suite_path)
    stories = written_stories(config)
    if stories is not None and config.seeds is None:
        update["seeds"] = f"0:{len(stories)}"
    done = config.model_copy(update=update)
    seeds = done.story_seeds
    if stories is not None and seeds.stop > len(stories):
        raise _no_such_story(f"{seeds.start}:{seeds.stop}", done, len(stories))
    return done.model_copy(update={"seeds": f"{seeds.start}:{seeds.stop}"})


def written_stories(config: EvaluationConfig) -> tuple[StoryTruth, ...] | None:
    """Return all stories of a suite that is written down, whole; None for other suites."""
    if config.suite == "scenes20x5":
        scenes = packaged_scenes().scenes
        return tuple(scene.truth(number) for number, scene in enumerate(scenes))
    return None if config.suite_path is None else read_suite(config.suite_path)


def written_story(seed: int, config: EvaluationConfig) -> SuiteStory:
    """Return story number `seed`, cut to the first `shots_per_story` shots."""
    stories = written_stories(config)
    assert stories is not None  # only suites that are written down come here
    if not 0 <= seed < len(stories):
        raise _no_such_story(str(seed), config, len(stories))
    story = stories[seed]
    return SuiteStory(replace(story, shots=story.shots[: config.shots_per_story]))


def _no_such_story(seeds: str, config: EvaluationConfig, count: int) -> ConfigError:
    return ConfigError(
        f"Seeds {seeds} are not all in suite {config.suite_path or config.suite}, whose stories "
        f"are 0:{count}; set evaluation.seeds within 0:{count}."
    )


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
    return SuiteStory(toy_truth(film), _ToyRenderer(film), facts=f"{RENDER_VERSION} {film!r}")


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
