"""Judges from outside: they are loaded before any filming, and results name what they rest on."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

from fw_model.errors import CheckpointError, ConfigError
from fw_model.evaluation.config import EvaluationConfig
from fw_model.evaluation.judges.config import AestheticConfig, CharactersConfig, InceptionConfig
from fw_model.evaluation.judges.toy_judge import ToyJudge
from fw_model.evaluation.judges.toy_judge_net import ToyJudgeNet, Vocabulary
from fw_model.evaluation.scoring.scorecard import build_scorecard
from fw_model.generation.request import GenerationConfig
from fw_model.loading.config import ModelConfig, PartConfig
from fw_model.loading.folders import TINY
from pipelines.evaluate import run_evaluate
from pipelines.evaluation import film_story
from pipelines.evaluation.film_story import StoryFilmer
from pipelines.evaluation.jobs import StoryJob, plan_jobs
from pipelines.evaluation.judges import judges_identity, load_judges
from pipelines.evaluation.run import EvaluationRun
from pipelines.storage.store import Store
from tests.fw_model.evaluation.judge_files import random_inception, saved, v1_state
from tests.fw_model.small_model import small_film_model

OWN_FINDER = "tests.pipelines.evaluation.own_finder:EverywhereFinder"


@pytest.fixture
def toy_judge(tmp_path):
    """A toy judge of few words: what it sees plays no part here."""
    words = {field.name: ("one", "other") for field in dataclasses.fields(Vocabulary)}
    ToyJudge(ToyJudgeNet(Vocabulary(**words), width=16)).save(tmp_path / "toy_judge")
    return tmp_path / "toy_judge"


@pytest.fixture
def files(tmp_path, tiny_path):
    """A head, a CLIP of its own, and the aesthetic config that names them."""
    head = saved(v1_state(96), tmp_path / "head.pth")
    clip = shutil.copytree(tiny_path / "clip", tmp_path / "clip")
    return AestheticConfig(head=str(head), clip=str(clip))


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "inception_v3.pth"
    torch.save(random_inception().state_dict(), path)
    yield str(path)
    path.unlink()  # 100 MB


def run_of(config, output="unused", model=None):
    return EvaluationRun(config, model or ModelConfig(), GenerationConfig(), Store(str(output)))


@pytest.fixture
def identity(tmp_path, toy_judge):
    """What results rest on, for these judges."""

    def of(**judges):
        run = run_of(EvaluationConfig(toy_judge=str(toy_judge), **judges), tmp_path / "out")
        return judges_identity(run, load_judges(run, "cpu"))

    return of


def test_without_judges_from_outside_results_rest_on_the_models_own_clip_alone(identity):
    assert list(json.loads(identity())) == ["clip"]
    assert identity(aesthetic=AestheticConfig(frames_per_shot=3)) == identity()


def test_results_rest_on_the_clip_that_judges(identity, tiny_path, tmp_path):
    same = shutil.copytree(tiny_path / "clip", tmp_path / "same")
    assert identity(clip=str(same)) == identity()
    (same / "note.txt").write_text("another CLIP")
    assert identity(clip=str(same)) != identity()
    with pytest.raises(CheckpointError, match="nowhere"):
        identity(clip=str(tmp_path / "nowhere"))


def test_results_rest_on_what_the_files_hold_and_not_on_where_they_lie(identity, files, tmp_path):
    first = identity(aesthetic=files)
    moved = shutil.move(files.head, tmp_path / "moved.pth")
    folder = shutil.move(files.clip, tmp_path / "other")
    files = AestheticConfig(head=str(moved), clip=str(folder))
    assert identity(aesthetic=files) == first
    assert identity(aesthetic=files.model_copy(update={"frames_per_shot": 2})) != first
    (Path(folder) / "note.txt").write_text("another CLIP")
    other_clip = identity(aesthetic=files)
    saved(v1_state(96, seed=9), Path(moved))
    assert len({first, other_clip, identity(aesthetic=files)}) == 3


def test_results_rest_on_the_inception_weights_and_their_settings(identity, inception_file):
    first = identity(inception=InceptionConfig(weights=inception_file))
    assert first
    assert identity(inception=InceptionConfig(weights=inception_file, frames_per_shot=2)) != first


def test_results_rest_on_who_finds_characters(identity):
    kinds = [
        CharactersConfig(kind="openai"),
        CharactersConfig(kind="openai", model="m"),
        CharactersConfig(kind=OWN_FINDER),
    ]
    assert len({identity(), *(identity(characters=kind) for kind in kinds)}) == 4


def test_a_storys_fingerprint_changes_with_its_judges(toy_judge):
    config = EvaluationConfig(seeds="3:4", variants=("full",), toy_judge=str(toy_judge))

    def prints(judges):
        jobs = plan_jobs(run_of(config), judges)
        return {job.fingerprint for job in jobs}

    assert not prints("") & prints('{"inception": ["abc", 8]}')
    assert prints("") == prints("")


@pytest.mark.parametrize(
    "judges",
    [
        {"aesthetic": {"head": "no/head.pth", "clip": "no/clip"}},
        {"inception": {"weights": "no/inception.pth"}},
    ],
)
def test_weights_that_do_not_load_end_the_run_before_any_filming(judges, toy_judge, tmp_path):
    """Ray is not even running here."""
    config = EvaluationConfig(seeds="3:4", toy_judge=str(toy_judge), **judges)
    with pytest.raises(CheckpointError, match=r"no/(head|inception)\.pth"):
        run_evaluate(config, ModelConfig(), GenerationConfig(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_packaged_clip_judges_toy_films_alone_unless_it_is_named(tmp_path):
    model = ModelConfig(device="cpu")
    toys, words = EvaluationConfig(), EvaluationConfig(suite="scenes20x5")
    assert run_of(toys, model=model).clip_name == "the packaged CLIP"
    assert run_of(words, model=model).clip_name is None
    assert load_judges(run_of(words, tmp_path, model), "cpu").embedder is None
    named = words.model_copy(update={"clip": str(TINY / "clip")})
    assert run_of(named, model=model).clip_name == str(TINY / "clip")
    assert load_judges(run_of(named, tmp_path, model), "cpu").embedder is not None
    own = PartConfig(kind="my_package:Embedder")
    other = model.model_copy(update={"embedder": own})
    assert run_of(words, model=other).clip_name == "my_package:Embedder"


def test_an_unknown_finder_ends_the_run_before_any_filming(toy_judge, tmp_path):
    finder = CharactersConfig(kind="gemini")
    config = EvaluationConfig(seeds="3:4", toy_judge=str(toy_judge), characters=finder)
    with pytest.raises(ConfigError, match="gemini"):
        run_evaluate(config, ModelConfig(), GenerationConfig(), tmp_path / "out")


def test_a_suite_of_words_is_judged_and_the_scorecard_has_the_numbers(
    tmp_path, monkeypatch, toy_judge, files, inception_file
):
    monkeypatch.setattr(film_story, "load_model", lambda config: small_film_model())
    config = EvaluationConfig(
        suite="scenes20x5",
        seeds="0:2",
        shots_per_story=2,
        num_chunks=1,
        aesthetic=files,
        inception=InceptionConfig(weights=inception_file, frames_per_shot=1),
        characters=CharactersConfig(kind=OWN_FINDER),
        clip=str(TINY / "clip"),
        toy_judge=str(toy_judge),
    )
    filmer = StoryFilmer(run_of(config, tmp_path / "out"))
    results = {}
    for seed in (0, 1):
        job = filmer.film(StoryJob("full", seed, ModelConfig(device="cpu"), "print"))
        results[seed] = json.loads((tmp_path / "out" / job.result_key).read_text())
    assert results[0]["metrics"]["inception"]["num_frames"] == 2
    told = results[0]["details"]["shots"][0]["characters"]
    assert told
    assert all(words[0]["box"] == [0.0, 0.0, 1.0, 1.0] for words in told.values())
    card = build_scorecard({"full": results}, {}, num_bootstrap=100, about={})
    full = card["variants"]["full"]
    scores = [results[seed]["metrics"]["aesthetic"] for seed in (0, 1)]
    assert full["aesthetic"]["mean"] == pytest.approx(sum(scores) / 2, abs=1e-4)
    assert 1 <= full["inception"]["mean"] <= 4  # no more classes than frames
    assert full["character_consistency"] is not None
    assert card["details"]["full"]["characters_found"] == 1.0


def test_results_rest_on_the_stories_of_a_file(toy_judge, tmp_path):
    def prints(words):
        (tmp_path / "stories.txt").write_text(words)
        config = EvaluationConfig(
            suite="file",
            suite_path=str(tmp_path / "stories.txt"),
            seeds="0:1",
            variants=("full",),
            toy_judge=str(toy_judge),
        )
        jobs = plan_jobs(run_of(config), "")
        return {job.fingerprint for job in jobs}

    hen = prints("A hen walks.\nA hen flies.\n###")
    assert prints("A hen walks.\nA hen sleeps.\n###") != hen
    assert prints("A hen walks.\nA hen flies.\n###") == hen
