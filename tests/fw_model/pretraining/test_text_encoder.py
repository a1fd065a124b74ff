"""A small UMT5 learns to be read: who does what, in prompts that it has not seen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from fw_model.errors import CheckpointError
from fw_model.pretraining.text_encoder import (
    KnownPrompt,
    PromptReader,
    TextPretrainConfig,
    pretrain_text_encoder,
)
from fw_model.text_encoders.umt5 import Umt5TextEncoder

DOINGS = ("runs", "sits", "sings")
QUESTIONS = {"cat": DOINGS, "dog": DOINGS, "number": ("one", "two", "three", "four")}
CONFIG = TextPretrainConfig(
    width=32, layers=2, head_width=16, ffn_width=48, num_tokens=16, vocab_size=300, batch_size=32,
    steps=120, warmup_steps=4, log_every=1, save_every=4,
)  # fmt: skip


def draw(number: int, count: int) -> Sequence[KnownPrompt]:
    rng = np.random.default_rng([abs(number), int(number < 0)])
    prompts = []
    for _ in range(count):
        cat, dog = (DOINGS[int(i)] for i in rng.integers(3, size=2))
        how_many = QUESTIONS["number"][int(rng.integers(4))]
        pair = [f"a cat {cat}", f"a dog {dog}"]
        text = " and ".join(pair[:: 1 if rng.random() < 0.5 else -1])
        answers = {"cat": cat, "dog": dog, "number": how_many}
        prompts.append(KnownPrompt(f"{text}, {how_many} days", answers))
    return prompts


def test_held_out_prompts_are_read_and_the_parts_load_as_a_text_encoder(tmp_path: Path) -> None:
    accuracy = pretrain_text_encoder(CONFIG, QUESTIONS, draw, tmp_path)
    assert min(accuracy.values()) > 0.9  # by chance .25 to .33
    encoder = Umt5TextEncoder.load(tmp_path)
    assert (encoder.width, encoder.num_tokens) == (32, 16)
    assert encoder.encode(["a cat sits"]).shape == (1, 16, 32)


def test_a_run_that_was_stopped_goes_on_to_the_same_losses(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"steps": 8})
    pretrain_text_encoder(config, QUESTIONS, draw, tmp_path / "whole")

    def stops(number: int, count: int) -> Sequence[KnownPrompt]:
        if number == 6 and (tmp_path / "twice" / "state.pt").is_file():
            raise InterruptedError
        return draw(number, count)

    with pytest.raises(InterruptedError):
        pretrain_text_encoder(config, QUESTIONS, stops, tmp_path / "twice")
    pretrain_text_encoder(config, QUESTIONS, draw, tmp_path / "twice")
    assert _losses(tmp_path / "twice") == _losses(tmp_path / "whole")
    with pytest.raises(CheckpointError, match="other settings"):
        pretrain_text_encoder(CONFIG, QUESTIONS, draw, tmp_path / "twice")


def test_what_lies_beyond_a_prompt_is_not_read() -> None:
    reader = PromptReader(QUESTIONS, 32, 16)
    tokens = torch.randn(2, 5, 32)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    before = reader(tokens, mask)
    tokens[1, 3:] = 100.0
    torch.testing.assert_close(reader(tokens, mask), before)


def _losses(folder: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]
