"""The loop of the small trainings, around a module of two numbers."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from fw_model.errors import CheckpointError
from fw_model.pretraining.run import STATE_FILE, LoopConfig, pretrain


def steps_done(output: Path, num_steps: int, config: LoopConfig) -> list[int]:
    net, done = nn.Linear(1, 1), []

    def step(number: int, fraction: float) -> dict[str, torch.Tensor]:
        done.append(number)
        return {"loss": torch.zeros(())}

    parts = {"net": net, "sgd": torch.optim.SGD(net.parameters(), lr=1.0)}
    pretrain(config, parts, output, num_steps=num_steps, data="films", step=step, export=lambda: {})
    return done


def test_a_run_resumes_whatever_the_order_of_its_saved_settings(tmp_path):
    assert steps_done(tmp_path, 2, LoopConfig()) == [0, 1]
    state = torch.load(tmp_path / STATE_FILE)
    settings, _, data = state["config"].partition("\n")
    reordered = dict(reversed(json.loads(settings).items()))
    torch.save({**state, "config": f"{json.dumps(reordered)}\n{data}"}, tmp_path / STATE_FILE)
    assert steps_done(tmp_path, 3, LoopConfig()) == [2]


def test_a_run_with_other_settings_is_not_resumed(tmp_path):
    steps_done(tmp_path, 1, LoopConfig())
    with pytest.raises(CheckpointError, match="other settings"):
        steps_done(tmp_path, 2, LoopConfig(ema_decay=0.5))
