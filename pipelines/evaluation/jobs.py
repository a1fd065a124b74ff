"""Which films an evaluation makes: every story with every variant, and what each result depends on.

Knows nothing about how films are made or scored.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from fw_model.evaluation.judges.toy_judge import CARD_FILE, WEIGHTS_FILE
from fw_model.loading.config import ModelConfig
from fw_model.loading.fingerprints import model_fingerprint
from pipelines.evaluation.run import EvaluationRun
from pipelines.evaluation.suites import suite_story

TRUTH = "truth"
"""Used like the name of a variant: the true films, which are scored like any others."""

# Raise this when a metric or the keys of a result change: older results are then made again.
_SCORING_VERSION = 4


@dataclass(frozen=True)
class StoryJob:
    """One story to film with one variant; `fingerprint` hashes all that its result depends on.

    The keys are those of its files in the output.
    """

    variant: str
    seed: int
    model: ModelConfig
    fingerprint: str

    @property
    def result_key(self) -> str:
        """The scores."""
        return f"stories/{self.variant}/story_{self.seed:07d}.json"

    @property
    def film_key(self) -> str:
        """The film."""
        return f"films/{self.variant}/story_{self.seed:07d}.mp4"

    @property
    def strip_key(self) -> str:
        """The film strip."""
        return f"films/{self.variant}/story_{self.seed:07d}.jpg"

    def return_key(self, shot: int) -> str:
        """The picture of a shot that returns to a place."""
        return f"films/{self.variant}/story_{self.seed:07d}_return_{shot}.jpg"


def plan_jobs(run: EvaluationRun, judges: str) -> list[StoryJob]:
    """Return all films to make, grouped by model, because loading one takes longer than filming.

    `judges` is what `judges_identity` returned.
    """
    config, model = run.config, run.model
    stories = {seed: suite_story(seed, config) for seed in config.story_seeds}
    has_truth = stories[config.story_seeds[0]].render_truth is not None
    models = {
        name: model.model_copy(
            update={"checkpoint": config.checkpoints.get(name, model.checkpoint)}
        )
        for name in ((TRUTH,) if has_truth else ()) + config.variants
    }
    jobs = []
    for name in sorted(models, key=lambda name: models[name].checkpoint != model.checkpoint):
        of_variant = _variant_fingerprint(run, models[name], name, judges)
        for seed, story in stories.items():
            # A suite may change what it films under the same seed.
            fingerprint = _hash(f"{of_variant}\n{story.identity}".encode())
            jobs.append(StoryJob(name, seed, models[name], fingerprint))
    return jobs


def _variant_fingerprint(run: EvaluationRun, model: ModelConfig, variant: str, judges: str) -> str:
    """Return a hash of all that a variant's results depend on, except the stories."""
    parts = [
        json.dumps([_SCORING_VERSION, variant, run.config.num_chunks]).encode(),
        run.generation.model_dump_json().encode(),
        model.model_dump_json().encode(),
        model_fingerprint(model).encode(),
        *((run.toy_judge_folder / name).read_bytes() for name in (CARD_FILE, WEIGHTS_FILE)),
        judges.encode(),
    ]
    return _hash(b"".join(parts))


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:20]
