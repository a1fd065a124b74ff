"""The toy judge: a network that learns, loads as saved, and is fed spoiled clips of known truth."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fw_model.errors import CheckpointError
from fw_model.evaluation.judges.toy_judge import ToyJudge, fitting_weights
from fw_model.evaluation.judges.toy_judge_net import ToyJudgeNet
from fw_model.pretraining.shot_library import ShotLibrary
from fw_model.pretraining.toy_judge import ToyJudgePretrainConfig, pretrain_toy_judge
from fw_model.pretraining.toy_judge_data import degraded, sample_batch, vocabulary_of
from pipelines.pretraining.toy_labels import open_labelled
from pipelines.toyfilms.config import ToyFilmsConfig
from pipelines.toyfilms.write import write_films
from tests.fw_model.evaluation.made_up import VOCABULARY


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    config = ToyFilmsConfig(num_films=2, min_shots=3, max_shots=3, max_shot_s=2.5)
    return open_labelled(write_films(config, folder), folder / "frames", (64, 64))


def test_frames_of_any_number_and_size_are_read():
    toy_judge = ToyJudge(ToyJudgeNet(VOCABULARY, width=16))
    for shape in ((1, 64, 64, 3), (7, 48, 80, 3)):
        reading = toy_judge.read(np.full(shape, 100, np.uint8))
        assert reading.place.shape == (shape[0], 2)
        assert reading.boxes.shape == (shape[0], 2, 4)
        np.testing.assert_allclose(reading.actions.sum(-1), 1, rtol=1e-5)


def test_a_saved_toy_judge_reads_the_same(tmp_path: Path):
    torch.manual_seed(0)
    toy_judge = ToyJudge(ToyJudgeNet(VOCABULARY, width=16))
    toy_judge.save(tmp_path, held_out={"place_accuracy": 0.5})
    again = ToyJudge.load(tmp_path)
    frames = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    np.testing.assert_allclose(again.read(frames).place, toy_judge.read(frames).place, atol=2e-3)
    assert again.vocabulary == VOCABULARY
    assert again.card["held_out"] == {"place_accuracy": 0.5}


def test_a_missing_or_broken_toy_judge_is_one_sentence(tmp_path: Path):
    with pytest.raises(CheckpointError, match="pretrain toy-judge"):
        ToyJudge.load(tmp_path / "none")
    ToyJudge(ToyJudgeNet(VOCABULARY, width=16)).save(tmp_path)
    (tmp_path / "toy_judge.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="no usable toy judge"):
        ToyJudge.load(tmp_path)


def test_a_toy_judge_gives_a_wider_one_the_weights_that_fit(tmp_path: Path):
    old = ToyJudgeNet(VOCABULARY, width=16)
    ToyJudge(old).save(tmp_path)
    fitting = fitting_weights(tmp_path, ToyJudgeNet(VOCABULARY, width=24))
    assert torch.equal(fitting["sharp.1.0.weight"], old.sharp[1][0].weight.half().float())
    assert "maps.weight" not in fitting  # its width is another
    with pytest.raises(CheckpointError, match="There is no toy judge"):
        fitting_weights(tmp_path / "nothing", old)


def test_labels_follow_a_mirrored_clip(labelled):
    library, labels = labelled
    vocabulary = vocabulary_of(labels)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        batch = sample_batch(library, labels, vocabulary, rng, batch_size=2, num_frames=5)
        assert batch.frames.shape == (2, 3, 5, 64, 64)
        assert batch.boxes.shape == (2, 5, len(vocabulary.kinds), 4)
        widths = (batch.boxes[..., 2] - batch.boxes[..., 0])[:, 0]
        assert (widths[batch.present > 0] > 0.05).all()


def test_spoiling_keeps_shape_and_mean():
    clip = np.full((5, 64, 64, 3), 120, np.uint8)
    for seed in range(8):
        damaged = degraded(clip, np.random.default_rng(seed))
        assert damaged.shape == clip.shape
        assert damaged.dtype == np.uint8
        assert abs(float(damaged.mean()) - 120) < 25


def test_training_lowers_the_loss_and_a_stopped_one_goes_on(labelled, tmp_path: Path):
    torch.manual_seed(3)
    settings = {"frames_per_step": 18, "clip_frames": (6,), "width": 16, "warmup_steps": 2}
    config = ToyJudgePretrainConfig(steps=8, log_every=1, save_every=4, **settings)
    whole = pretrain_toy_judge(config, labelled, labelled, tmp_path / "whole")
    lines = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 9
    assert float(lines[7].split('"loss": ')[1].split(",")[0]) < float(
        lines[0].split('"loss": ')[1].split(",")[0]
    )
    assert ToyJudge.load(tmp_path / "whole" / "toy_judge").card["held_out"] == whole


def test_a_toy_judge_that_was_stopped_goes_on_to_the_same_losses(
    labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = {"frames_per_step": 18, "clip_frames": (6,), "width": 16, "warmup_steps": 2}
    config = ToyJudgePretrainConfig(steps=6, log_every=1, save_every=2, **settings)
    pretrain_toy_judge(config, labelled, labelled, tmp_path / "whole")
    drawn = []

    def stops(*args, **kwargs):
        drawn.append(1)
        if len(drawn) == 4:  # a step after the one that was saved
            raise InterruptedError
        return sample_batch(*args, **kwargs)

    monkeypatch.setattr("fw_model.pretraining.toy_judge.sample_batch", stops)
    with pytest.raises(InterruptedError):
        pretrain_toy_judge(config, labelled, labelled, tmp_path / "twice")
    pretrain_toy_judge(config, labelled, labelled, tmp_path / "twice")
    assert len(drawn) == 4 + 4  # steps 0 to 3, of which 2 is done again with 3 to 5
    whole, twice = (
        [
            {name: value for name, value in json.loads(line).items() if name != "step_s"}
            for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        ]
        for name in ("whole", "twice")
    )
    assert twice == whole


def test_a_toy_judge_is_not_continued_on_other_shots(labelled, tmp_path: Path):
    library, labels = labelled
    settings = {"frames_per_step": 18, "clip_frames": (6,), "width": 16}
    config = ToyJudgePretrainConfig(steps=1, **settings)
    pretrain_toy_judge(config, labelled, labelled, tmp_path)
    fewer = ShotLibrary(library.frames, library.shots[:-1], library._starts[:-1])
    with pytest.raises(CheckpointError, match="other data"):
        pretrain_toy_judge(config, (fewer, labels[:-1]), labelled, tmp_path)
