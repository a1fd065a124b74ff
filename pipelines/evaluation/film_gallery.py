"""Gathers what evaluation actors filed of the first stories into what the report shows."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fw_model.evaluation.config import EvaluationConfig
from fw_model.evaluation.metrics.retrieval import returning_shots
from fw_model.evaluation.report.film_grid import film_grid
from fw_model.evaluation.report.films import Return, StoryFilms
from fw_model.evaluation.stories.truth import Pixels, StoryTruth
from fw_model.media.video import probe, read_frames, write_video
from pipelines.evaluation.film_story import StoryJob, read_result
from pipelines.evaluation.suites import suite_story
from pipelines.storage.store import Store

_SHOWN_RETURNS = "full"


def story_films(
    config: EvaluationConfig, store: Store, jobs: Sequence[StoryJob]
) -> list[StoryFilms]:
    """Return the films of the first stories, truth and every variant side by side.

    Leaves each story's films as one film, `films/side_by_side/story_SEED.mp4`.
    """
    films = []
    for seed in config.story_seeds[: config.films_in_report]:
        story = suite_story(seed, config).truth
        own = [job for job in jobs if job.seed == seed]
        films.append(
            StoryFilms(
                title=f"Story {seed}",
                prompts=[shot.prompt for shot in story.shots],
                strips={job.variant: store.read(job.strip_key) for job in own},
                grid=_side_by_side(store, own, seed),
                returns=_returns(store, own, story),
            )
        )
    return films


def _side_by_side(store: Store, jobs: Sequence[StoryJob], seed: int) -> bytes:
    films = {job.variant: _shots(store, job) for job in jobs}
    fps = probe(io.BytesIO(store.read(jobs[0].film_key))).fps
    with tempfile.TemporaryDirectory() as folder:
        path = write_video(Path(folder) / "films.mp4", film_grid(films), fps=fps)
        data = path.read_bytes()
    store.write(f"films/side_by_side/story_{seed:07d}.mp4", data)
    return data


def _shots(store: Store, job: StoryJob) -> list[Pixels]:
    """Return the filed film's frames [F, H, W, 3] shot by shot."""
    result = read_result(store, job)
    assert result is not None  # films are shown when all are there
    frames = read_frames(io.BytesIO(store.read(job.film_key)))
    return np.split(frames, np.cumsum(result["shot_frames"])[:-1])


def _returns(store: Store, jobs: Sequence[StoryJob], story: StoryTruth) -> list[Return]:
    """Return what the full method's shot cache found each time that a place came back."""
    returns = []
    for job in jobs:
        result = read_result(store, job) if job.variant == _SHOWN_RETURNS else None
        if result is None:
            continue
        for shot in returning_shots(story):
            found = result["details"]["shots"][shot]["retrieved"]
            if found and store.exists(job.return_key(shot)):
                best = story.shots[found[0]["shot"]].place_index
                returns.append(
                    Return(
                        shot=shot,
                        jpeg=store.read(job.return_key(shot)),
                        keyframes=[f"shot {f['shot'] + 1} ({f['score']:.2f})" for f in found],
                        hit=best == story.shots[shot].place_index,
                    )
                )
    return returns
