"""Learning rates and averages against numbers worked out by hand."""

from pathlib import Path

import pytest
import torch

from fw_model.errors import CheckpointError
from fw_model.training.config import OptimizerConfig
from fw_model.training.ema import Ema
from fw_model.training.lr_schedule import learning_rate


def test_the_learning_rate_warms_up_stays_and_falls_to_its_final_fraction() -> None:
    config = OptimizerConfig(
        learning_rate=1.0, warmup_steps=4, decay="linear", decay_start=0.5, final_fraction=0.2
    )
    rates = [learning_rate(config, step, 20) for step in range(20)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4:11] == [1.0] * 7
    assert rates[15] == pytest.approx(0.2 + 0.8 * 0.5)
    assert learning_rate(config, 20, 20) == pytest.approx(0.2)


def test_cosine_decay_is_halfway_in_the_middle() -> None:
    config = OptimizerConfig(learning_rate=2.0, warmup_steps=0, final_fraction=0.0)
    assert learning_rate(config, 0, 10) == pytest.approx(2.0)
    assert learning_rate(config, 5, 10) == pytest.approx(1.0)


def test_the_average_follows_its_formula() -> None:
    ema = Ema(["w"], decay=0.9, rank=0, world_size=1)
    ema.update([("w", torch.tensor([1.0]))], step=0)
    ema.update([("w", torch.tensor([2.0]))], step=0)  # decay (1 + 0) / (10 + 0) = 0.1
    assert ema["w"].item() == pytest.approx(0.1 * 1 + 0.9 * 2)
    ema.update([("w", torch.tensor([0.0]))], step=1000, steps=2)  # decay 0.9 ** 2
    assert ema["w"].item() == pytest.approx(1.9 * 0.81)


def test_decay_zero_is_the_last_weight() -> None:
    ema = Ema(["w"], decay=0.0, rank=0, world_size=1)
    for value in (1.0, 5.0):
        ema.update([("w", torch.tensor([value]))], step=100)
    assert ema["w"].item() == 5.0


def test_an_average_saved_by_two_ranks_is_read_by_one(tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    weights = [(name, torch.full((2,), float(i))) for i, name in enumerate(names)]
    for rank in range(2):
        ema = Ema(names, decay=0.9, rank=rank, world_size=2)
        ema.update(weights, step=0)
        ema.save(tmp_path)
    alone = Ema(names, decay=0.9, rank=0, world_size=1)
    alone.load(tmp_path)
    assert [alone[name][0].item() for name in names] == [0.0, 1.0, 2.0]
    with pytest.raises(CheckpointError, match="has no average of 1 weights"):
        Ema([*names, "d"], decay=0.9, rank=0, world_size=1).load(tmp_path)
