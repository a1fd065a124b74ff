"""open_clip models from a folder: the packaged one, and small random ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from fw_model.embedders.clip import OpenClipEmbedder
from fw_model.embedders.open_clip_folder import CONFIG_FILE
from fw_model.errors import CheckpointError, InputError
from fw_model.pretraining.clip import EmbedderPretrainConfig, save_clip
from fw_model.pretraining.tokenizer import train_tokenizer

SMALL = EmbedderPretrainConfig(
    image_width=32, image_layers=1, text_width=32, text_layers=1, head_width=16, embed_dim=24
)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["a bear waves", "a cat sits"], vocab_size=300)
    tree = SMALL.model_config_tree()
    tree["text_cfg"]["vocab_size"] = len(tokenizer)
    save_clip(open_clip.CLIP(**tree), tree, folder)
    tokenizer.save_pretrained(str(folder))
    return folder


def test_rows_are_unit_vectors_of_the_models_width(clip_folder: Path) -> None:
    embedder = OpenClipEmbedder.load(clip_folder)
    pictures = [np.full((20, 30, 3), value, np.uint8) for value in (10, 200)]
    rows = torch.cat([embedder.embed_images(pictures), embedder.embed_text(["a bear", "x"])])
    assert rows.shape == (4, embedder.width) == (4, 24)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(4))


def test_an_embedding_does_not_depend_on_its_batch(clip_folder: Path) -> None:
    embedder = OpenClipEmbedder.load(clip_folder)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (64, 64, 3), np.uint8) for _ in range(3)]
    alone = torch.cat([embedder.embed_images([picture]) for picture in pictures])
    torch.testing.assert_close(embedder.embed_images(pictures), alone, rtol=0, atol=1e-5)


def test_nothing_embeds_to_no_rows(clip_folder: Path) -> None:
    embedder = OpenClipEmbedder.load(clip_folder)
    assert embedder.embed_images([]).shape == embedder.embed_text([]).shape == (0, 24)


def test_the_model_id_follows_the_weights(clip_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / clip_folder.name
    other.mkdir()
    for file in clip_folder.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    assert OpenClipEmbedder.load(other).model_id == OpenClipEmbedder.load(clip_folder).model_id
    tree = json.loads((other / CONFIG_FILE).read_text())["model_cfg"]
    torch.manual_seed(1)
    save_clip(open_clip.CLIP(**tree), tree, other)
    assert OpenClipEmbedder.load(other).model_id != OpenClipEmbedder.load(clip_folder).model_id


def test_a_float_picture_is_refused(clip_folder: Path) -> None:
    with pytest.raises(InputError, match="uint8"):
        OpenClipEmbedder.load(clip_folder).embed_images([np.zeros((8, 8, 3))])  # type: ignore[list-item]


def test_a_folder_without_a_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=CONFIG_FILE):
        OpenClipEmbedder.load(tmp_path)


def test_a_broken_config_is_named(tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_text("{}")
    with pytest.raises(CheckpointError, match="not an open_clip config"):
        OpenClipEmbedder.load(tmp_path)
