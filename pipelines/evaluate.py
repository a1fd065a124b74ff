"""`filmweaver evaluate`: films held-out stories with every variant of a model and scores them.

A row of work is one story under one variant. Its result is a file, written last and whole, so a
stopped run goes on where it was; a result made under other settings is made again.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray

from fw_model.evaluation.config import EvaluationConfig
from fw_model.evaluation.judges.toy_judge import PACKAGED_TOY_JUDGE, ToyJudge
from fw_model.evaluation.report.page import render_report
from fw_model.evaluation.scoring.scorecard import build_scorecard
from fw_model.generation.request import GenerationConfig
from fw_model.loading.config import ModelConfig
from fw_model.loading.folders import load_record, with_whole_paths
from pipelines.evaluation.film_gallery import story_films
from pipelines.evaluation.film_story import (
    TRUTH,
    StoryFilmer,
    StoryJob,
    fingerprint,
    read_result,
    with_story,
)
from pipelines.evaluation.judges import checked_judges, clip_of
from pipelines.evaluation.suites import settled, suite_story
from pipelines.storage.store import Store

logger = logging.getLogger(__name__)


def run_evaluate(
    config: EvaluationConfig,
    model: ModelConfig,
    generation: GenerationConfig,
    output: str | Path,
) -> dict[str, Any]:
    """Film, score and report on a running Ray; return the scorecard.

    Leaves `scorecard.json`, `scorecard.html`, `stories/VARIANT/*.json` and `films/VARIANT/*` in
    `output`, which every node must reach.
    """
    # Actors run in another folder, so a local path must be whole.
    store = Store(str(output) if "://" in str(output) else str(Path(output).absolute()))
    config, model = settled(config), with_whole_paths(model)
    toy_judge_folder = Path(config.toy_judge) if config.toy_judge else PACKAGED_TOY_JUDGE
    toy_judge = ToyJudge.load(
        toy_judge_folder
    )  # a missing toy judge is told before hours of filming
    judges = checked_judges(config, model, store)  # and so are weights that do not load
    jobs = plan_jobs(config, model, generation, toy_judge_folder, judges)
    todo = [job for job in jobs if read_result(store, job) is None]
    logger.info("%d films, %d of them made before", len(jobs), len(jobs) - len(todo))
    started = time.perf_counter()
    filmed = _filmed(config, model, generation, toy_judge_folder, store, todo)
    for done, job in enumerate(filmed, start=1):
        elapsed_s = time.perf_counter() - started
        left_s = elapsed_s / done * (len(todo) - done)
        logger.info(
            "film %d/%d: %s of story %d (%.0f s, %.0f s to go)",
            done, len(todo), job.variant, job.seed, elapsed_s, left_s,
        )  # fmt: skip
    scorecard = _scorecard(config, model, generation, toy_judge, store, jobs)
    store.write("scorecard.json", json.dumps(scorecard, indent=2).encode() + b"\n")
    store.write(
        "scorecard.html", render_report(scorecard, story_films(config, store, jobs)).encode()
    )
    return scorecard


def plan_jobs(
    config: EvaluationConfig,
    model: ModelConfig,
    generation: GenerationConfig,
    toy_judge: Path,
    judges: str,
) -> list[StoryJob]:
    """Return all films to be made, one model after the other: loading takes longer than a film.

    `judges` is what `checked_judges` returned.
    """
    stories = {seed: suite_story(seed, config) for seed in config.story_seeds}
    has_truth = stories[config.story_seeds[0]].render_truth is not None
    models = {
        name: model.model_copy(
            update={"checkpoint": config.checkpoints.get(name, model.checkpoint)}
        )
        for name in ((TRUTH,) if has_truth else ()) + config.variants
    }
    names = sorted(models, key=lambda name: models[name].checkpoint != model.checkpoint)
    prints = {
        name: fingerprint(config, models[name], generation, toy_judge, name, judges)
        for name in names
    }
    return [
        StoryJob(name, seed, models[name], with_story(prints[name], story))
        for name in names
        for seed, story in stories.items()
    ]


def _filmed(
    config: EvaluationConfig,
    model: ModelConfig,
    generation: GenerationConfig,
    toy_judge: Path,
    store: Store,
    jobs: list[StoryJob],
) -> Iterator[StoryJob]:
    """Yield jobs as they are done, each by the next free actor; the first error ends the run."""
    # An actor begun again would have its whole share of a budget once more.
    restarts = 3 if config.characters.budget_usd is None else 0
    remote = ray.remote(StoryFilmer).options(
        num_cpus=config.cpus_per_actor,
        num_gpus=config.gpus_per_actor,
        max_restarts=restarts,
        max_task_retries=restarts,
    )
    count = min(config.num_actors, len(jobs))
    actors = [
        remote.remote(config, model, generation, toy_judge.absolute(), store.uri)
        for _ in range(count)
    ]
    waiting = iter(jobs)
    # Where the cluster has no room for all of them, the others have all the work.
    starting = {actor.__ray_ready__.remote(): actor for actor in actors}
    filming: dict[Any, Any] = {}
    left = len(jobs)
    try:
        while left:
            (done,), _ = ray.wait([*starting, *filming], num_returns=1)
            result = ray.get(done)
            actor = starting.pop(done, None)
            if actor is None:
                actor = filming.pop(done)
                left -= 1
                yield result
            job = next(waiting, None)
            if job is not None:
                filming[actor.film.remote(job)] = actor
    finally:
        for actor in actors:
            ray.kill(actor)


def _scorecard(
    config: EvaluationConfig,
    model: ModelConfig,
    generation: GenerationConfig,
    toy_judge: ToyJudge,
    store: Store,
    jobs: list[StoryJob],
) -> dict[str, Any]:
    scores: dict[str, dict[int, dict[str, Any]]] = {}
    for job in jobs:
        result = read_result(store, job)
        assert result is not None  # it was filmed, or there would have been an error
        scores.setdefault(job.variant, {})[job.seed] = result
    truth = scores.pop(TRUTH, {})
    return build_scorecard(
        scores,
        truth,
        num_bootstrap=config.num_bootstrap,
        about={
            "toy_judge": toy_judge.card if truth else {},
            "clip": clip_of(config, model),
            "settings": {
                **config.model_dump(mode="json"),
                "model": model.model_dump(mode="json", exclude_defaults=True),
                "generation": generation.model_dump(mode="json", exclude_defaults=True),
                "fps": load_record(model).fps,
            },
        },
    )
