"""Suites that are written down: a seed is a story's number, and there are only so many."""

import json

import pytest

from fw_model.errors import ConfigError, InputError
from fw_model.evaluation.config import EvaluationConfig
from fw_model.evaluation.judges.toy_judge import ToyJudge
from fw_model.evaluation.judges.toy_judge_net import ToyJudgeNet
from fw_model.evaluation.stories.scenes import packaged_scenes
from fw_model.generation.request import GenerationConfig
from fw_model.loading.config import ModelConfig
from fw_model.loading.folders import TINY
from pipelines.evaluation import film_story as story_filming
from pipelines.evaluation.film_story import StoryFilmer, StoryJob
from pipelines.evaluation.run import EvaluationRun
from pipelines.evaluation.suites import SuiteStory, complete_settings, suite_story
from pipelines.storage.store import Store
from tests.fw_model.evaluation.made_up import VOCABULARY
from tests.fw_model.small_model import small_film_model

SCENES = EvaluationConfig(suite="scenes20x5")


@pytest.fixture
def file_suite(tmp_path):
    def config(text="A hen walks.\nA hen eats.\nA hen sleeps.\n###\nA cow eats.\n", **settings):
        (tmp_path / "mine.txt").write_text(text)
        path = str(tmp_path / "mine.txt")
        return EvaluationConfig(suite="file", suite_path=path, **settings)

    return config


def test_story_number_i_is_scene_number_i():
    for number in (0, 19):
        story = suite_story(number, SCENES)
        assert story.truth == packaged_scenes().scenes[number].truth(number)
        assert story.render_truth is None


def test_written_stories_are_cut_to_their_first_shots(file_suite):
    config = file_suite(shots_per_story=2)
    assert [s.prompt for s in suite_story(0, config).truth.shots] == ["A hen walks.", "A hen eats."]
    assert [s.prompt for s in suite_story(1, config).truth.shots] == ["A cow eats."]
    assert len(suite_story(3, SCENES.model_copy(update={"shots_per_story": 4})).truth.shots) == 4


@pytest.mark.parametrize("seed", [-1, 20, 1000000])
def test_a_seed_outside_the_suite_is_refused_with_its_range(seed):
    with pytest.raises(ConfigError, match="0:20"):
        suite_story(seed, SCENES)


def test_settling_says_which_stories_are_filmed(file_suite):
    assert complete_settings(EvaluationConfig()).seeds == "1000000:1000010"
    assert complete_settings(SCENES).seeds == "0:20"
    assert complete_settings(file_suite()).seeds == "0:2"
    assert complete_settings(file_suite(seeds="1:2")).seeds == "1:2"


@pytest.mark.parametrize("seeds", ["1:3", "5:6", "1000000:1000010"])
def test_settling_refuses_seeds_that_a_file_has_not(file_suite, seeds):
    with pytest.raises(ConfigError, match=rf"{seeds} .*mine\.txt.* 0:2"):
        complete_settings(file_suite(seeds=seeds))


def test_settling_names_the_file_in_full_and_leaves_a_uri(tmp_path, monkeypatch, file_suite):
    whole = file_suite().suite_path
    monkeypatch.chdir(tmp_path)
    near = EvaluationConfig(suite="file", suite_path="mine.txt")
    assert complete_settings(near).suite_path == whole
    far = EvaluationConfig(suite="file", suite_path=f"file://{whole}")
    assert complete_settings(far).suite_path == f"file://{whole}"


def test_settling_reads_the_file_before_anything_is_filmed(tmp_path):
    lost = EvaluationConfig(suite="file", suite_path=str(tmp_path / "lost.json"))
    with pytest.raises(InputError, match=r"lost\.json"):
        complete_settings(lost)


def test_a_story_is_told_by_what_it_says_and_not_by_where_it_lies(tmp_path, file_suite):
    first = suite_story(0, file_suite()).identity
    assert suite_story(0, file_suite("A hen flies.\n###")).identity != first
    again = file_suite()
    (tmp_path / "moved.txt").write_text((tmp_path / "mine.txt").read_text())
    moved = again.model_copy(update={"suite_path": str(tmp_path / "moved.txt")})
    assert suite_story(0, moved).identity == first
    assert suite_story(0, SCENES).identity != first


def test_a_toy_story_is_told_by_what_its_prompts_leave_unsaid_too():
    story = suite_story(8, EvaluationConfig())
    assert story.identity == suite_story(8, EvaluationConfig()).identity
    other = SuiteStory(story.truth, story.render_truth, render_identity="other hues")
    assert other.identity != story.identity


def test_a_written_story_is_filmed_and_only_what_needs_no_truth_is_measured(tmp_path, monkeypatch):
    ToyJudge(ToyJudgeNet(VOCABULARY, width=16)).save(tmp_path / "toy_judge")
    monkeypatch.setattr(story_filming, "load_model", lambda config: small_film_model())
    config = EvaluationConfig(
        suite="scenes20x5",
        shots_per_story=2,
        num_chunks=1,
        variants=("full",),
        clip=str(TINY / "clip"),
        toy_judge=str(tmp_path / "toy_judge"),
    )
    out = tmp_path / "out"
    filmer = StoryFilmer(EvaluationRun(config, ModelConfig(), GenerationConfig(), Store(str(out))))
    done = filmer.film(StoryJob("full", 11, ModelConfig(), "abc"))
    result = json.loads((out / done.result_key).read_text())
    assert result["seed"] == 11
    shots = packaged_scenes().scenes[11].shots[:2]
    assert [s["prompt"] for s in result["details"]["shots"]] == [s.prompt for s in shots]
    assert result["metrics"]["overall_alignment"] is not None
    assert result["metrics"]["overall_consistency"] is not None
    assert result["metrics"]["figure_accuracy"] is None
    assert result["metrics"]["copy_paste"] is None
