"""Collects the stored films of the first stories for the report.

Knows nothing about how films are made or how the page looks.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fw_model.evaluation.metrics.retrieval import returning_shots
from fw_model.evaluation.report.film_grid import film_grid
from fw_model.evaluation.report.films import Return, StoryFilms
from fw_model.evaluation.stories.truth import Pixels, StoryTruth
from fw_model.media.video import probe, read_frames, write_video
from pipelines.evaluation.jobs import StoryJob
from pipelines.evaluation.results import existing_result
from pipelines.evaluation.run import EvaluationRun
from pipelines.evaluation.suites import suite_story
from pipelines.storage.store import Store

_SHOWN_RETURNS = "full"


def story_films(run: EvaluationRun, jobs: Sequence[StoryJob]) -> list[StoryFilms]:
    """Return the films of the first stories, truth and every variant side by side.

    Leaves each story's films as one film, `films/side_by_side/story_SEED.mp4`.
    """
    films = []
    for seed in run.config.story_seeds[: run.config.films_in_report]:
        story = suite_story(seed, run.config).truth
        own = [job for job in jobs if job.seed == seed]
        films.append(
            StoryFilms(
                title=f"Story {seed}",
                prompts=[shot.prompt for shot in story.shots],
                strips={job.variant: run.store.read(job.strip_key) for job in own},
                grid=_side_by_side(run.store, own, seed),
                returns=_returns(run.store, own, story),
            )
        )
    return films


def _side_by_side(store: Store, jobs: Sequence[StoryJob], seed: int) -> bytes:
    films = {job.variant: _shots(store, job) for job in jobs}
    fps = probe(io.BytesIO(store.read(jobs[0].film_key))).fps
    with tempfile.TemporaryDirectory() as folder:
        data = write_video(Path(folder) / "films.mp4", film_grid(films), fps=fps).read_bytes()
    store.write(f"films/side_by_side/story_{seed:07d}.mp4", data)
    return data


def _shots(store: Store, job: StoryJob) -> list[Pixels]:
    """Return the stored film's frames [F, H, W, 3] shot by shot."""
    lengths = existing_result(store, job)["shot_frames"]
    frames = read_frames(io.BytesIO(store.read(job.film_key)))
    return np.split(frames, np.cumsum(lengths)[:-1])


def _returns(store: Store, jobs: Sequence[StoryJob], story: StoryTruth) -> list[Return]:
    """Return what the full method's shot cache found each time the story returned to a place."""
    returns = []
    for job in (job for job in jobs if job.variant == _SHOWN_RETURNS):
        rows = existing_result(store, job)["details"]["shots"]
        for shot in returning_shots(story):
            found = rows[shot]["retrieved"]
            if found and store.exists(job.return_key(shot)):
                best = story.shots[found[0]["shot"]].place_index
                returns.append(
                    Return(
                        shot=shot,
                        jpeg=store.read(job.return_key(shot)),
                        keyframes=[f"shot {f['shot'] + 1} ({f['score']:.2f})" for f in found],
                        is_hit=best == story.shots[shot].place_index,
                    )
                )
    return returns
