"""The whole of `filmweaver evaluate` on Ray, with a new transformer of random weights."""

import json

import pytest

from fw_model.evaluation.config import EvaluationConfig
from fw_model.evaluation.judges.config import AestheticConfig
from fw_model.evaluation.judges.toy_judge import ToyJudge
from fw_model.evaluation.judges.toy_judge_net import ToyJudgeNet, Vocabulary
from fw_model.evaluation.scoring.story_score import METRICS
from fw_model.evaluation.variants import VARIANTS
from fw_model.generation.request import GenerationConfig
from fw_model.loading.config import BackboneConfig, ModelConfig
from fw_model.loading.load import load_text_encoder, load_vae
from pipelines.evaluate import run_evaluate
from pipelines.toyfilms.story import (
    ACTIONS,
    FIGURE_KINDS,
    LIGHTS,
    PLACE_KINDS,
    SCALES,
)
from tests.fw_model.evaluation.judge_files import saved, v1_state

GENERATION = GenerationConfig(num_inference_steps=1, guidance_scale=1.0)


@pytest.fixture(scope="module")
def model(tiny_path):
    plain = ModelConfig(path=str(tiny_path), device="cpu")
    channels = load_vae(plain).latent_channels
    shape = {
        "patch_size": [1, 1, 1],
        "num_attention_heads": 2,
        "attention_head_dim": 24,
        "in_channels": channels,
        "out_channels": channels,
        "text_dim": load_text_encoder(plain).width,
        "freq_dim": 32,
        "ffn_dim": 32,
        "num_layers": 1,
    }
    return plain.model_copy(update={"backbone": BackboneConfig(scratch=shape)})


@pytest.fixture(scope="module")
def toy_judge(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy_judge")
    words = Vocabulary(FIGURE_KINDS, PLACE_KINDS, LIGHTS, SCALES, ACTIONS)
    ToyJudge(ToyJudgeNet(words, width=16)).save(folder, held_out={"place_accuracy": 0.2})
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_evaluate_leaves_a_scorecard_and_goes_on_where_it_was(
    model, toy_judge, tiny_path, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # actors work elsewhere, and must find the head all the same
    saved(v1_state(96), tmp_path / "head.pth")
    config = EvaluationConfig(
        seeds="40:42",
        shots_per_story=2,
        num_chunks=1,
        variants=("full", "without_shot_cache"),
        toy_judge=str(toy_judge),
        aesthetic=AestheticConfig(head="head.pth", clip=str(tiny_path / "clip")),
        num_actors=2,
        cpus_per_actor=1.5,  # the second finds no room on two CPUs: the first has all the work
        num_bootstrap=100,
    )
    scorecard = run_evaluate(config, model, GENERATION, tmp_path)
    assert json.loads((tmp_path / "scorecard.json").read_text()) == scorecard
    assert list(scorecard["variants"]) == list(VARIANTS)
    for name, metrics in scorecard["variants"].items():
        assert list(metrics) == list(METRICS)
        measured = name in config.variants
        assert (metrics["figure_accuracy"] is not None) == measured
        assert (metrics["overall_alignment"] is not None) == measured
        assert (metrics["aesthetic"] is not None) == measured
        assert metrics["inception"] is None
    assert scorecard["truth"]["copy_paste"]["mean"] == 0.0
    assert scorecard["clip"] is not None
    assert scorecard["toy_judge"]["held_out"] == {"place_accuracy": 0.2}
    page = (tmp_path / "scorecard.html").read_text()
    assert page.count("data:image/jpeg") == 2 * 3

    results = sorted(tmp_path.glob("stories/*/*.json"))
    assert len(results) == 2 * 3
    results[0].unlink()
    before = {path: path.stat().st_mtime_ns for path in results[1:]}
    again = run_evaluate(config, model, GENERATION, tmp_path)
    assert again == scorecard
    assert {path: path.stat().st_mtime_ns for path in results[1:]} == before
