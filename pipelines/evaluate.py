"""`filmweaver evaluate`: films held-out stories with every variant of a model and scores them.

The job from top to bottom; pipelines/evaluation holds its steps. A row of work is one story under
one variant. Its result is a file, written last and in one step, so a stopped run continues where it
stopped; a result made with other settings is made again.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import ray

from fw_model.evaluation.config import EvaluationConfig
from fw_model.evaluation.report.page import render_report
from fw_model.evaluation.scoring.scorecard import Scorecard, build_scorecard
from fw_model.generation.request import GenerationConfig
from fw_model.loading.config import ModelConfig
from pipelines.evaluation.film_gallery import story_films
from pipelines.evaluation.jobs import TRUTH, plan_jobs
from pipelines.evaluation.judges import judges_identity, load_judges
from pipelines.evaluation.results import read_result, read_results
from pipelines.evaluation.run import EvaluationRun
from pipelines.evaluation.work_queue import FilmingActor, film_all
from pipelines.storage.shared_paths import shared_paths

logger = logging.getLogger(__name__)


def run_evaluate(
    config: EvaluationConfig,
    model: ModelConfig,
    generation: GenerationConfig,
    output: str | Path,
) -> Scorecard:
    """Film, score and report on a running Ray; return the scorecard.

    Leaves `scorecard.json`, `scorecard.html`, `stories/VARIANT/*.json` and `films/VARIANT/*` in
    `output`, a folder or URI that every node must reach; StorageError names a node that does not.
    """
    run = EvaluationRun.prepare(config, model, generation, output)
    judges = load_judges(run, "cpu")  # weights that do not load end the run before it films
    jobs = plan_jobs(run, judges_identity(run, judges))  # stories x (truth and variants)
    todo = [job for job in jobs if read_result(run.store, job) is None]
    logger.info("%d films, %d of them made before", len(jobs), len(jobs) - len(todo))

    with shared_paths(run.local_paths(), run.store.uri) as shared:
        filmer: Any = ray.remote(FilmingActor).options(  # holds one model and the judges
            num_cpus=run.config.cpus_per_actor, num_gpus=run.config.gpus_per_actor
        )
        film_all(  # 1:1, a job becomes a film, its metrics and its strip in the output
            lambda: filmer.remote(run, shared),
            todo,
            num_actors=run.config.num_actors,
            # A new actor would get the dead one's share of a budget a second time.
            replace=run.config.characters.budget_usd is None,
        )

    scores = read_results(run.store, jobs)  # by variant, then by story
    truth = scores.pop(TRUTH, {})
    scorecard = build_scorecard(
        scores,
        truth,
        num_bootstrap=run.config.num_bootstrap,
        about=run.about(judges, has_truth=bool(truth)),
    )
    run.store.write("scorecard.json", json.dumps(scorecard, indent=2).encode() + b"\n")
    page = render_report(scorecard, story_films(run, jobs))
    run.store.write("scorecard.html", page.encode())
    return scorecard
