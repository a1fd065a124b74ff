"""A whole run in one process: it learns, resumes exactly, refuses what it must, and exports."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fw_model.cache.augment import AugmentConfig
from fw_model.errors import CapacityError, CheckpointError, StorageError
from fw_model.files.lock import only_one
from fw_model.loading.config import ModelConfig
from fw_model.loading.record import read_record
from fw_model.training.build import build_backbone, build_training_model
from fw_model.training.checkpoint import FolderStore
from fw_model.training.config import (
    CheckpointConfig,
    EmaConfig,
    LoraSettings,
    ModeWeights,
    ObjectiveConfig,
    OptimizerConfig,
    StageConfig,
    TrainingConfig,
)
from fw_model.training.data.batch import Batch, assemble
from fw_model.training.data.dataset import EncodedDataset
from fw_model.training.data.plan import TrainingPlan
from fw_model.training.export import export_checkpoint
from fw_model.training.local import train_here
from fw_model.training.metrics import read_metrics
from fw_model.training.optimizer import build_optimizers
from tests.encoded_films import CACHE, small_model, small_training, write_encoded


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoded(tmp_path_factory.mktemp("run") / "data")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    return small_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def whole_run(dataset: Path, model: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole")
    train_here(small_training(), model, dataset, output)
    return output


def losses(output: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(output / "metrics.jsonl")]


def test_a_run_logs_every_step_and_learns(whole_run: Path) -> None:
    lines = read_metrics(whole_run / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(12))
    assert [line["stage"] for line in lines] == ["temporal"] * 4 + ["all_modes"] * 8
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert any(line["copy_leak"] is not None for line in lines[4:])


def test_micro_batches_add_up_to_the_same_run(
    whole_run: Path, dataset: Path, model: ModelConfig, tmp_path: Path
) -> None:
    train_here(small_training(micro_batch=3), model, dataset, tmp_path)
    assert losses(tmp_path) == pytest.approx(losses(whole_run), rel=1e-4)


def test_killed_at_any_moment_and_run_again_continues_the_same_curve(
    whole_run: Path, dataset: Path, model: ModelConfig, tmp_path: Path
) -> None:
    config = small_training(checkpoint=CheckpointConfig(every_steps=2, every_minutes=60))
    (tmp_path / "config.json").write_text(config.model_dump_json())
    (tmp_path / "model.json").write_text(model.model_dump_json())
    process = subprocess.Popen(
        [
            sys.executable,
            str(Path(__file__).with_name("train_in_process.py")),
            *map(
                str, (tmp_path / "config.json", tmp_path / "model.json", dataset, tmp_path / "out")
            ),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    checkpoints = tmp_path / "out" / "train_state"
    while process.poll() is None and not list(checkpoints.glob("step_*4")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "the run ended before it was killed"
    assert len(list(checkpoints.glob("step_*"))) <= 2 + 1  # a kill may come before the cleaning
    train_here(config, model, dataset, tmp_path / "out")
    assert losses(tmp_path / "out") == losses(whole_run)
    assert [p.name for p in sorted(checkpoints.iterdir())] == ["step_00000010", "step_00000012"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 6}, "data, stages or sampling"),
        ({"objective": ObjectiveConfig(parameterization="epsilon_equiv")}, "training.objective"),
        ({"augment": AugmentConfig(enabled=False)}, "training.augment"),
        ({"noises_per_context": 2}, "training.noises_per_context"),
    ],
)
def test_a_run_of_other_settings_is_refused_unless_allowed(
    change: dict[str, object], named: str, whole_run: Path, dataset: Path, model: ModelConfig
) -> None:
    with pytest.raises(CheckpointError, match=rf"{named}.*training.allow_plan_change"):
        train_here(small_training(**change), model, dataset, whole_run)


def test_other_start_weights_are_never_taken_for_those_that_were_trained(
    whole_run: Path, dataset: Path, tmp_path: Path
) -> None:
    other = small_model(tmp_path, seed=1)
    with pytest.raises(CheckpointError, match="other model weights; give another output"):
        train_here(small_training(allow_plan_change=True), other, dataset, whole_run)


def test_two_trainings_never_write_to_one_output(
    dataset: Path, model: ModelConfig, tmp_path: Path
) -> None:
    with (
        only_one("training", tmp_path),
        pytest.raises(CapacityError, match="Another training is writing"),
    ):
        train_here(small_training(), model, dataset, tmp_path)
    train_here(small_training(), model, dataset, tmp_path)


@pytest.mark.parametrize(
    "fault", [OSError(28, "No space left on device"), RuntimeError("file write failed")]
)
def test_a_checkpoint_that_cannot_be_written_leaves_nothing_and_says_so(
    fault: Exception, tmp_path: Path
) -> None:
    def write(folder: Path) -> None:
        (folder / "plain_engine.pt").write_bytes(b"half")
        raise fault

    with pytest.raises(StorageError, match=r"Cannot save a checkpoint .*Is the disk full"):
        FolderStore(tmp_path, keep=2).save(4, write)
    assert not list(tmp_path.iterdir())


def test_a_finished_run_run_again_does_nothing_but_export(
    whole_run: Path, dataset: Path, model: ModelConfig
) -> None:
    before = losses(whole_run)
    train_here(small_training(), model, dataset, whole_run)
    assert losses(whole_run) == before


def test_the_export_loads_like_any_model_and_names_its_base(
    whole_run: Path, dataset: Path, model: ModelConfig
) -> None:
    folder = whole_run / "model"
    record = read_record(folder)
    assert (record.cache, record.fps, record.width) == (CACHE, 12.0, 32)
    assert record.base == str(Path(model.path).resolve())
    again = build_backbone(
        ModelConfig(path=model.path, checkpoint=str(folder), device="cpu"),
        EncodedDataset(dataset).meta,
    )
    fresh = build_backbone(model, EncodedDataset(dataset).meta)
    name = "transformer.blocks.0.attn1.to_q.weight"
    assert not torch.equal(again.state_dict()[name], fresh.state_dict()[name])


def test_a_later_run_starts_from_an_export_and_lora_trains_only_adapters(
    whole_run: Path, dataset: Path, model: ModelConfig, tmp_path: Path
) -> None:
    start = ModelConfig(path=model.path, checkpoint=str(whole_run / "model"), device="cpu")
    config = small_training(
        lora=LoraSettings(rank=2, alpha=2),
        ema=EmaConfig(decay=0.0),
        stages=(StageConfig(steps=2, mode_weights=ModeWeights(new_shot=1)),),
    )
    meta = EncodedDataset(dataset).meta
    trained = build_training_model(config, start, meta)
    names = {n for n, p in trained.named_parameters() if p.requires_grad}
    assert names and all("lora_" in n or "context_patch" in n for n in names)
    folder = train_here(config, start, dataset, tmp_path)
    before = build_backbone(start, meta).state_dict()
    after = build_backbone(
        ModelConfig(path=model.path, checkpoint=str(folder), device="cpu"),
        meta,
    ).state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("to_q" in name for name in changed)
    assert not any("norm" in name or "patch_embedding" in name for name in changed)


def batch_of_mode(dataset: Path, mode: str) -> Batch:
    data = EncodedDataset(dataset)
    stages = (StageConfig(steps=1, mode_weights=ModeWeights.model_validate({mode: 1})),)
    group = TrainingPlan(small_training(stages=stages), CACHE, data).groups(0)[0]
    return assemble(data, group.rows, CACHE.history_latents)


def model_of(config: TrainingConfig, model: ModelConfig, dataset: Path) -> torch.nn.Module:
    return build_training_model(config, model, EncodedDataset(dataset).meta)


@pytest.mark.parametrize("mode", ["first_shot", "extend_first_shot", "new_shot", "extend_new_shot"])
def test_every_parameter_has_a_gradient_in_every_mode(
    mode: str, dataset: Path, model: ModelConfig
) -> None:
    module = model_of(small_training(), model, dataset)
    module(batch_of_mode(dataset, mode)).loss.backward()
    assert [n for n, p in module.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("mode", ["extend_first_shot", "new_shot", "extend_new_shot"])
def test_noise_draws_that_share_their_context_equal_those_that_do_not(
    mode: str, dataset: Path, model: ModelConfig
) -> None:
    batch = batch_of_mode(dataset, mode)
    shared = model_of(small_training(noises_per_context=3), model, dataset)
    output = shared(batch)
    one = model_of(small_training(), model, dataset)
    with torch.no_grad():
        first = one(batch)
    torch.testing.assert_close(output.sample_loss[::3], first.sample_loss, rtol=1e-5, atol=1e-5)
    assert output.sample_loss.unique().numel() == output.sample_loss.numel()


def test_gradient_checkpointing_gives_the_same_gradients(dataset: Path, model: ModelConfig) -> None:
    batch = batch_of_mode(dataset, "extend_new_shot")
    gradients = []
    for checkpointing in (False, True):
        module = model_of(
            small_training(gradient_checkpointing=checkpointing), model, dataset
        ).train()
        module(batch).loss.backward()
        gradients.append({n: p.grad for n, p in module.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6)


def test_the_epsilon_loss_is_the_velocity_loss_weighted(dataset: Path, model: ModelConfig) -> None:
    batch = batch_of_mode(dataset, "first_shot")
    velocity = model_of(small_training(), model, dataset)(batch)
    epsilon = model_of(
        small_training(objective=ObjectiveConfig(parameterization="epsilon_equiv")), model, dataset
    )(batch)
    torch.testing.assert_close(
        epsilon.sample_loss, velocity.sample_loss * (1 - velocity.sigma).square()
    )


def test_an_export_that_does_not_fit_is_refused(
    dataset: Path, model: ModelConfig, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="do not fit the model"):
        export_checkpoint(
            {"backbone.unknown": torch.zeros(1)},
            tmp_path / "model",
            config=small_training(),
            model=model,
            meta=EncodedDataset(dataset).meta,
        )
    assert not list(tmp_path.iterdir())


def test_muon_moves_the_matrices_of_the_blocks_and_resumes_exactly(
    dataset: Path, model: ModelConfig, tmp_path: Path
) -> None:
    config = small_training(
        optimizer=OptimizerConfig(kind="muon", warmup_steps=2),
        checkpoint=CheckpointConfig(every_steps=4, every_minutes=60, keep=9),
    )
    training = build_training_model(config, model, EncodedDataset(dataset).meta)
    adamw, muon = build_optimizers(training, config.optimizer)
    moved = {id(p) for g in muon.param_groups for p in g["params"]}
    names = {n for n, p in training.named_parameters() if id(p) in moved}
    assert names and all(".blocks." in n and n.endswith(".weight") for n in names)
    others = [p for g in adamw.param_groups for p in g["params"]]
    assert len(others) + len(moved) == len(list(training.parameters()))
    train_here(config, model, dataset, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "resumed")
    for later in ("step_00000008", "step_00000012"):
        shutil.rmtree(tmp_path / "resumed" / "train_state" / later)
    train_here(config, model, dataset, tmp_path / "resumed")
    assert losses(tmp_path / "resumed") == losses(tmp_path / "whole")
    with pytest.raises(CheckpointError, match=r"training.optimizer"):
        train_here(
            config.model_copy(update={"optimizer": OptimizerConfig()}),
            model,
            dataset,
            tmp_path / "resumed",
        )
