"""From settings and dataset to the module that is trained: what does not fit is refused at once."""

import json
import logging
from pathlib import Path

import pytest

from fw_model.backbones.wan import WanBackbone
from fw_model.backbones.wan_depth import SILENT_AT_FIRST
from fw_model.errors import ConfigError, DataError
from fw_model.loading.config import ModelConfig, PartConfig
from fw_model.loading.fingerprints import encoding_parts
from fw_model.loading.load import load_backbone
from fw_model.schemas.encoded import META_FILE, EncodedMeta, read_meta
from fw_model.training.build import build_training_model, check_encoded_with
from fw_model.training.config import LoraSettings, ObjectiveConfig, TrainingConfig
from fw_model.training.data.dataset import EncodedDataset
from fw_model.training.local import train_here
from pipelines.train import run_train
from tests.encoded_films import CHANNELS, small_model, small_training, write_encoded


@pytest.fixture
def model(tmp_path: Path) -> ModelConfig:
    return small_model(tmp_path / "model")


@pytest.fixture
def dataset(tmp_path: Path, model: ModelConfig) -> Path:
    """A dataset that says that it was encoded with the VAE and text encoder of `model`."""
    folder = write_encoded(tmp_path / "data")
    meta = read_meta(folder).model_copy(update={"parts": encoding_parts(model)})
    (folder / META_FILE).write_text(json.dumps(meta.model_dump()))
    return folder


def with_other(model: ModelConfig, section: str, folder: Path) -> ModelConfig:
    """Return `model` with another folder as its VAE or text encoder."""
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    kind = "wan" if section == "vae" else "clip"
    return model.model_copy(update={section: PartConfig(kind=kind, path=str(folder))})


@pytest.mark.parametrize(("section", "named"), [("vae", "VAE"), ("text_encoder", "text encoder")])
def test_training_refuses_a_dataset_that_was_encoded_with_another_part(
    section: str, named: str, model: ModelConfig, dataset: Path, tmp_path: Path
) -> None:
    other = with_other(model, section, tmp_path / "other")
    for workers in (0, 1):  # on a cluster before any worker is started
        config = small_training(num_workers=workers)
        with pytest.raises(DataError, match=f"encoded with another {named}"):
            run_train(config, other, dataset, tmp_path / "out")


def test_a_model_fits_what_it_encoded_and_so_does_what_was_trained_from_it(
    model: ModelConfig, dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vae = Path(model.path) / "vae"
    vae.mkdir()
    (vae / "config.json").write_text("{}")
    meta = read_meta(dataset).model_copy(update={"parts": encoding_parts(model)})
    (dataset / META_FILE).write_text(json.dumps(meta.model_dump()))
    folder = train_here(small_training(), model, dataset, tmp_path / "out")
    check_encoded_with(ModelConfig(checkpoint=str(folder), device="cpu"), meta)
    assert "older version" not in caplog.text


def test_a_dataset_that_does_not_say_what_encoded_it_is_taken_with_a_warning(
    model: ModelConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_encoded(tmp_path / "old")
    tree = json.loads((folder / META_FILE).read_text())
    del tree["parts"]
    (folder / META_FILE).write_text(json.dumps(tree))
    with caplog.at_level(logging.WARNING):
        check_encoded_with(model, EncodedDataset(folder).meta)
    assert "older version" in caplog.text


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (small_training(lora=LoraSettings(rank=2, targets=("to_q", "foo"))), r"'foo'.*to_q"),
        (small_training(lora=LoraSettings(rank=2, targets=("attn1",))), "not a linear layer"),
        (
            small_training(objective=ObjectiveConfig(channel_weight=(1.0, 2.0))),
            f"2 weights.*{CHANNELS} channels",
        ),
    ],
)
def test_settings_that_do_not_fit_the_transformer_are_refused(
    config: TrainingConfig, says: str, model: ModelConfig, dataset: Path
) -> None:
    meta: EncodedMeta = read_meta(dataset)
    with pytest.raises(ConfigError, match=says):
        build_training_model(config, model, meta)


def test_weights_for_all_channels_and_known_targets_are_taken(
    model: ModelConfig, dataset: Path
) -> None:
    config = small_training(
        lora=LoraSettings(rank=2), objective=ObjectiveConfig(channel_weight=(1.0,) * CHANNELS)
    )
    trained = build_training_model(config, model, read_meta(dataset))
    assert any("lora_" in name for name, _ in trained.named_parameters())


def test_a_deeper_model_is_trained_exported_and_read_back(
    model: ModelConfig, dataset: Path
) -> None:
    folder = train_here(small_training(num_layers=5), model, dataset, dataset.parent / "deep")
    deep = load_backbone(ModelConfig(path=str(folder)))
    assert isinstance(deep, WanBackbone) and deep.num_layers == len(deep.transformer.blocks) == 5
    for block in deep.transformer.blocks:
        assert all(block.get_submodule(n).weight.any() for n in SILENT_AT_FIRST)


def test_a_transformer_is_never_made_shallower(model: ModelConfig, dataset: Path) -> None:
    with pytest.raises(ConfigError, match="can only be made deeper"):
        build_training_model(small_training(num_layers=1), model, read_meta(dataset))
