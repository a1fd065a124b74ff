"""Sets of stories to film and judge; `toyfilms` is the one whose true frames are known.

A suite is a function of (seed, config) that returns a `SuiteStory`. In a written suite, a file with
a fixed number of stories, the seed is the story's number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fw_model.errors import ConfigError
from fw_model.evaluation.config import EvaluationConfig
from fw_model.evaluation.judges.config import absolute_path
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


RenderTruth = Callable[[Sequence[int], int, int, float], list[Pixels]]
"""(number of frames of each shot, width, height, fps) -> true frames [F, H, W, 3] of each shot."""


@dataclass(frozen=True)
class SuiteStory:
    """A story to film, and how to render its true frames; None for a written story."""

    truth: StoryTruth
    render_truth: RenderTruth | None = None
    render_identity: str = ""
    """Everything else that the true frames depend on, as text."""

    @property
    def identity(self) -> str:
        """A hash of everything that is asked for and rendered."""
        return hashlib.sha256(f"{self.truth!r}\n{self.render_identity}".encode()).hexdigest()


def suite_story(seed: int, config: EvaluationConfig) -> SuiteStory:
    """Return the story of `seed` in the suite that the config names."""
    story: SuiteStory = resolve(config.suite, SUITES, "story suite")(seed, config)
    return story


def complete_settings(config: EvaluationConfig) -> EvaluationConfig:
    """Return `config` with its seeds set and its paths absolute, so that every process films the
    same stories; ConfigError for seeds that the suite does not have.
    """
    update: dict[str, object] = {
        "aesthetic": config.aesthetic.with_absolute_paths(),
        "inception": config.inception.with_absolute_paths(),
        "toy_judge": absolute_path(config.toy_judge),
        "clip": absolute_path(config.clip),
        "checkpoints": {name: absolute_path(path) for name, path in config.checkpoints.items()},
        "suite_path": absolute_path(config.suite_path),
    }
    stories = written_stories(config)
    if stories is not None and config.seeds is None:
        update["seeds"] = f"0:{len(stories)}"
    complete = config.model_copy(update=update)
    seeds = complete.story_seeds
    if stories is not None and seeds.stop > len(stories):
        raise _no_such_story(f"{seeds.start}:{seeds.stop}", complete, len(stories))
    return complete.model_copy(update={"seeds": f"{seeds.start}:{seeds.stop}"})


def written_stories(config: EvaluationConfig) -> tuple[StoryTruth, ...] | None:
    """Return all stories of a written suite, with all their shots; None for other suites."""
    if config.suite == "scenes20x5":
        scenes = packaged_scenes().scenes
        return tuple(scene.truth(number) for number, scene in enumerate(scenes))
    return None if config.suite_path is None else read_suite(config.suite_path)


def written_story(seed: int, config: EvaluationConfig) -> SuiteStory:
    """Return story number `seed`, cut to the first `shots_per_story` shots."""
    stories = written_stories(config)
    assert stories is not None  # SUITES maps only written suites to this function
    if not 0 <= seed < len(stories):
        raise _no_such_story(str(seed), config, len(stories))
    story = stories[seed]
    return SuiteStory(replace(story, shots=story.shots[: config.shots_per_story]))


def _no_such_story(seeds: str, config: EvaluationConfig, count: int) -> ConfigError:
    return ConfigError(
        f"Seeds {seeds} are not all in suite {config.suite_path or config.suite}, which has the "
        f"stories 0:{count}; set evaluation.seeds within 0:{count}."
    )


def toy_story(seed: int, config: EvaluationConfig) -> SuiteStory:
    """Sample a toy film of `shots_per_story` shots that returns to earlier places if it can."""
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
    return SuiteStory(toy_truth(film), _ToyRenderer(film), f"{RENDER_VERSION} {film!r}")


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
