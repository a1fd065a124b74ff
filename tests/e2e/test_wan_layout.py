"""A model folder in the layout of Wan2.1-T2V-1.3B-Diffusers loads by its path and generates."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fw_model.generation.generator import StoryGenerator
from fw_model.generation.request import GenerationConfig
from fw_model.generation.story_file import StoryFile
from fw_model.loading.config import ModelConfig
from fw_model.loading.load import load_model
from fw_model.media.video import probe, read_frames
from tests.fw_model.wan_folder import save_wan_folder

STORY = """
title: Two shots
seed: 3
shots:
  - {prompt: a lighthouse in the fog, num_chunks: 2}
  - {prompt: the keeper climbs the stairs, num_chunks: 1}
"""


@pytest.fixture(scope="module")
def wan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_wan_folder(tmp_path_factory.mktemp("wan"))


def test_stock_folder_generates_in_all_modes_with_its_own_scheduler(wan_folder: Path) -> None:
    model = load_model(ModelConfig(path=str(wan_folder), width=32, height=32, device="cpu"))
    assert type(model.text_encoder).__name__ == "Umt5TextEncoder"
    assert model.record.cache.chunk_latents == 6  # the paper's chunk: 24 frames
    generator = StoryGenerator(model, GenerationConfig(num_inference_steps=2))
    story = StoryFile.model_validate(
        {
            "seed": 3,
            "shots": [
                {"prompt": "a lighthouse", "num_chunks": 2},
                {"prompt": "the stairs", "extend": [{"prompt": "the lamp"}]},
            ],
        }
    )
    chunks = list(generator.generate_story(story))
    assert [c.mode for c in chunks] == [
        "first_shot", "extend_first_shot", "new_shot", "extend_new_shot",
    ]  # fmt: skip
    assert [len(c.result.frames) for c in chunks] == [21, 24, 21, 24]
    assert all(torch.isfinite(c.result.latents).all() for c in chunks)


def test_the_command_generates_from_it(wan_folder: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from cluster.cli import app

    (tmp_path / "story.yaml").write_text(STORY)
    film = tmp_path / "film.mp4"
    settings = [
        f"model.path={wan_folder}", "model.width=32", "model.height=32",
        "generation.num_inference_steps=2",
    ]  # fmt: skip
    arguments = ["generate", str(tmp_path / "story.yaml"), "--out", str(film)]
    for setting in settings:
        arguments += ["--set", setting]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert probe(film).width == 32
    frames = read_frames(film)
    assert len(frames) == 21 + 24 + 21
    assert np.ptp(frames) > 0
