"""`filmweaver pretrain`: toy films become shots, facts and small trained models."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fw_model.embedders.clip import OpenClipEmbedder
from fw_model.errors import ConfigError, DataError
from fw_model.evaluation.judges.toy_judge import ToyJudge
from fw_model.pretraining.clip import EmbedderPretrainConfig
from fw_model.pretraining.text_encoder import TextPretrainConfig
from fw_model.pretraining.toy_judge import ToyJudgePretrainConfig
from fw_model.pretraining.vae import VaePretrainConfig, VaeStage
from fw_model.text_encoders.umt5 import Umt5TextEncoder
from fw_model.vaes.wan import WanVae
from pipelines.pretrain import (
    run_pretrain_embedder,
    run_pretrain_text_encoder,
    run_pretrain_toy_judge,
    run_pretrain_vae,
)
from pipelines.pretraining.captioned_shots import hue_tags, list_shots
from pipelines.pretraining.config import PretrainConfig
from pipelines.pretraining.prompts import QUESTIONS, sample_prompts
from pipelines.toyfilms.config import ToyFilmsConfig
from pipelines.toyfilms.story import FIGURE_KINDS
from pipelines.toyfilms.write import read_truth, write_films

SMALL = PretrainConfig(
    width=32,
    height=32,
    num_validation_films=1,
    vae=VaePretrainConfig(
        num_fit_clips=8,
        latent_channels=12,
        static_channels=8,
        decoder_base_dim=8,
        stages=(VaeStage(steps=2, crop_px=16, num_frames=5, batch_size=2),),
        num_validation_clips=1,
    ),
    embedder=EmbedderPretrainConfig(
        image_size=32,
        image_width=32,
        image_layers=1,
        text_width=32,
        text_layers=1,
        head_width=16,
        vocab_size=300,
        batch_size=4,
        steps=2,
    ),
)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("films")
    config = ToyFilmsConfig(num_films=3, width=32, height=32, dissolve_probability=0.4)
    write_films(config.model_copy(update={"max_shot_s": 2.5}), folder)
    return folder


def test_shots_leave_transitions_out(films: Path) -> None:
    for video in sorted(films.glob("*.mp4")):
        gradual = [(s["start_frame"], s["end_frame"]) for s in read_truth(video)["gradual"]]
        for shot in list_shots([video]):
            assert all(shot.end_frame <= a or shot.start_frame >= b for a, b in gradual)


def test_facts_begin_with_place_light_scale_and_kind(films: Path) -> None:
    video = min(films.glob("*.mp4"))
    truth = read_truth(video)["shots"][0]
    shot = list_shots([video])[0]
    assert shot.tags[1] == truth["light"]
    assert shot.tags[3] == truth["figures"][0]["kind"]
    assert set(shot.caption_tags) <= set(shot.tags)
    assert shot.caption == truth["prompt"]


def test_hues_are_named_only_where_asked_and_never_with_permuted_colours(
    films: Path, tmp_path: Path
) -> None:
    shot = {
        "figures": [
            {"kind": "bear", "body_hue": 239.0, "hat": "cap", "trim_hue": 352.0,
             "prop": None, "prop_hue": 60.0},
        ],
        "landmarks": [{"kind": "house", "hue": 121.0}],
    }  # fmt: skip
    assert hue_tags(shot) == ("blue bear", "red cap", "green house")
    video = min(films.glob("*.mp4"))
    plain, named = list_shots([video])[0], list_shots([video], name_hues=True)[0]
    assert set(named.tags) - set(plain.tags) == set(hue_tags(read_truth(video)["shots"][0]))
    assert named.caption_tags == plain.caption_tags
    with pytest.raises(ConfigError, match=r"hue_augmentation 0\.3"):
        run_pretrain_embedder(SMALL.model_copy(update={"name_hues": True}), films, tmp_path / "c")


def test_both_small_models_come_out_in_their_layouts(films: Path, tmp_path: Path) -> None:
    run_pretrain_vae(SMALL, films, tmp_path / "vae")
    vae = WanVae.load(tmp_path / "vae" / "vae")
    assert (vae.latent_channels, vae.temporal_factor, vae.spatial_factor) == (12, 4, 8)
    run_pretrain_embedder(SMALL, films, tmp_path / "clip")
    assert OpenClipEmbedder.load(tmp_path / "clip" / "clip").image_size == 32


def test_too_few_films_are_refused(films: Path, tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"num_validation_films": 3})
    with pytest.raises(DataError, match="holds 3 videos"):
        run_pretrain_vae(config, films, tmp_path)


def test_what_is_asked_of_a_prompt_is_what_it_says() -> None:
    films = ToyFilmsConfig(two_figures_probability=1.0, always_together=True)
    for prompt in sample_prompts(range(40), (ToyFilmsConfig(), films)):
        text, facts = prompt.text.lower(), prompt.answers
        assert facts.keys() == QUESTIONS.keys()
        assert all(facts[question] in answers for question, answers in QUESTIONS.items())
        named = [kind for kind in FIGURE_KINDS if f"a {kind}" in text]
        named.sort(key=text.index)
        said = [facts["first figure"], facts["second figure"]]
        assert [kind for kind in said if kind != "-"] == named
        for kind in FIGURE_KINDS:
            assert (facts[f"{kind}: action"] != "-") == (kind in named)
            assert facts[f"{kind}: hat"] == "-" or f"{kind} in a {facts[f'{kind}: hat']}" in text
            prop = facts[f"{kind}: prop"]
            assert prop == "-" or any(f"{kind} with {a} {prop}" in text for a in ("a", "an"))


def test_a_text_encoder_comes_out_in_its_layout(tmp_path: Path) -> None:
    small = TextPretrainConfig(
        width=32, layers=1, head_width=16, ffn_width=32, vocab_size=300, batch_size=4, steps=2
    )
    config = PretrainConfig(text_encoder=small)
    run_pretrain_text_encoder(config, ToyFilmsConfig(), tmp_path)
    assert Umt5TextEncoder.load(tmp_path).width == 32


def test_a_toy_judge_comes_out_with_its_accuracy_on_held_out_films(
    films: Path, tmp_path: Path
) -> None:
    small = ToyJudgePretrainConfig(steps=2, frames_per_step=8, clip_frames=(4,), width=16)
    config = SMALL.model_copy(update={"toy_judge": small})
    folder = Path(shutil.copytree(films, tmp_path / "films"))
    for file in folder.glob("film_000000.*"):  # the held-out film must show known figures
        shutil.copy(file, folder / f"film_999999{file.suffix}")
    accuracy = run_pretrain_toy_judge(config, folder, tmp_path / "out")
    assert ToyJudge.load(tmp_path / "out" / "toy_judge").card["held_out"] == pytest.approx(accuracy)
