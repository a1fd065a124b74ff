"""DeepSpeed on two workers trains what one plain process trains, under every ZeRO stage."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fw_model.training.config import CheckpointConfig, ModeWeights, StageConfig, TrainingConfig
from fw_model.training.local import train_here
from fw_model.training.metrics import read_metrics
from pipelines.training.deepspeed_engine import deepspeed_config
from tests.encoded_films import ALL_MODES, small_model, small_training, write_encoded

PROJECT = Path(__file__).parents[3]
STAGES = ("1", "2", "3", "2c", "3c")  # c: cut after step 7 and continued from a checkpoint


def twenty_steps(**changes: object) -> TrainingConfig:
    stages = (
        StageConfig(
            name="temporal", steps=6, mode_weights=ModeWeights(first_shot=1, extend_first_shot=2)
        ),
        StageConfig(name="all_modes", steps=14, mode_weights=ALL_MODES),
    )
    checkpoint = CheckpointConfig(every_steps=5, every_minutes=60)
    return small_training(stages=stages, checkpoint=checkpoint, **changes)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One plain run and two-rank runs under each of STAGES, all on the same samples."""
    root = tmp_path_factory.mktemp("deepspeed")
    dataset, model = write_encoded(root / "data"), small_model(root / "model")
    train_here(twenty_steps(), model, dataset, root / "plain")
    config = twenty_steps(engine="deepspeed", num_workers=2)
    (root / "config.json").write_text(config.model_dump_json())
    (root / "model.json").write_text(model.model_dump_json())
    arguments = [str(root / name) for name in ("config.json", "model.json", "data", ".")]
    command = [sys.executable, str(Path(__file__).with_name("rank_process.py"))]
    environment = os.environ | {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(PROJECT),
    }
    ranks = [
        subprocess.Popen(
            [*command, *arguments, *STAGES],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    logs = [rank.communicate()[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(log[-3000:] for log in logs)
    return root


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def losses(output: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(output / "metrics.jsonl")]


@pytest.mark.parametrize("stage", STAGES)
def test_two_workers_give_the_loss_curve_of_one_process(outputs: Path, stage: str) -> None:
    plain = losses(outputs / "plain")
    sharded = losses(outputs / f"zero-{stage}")
    assert len(plain) == len(sharded) == 20
    assert sharded == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("stage", STAGES)
def test_two_workers_export_the_average_of_one_process(outputs: Path, stage: str) -> None:
    file = "model/transformer/diffusion_pytorch_model.safetensors"
    plain = load_file(str(outputs / "plain" / file))
    sharded = load_file(str(outputs / f"zero-{stage}" / file))
    assert plain.keys() == sharded.keys()
    for name, weight in plain.items():
        torch.testing.assert_close(sharded[name], weight, rtol=1e-3, atol=1e-4)


def test_the_batch_of_the_deepspeed_dictionary_follows_from_the_training_settings() -> None:
    config = twenty_steps(engine="deepspeed", num_workers=2, micro_batch=1, zero_stage=3)
    derived = deepspeed_config(config, world_size=2)
    assert derived["train_micro_batch_size_per_gpu"] == 1
    assert derived["gradient_accumulation_steps"] == 4  # 2 groups x 2 samples a worker
    assert derived["zero_optimization"]["stage"] == 3
