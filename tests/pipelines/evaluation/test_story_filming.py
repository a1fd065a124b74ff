"""A story is filmed, scored and filed; what is filed is not made again."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fw_model.evaluation.config import EvaluationConfig
from fw_model.evaluation.judges.toy_judge import PACKAGED_TOY_JUDGE, ToyJudge
from fw_model.evaluation.judges.toy_judge_net import ToyJudgeNet, Vocabulary
from fw_model.evaluation.scoring.story_score import METRICS
from fw_model.generation.request import GenerationConfig
from fw_model.loading.config import ModelConfig
from pipelines.evaluation import film_story
from pipelines.evaluation.film_story import StoryFilmer, true_shots
from pipelines.evaluation.jobs import TRUTH, StoryJob, plan_jobs
from pipelines.evaluation.results import read_result
from pipelines.evaluation.run import EvaluationRun
from pipelines.evaluation.suites import toy_story
from pipelines.storage.store import Store
from pipelines.toyfilms.story import (
    ACTIONS,
    FIGURE_KINDS,
    LIGHTS,
    PLACE_KINDS,
    SCALES,
)
from tests.fw_model.small_model import ColourEmbedder, small_film_model

CONFIG = EvaluationConfig(seeds="3:5", shots_per_story=3, num_chunks=2, variants=("full",))


@pytest.fixture
def filmer(tmp_path, monkeypatch):
    words = Vocabulary(FIGURE_KINDS, PLACE_KINDS, LIGHTS, SCALES, ACTIONS)
    ToyJudge(ToyJudgeNet(words, width=16)).save(tmp_path / "toy_judge")
    monkeypatch.setattr(film_story, "load_model", lambda config: small_film_model())
    config = CONFIG.model_copy(update={"toy_judge": str(tmp_path / "toy_judge")})
    return StoryFilmer(run_of(config, tmp_path / "out"))


def run_of(config, output="unused"):
    return EvaluationRun(config, ModelConfig(), GenerationConfig(), Store(str(output)))


def job(variant, print_="abc"):
    return StoryJob(variant, 3, ModelConfig(), print_)


@pytest.mark.parametrize("variant", ["full", TRUTH])
def test_a_story_leaves_film_strip_and_scores(filmer, tmp_path, variant):
    done = filmer.film(job(variant))
    out = tmp_path / "out"
    assert (out / done.film_key).stat().st_size > 500
    assert (out / done.strip_key).read_bytes()[:2] == b"\xff\xd8"
    result = json.loads((out / done.result_key).read_text())
    assert set(result["metrics"]) == set(METRICS)
    assert result["shot_frames"] == [13, 13, 13]
    assert [len(shot["retrieved"]) for shot in result["details"]["shots"]] == [0, 2, 3]
    if variant == TRUTH:
        assert result["metrics"]["copy_paste"] == 0.0


def test_a_result_counts_only_under_its_own_settings(filmer, tmp_path):
    store = Store(str(tmp_path / "out"))
    assert read_result(store, job("full")) is None
    filmer.film(job("full"))
    assert read_result(store, job("full"))["seed"] == 3
    assert read_result(store, job("full", "other settings")) is None


def test_true_films_find_their_keyframes_by_prompt_from_earlier_shots_only():
    story = toy_story(8, EvaluationConfig(shots_per_story=4))
    truth = story.render_truth([13] * 4, 32, 32, 12.0)
    shots = true_shots(truth, [0, 5, 13], story.truth, ColourEmbedder(), top_k=3)
    assert [len(shot.cached) for shot in shots] == [0, 2, 3, 3]
    for index, shot in enumerate(shots):
        assert all(c.shot < index and c.frame in (2, 9) for c in shot.cached)
        assert all(np.array_equal(c.image, truth[c.shot][c.frame]) for c in shot.cached)


def test_stories_are_what_their_prompts_say():
    story = toy_story(8, EvaluationConfig(shots_per_story=6))
    assert len(story.truth.shots) == 6
    for shot in story.truth.shots:
        assert all(figure.kind in shot.prompt.lower() for figure in shot.figures)
    assert toy_story(8, EvaluationConfig(shots_per_story=6)).truth == story.truth


@pytest.mark.skipif(not PACKAGED_TOY_JUDGE.is_dir(), reason="no packaged toy_judge")
def test_jobs_of_one_model_stand_together(tiny_path):
    config = EvaluationConfig(
        seeds="3:5",
        variants=("without_augmentation", "full"),
        checkpoints={"without_augmentation": str(tiny_path)},
    )
    jobs = plan_jobs(run_of(config), "")
    assert [job.variant for job in jobs] == [
        TRUTH, TRUTH, "full", "full", "without_augmentation", "without_augmentation"
    ]  # fmt: skip
    assert [job.seed for job in jobs] == [3, 4] * 3
    assert len({job.fingerprint for job in jobs}) == 6


def test_a_story_that_changed_under_its_seed_is_filmed_again(monkeypatch):
    def prints():
        jobs = plan_jobs(run_of(CONFIG), "")
        return [job.fingerprint for job in jobs if job.variant == "full"]

    before = prints()
    assert prints() == before

    def changed(seed, config):
        story = toy_story(seed, config)
        if seed == 4:
            shots = (replace(story.truth.shots[0], prompt="a new prompt"), *story.truth.shots[1:])
            return replace(story, truth=replace(story.truth, shots=shots))
        return story

    monkeypatch.setattr("pipelines.evaluation.jobs.suite_story", changed)
    after = prints()
    assert after[0] == before[0] and after[1] != before[1]
