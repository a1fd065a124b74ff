"""LAION's heads in the layouts of their files, against scores computed by hand."""

import pickle

import numpy as np
import pytest
import torch

from fw_model.config import validate
from fw_model.embedders.clip import OpenClipEmbedder
from fw_model.errors import CheckpointError, ConfigError
from fw_model.evaluation.config import EvaluationConfig
from fw_model.evaluation.judges.config import AestheticConfig
from fw_model.evaluation.metrics.aesthetic import AestheticPredictor, load_head
from fw_model.evaluation.stories.truth import FilmedShot
from tests.fw_model.evaluation.judge_files import V2_SIZES, saved, v1_state, v2_state


class BrightnessEmbedder:
    """Embeds a picture as the direction (1, brightness in 0..1)."""

    model_id, width, image_size = "brightness", 2, 8

    def embed_images(self, images):
        rows = np.stack([[1.0, image.mean() / 255] for image in images]).astype(np.float32)
        return torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def shots_of(*levels):
    """Shots of one frame of each brightness, 0..255."""
    return [FilmedShot(np.full((1, 8, 8, 3), level, np.uint8), (0,)) for level in levels]


def test_a_film_scores_the_mean_over_its_frames():
    head = torch.nn.Linear(2, 1)
    head.load_state_dict({"weight": torch.tensor([[2.0, 10.0]]), "bias": torch.tensor([1.0])})
    predictor = AestheticPredictor(head, BrightnessEmbedder(), frames_per_shot=8)
    # Black embeds as (1, 0) and scores 3; white as (1, 1) / sqrt 2 and scores 1 + 12 / sqrt 2.
    assert predictor.score(shots_of(0)) == pytest.approx(3)
    assert predictor.score(shots_of(0, 255)) == pytest.approx((3 + 1 + 12 / 2**0.5) / 2)


def test_frames_are_evenly_chosen_from_each_shot():
    head = torch.nn.Linear(2, 1)
    head.load_state_dict({"weight": torch.tensor([[0.0, 1.0]]), "bias": torch.tensor([0.0])})
    seen = []

    class Watching(BrightnessEmbedder):
        def embed_images(self, images):
            seen.extend(int(image[0, 0, 0]) for image in images)
            return super().embed_images(images)

    numbered = np.arange(12, dtype=np.uint8)[:, None, None, None].repeat(3, axis=-1)
    shots = [FilmedShot(numbered, (0,)), FilmedShot(numbered[:2] + 100, (0,))]
    AestheticPredictor(head, Watching(), frames_per_shot=3).score(shots)
    assert seen == [2, 6, 10, 100, 101]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("width", [512, 768])
def test_the_linear_head_is_recognised(tmp_path, suffix, width):
    state = v1_state(width)
    head, read_width = load_head(saved(state, tmp_path / f"head{suffix}"))
    rows = torch.nn.functional.normalize(torch.randn(3, width), dim=-1)
    assert read_width == width
    assert torch.allclose(head(rows), rows @ state["weight"].T + 5, atol=1e-5)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_mlp_is_recognised_and_has_no_activations(tmp_path, suffix):
    state = v2_state(768)
    head, width = load_head(saved(state, tmp_path / f"head{suffix}"))
    rows = torch.nn.functional.normalize(torch.randn(3, 768), dim=-1)
    expected = rows
    for index in V2_SIZES:
        expected = expected @ state[f"layers.{index}.weight"].T + state[f"layers.{index}.bias"]
    assert width == 768
    assert torch.allclose(head.eval()(rows), expected, atol=1e-4)


def test_a_film_is_judged_by_files_alone(tmp_path, tiny_path):
    """Dropout must be off and embeddings of unit length, or this differs."""
    state = v2_state(96)
    config = AestheticConfig(
        head=str(saved(state, tmp_path / "head.pth")), clip=str(tiny_path / "clip")
    )
    rng = np.random.default_rng(3)
    frames = rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    found = AestheticPredictor.load(config).score([FilmedShot(frames, (0,))])
    rows = OpenClipEmbedder.load(tiny_path / "clip").embed_images(list(frames))
    for index in V2_SIZES:
        rows = rows @ state[f"layers.{index}.weight"].T + state[f"layers.{index}.bias"]
    assert found == pytest.approx(float(rows.mean()), abs=1e-5)


def test_a_head_for_another_clip_is_refused_with_both_widths(tmp_path, tiny_path):
    head = saved(v1_state(768), tmp_path / "head.pth")
    config = AestheticConfig(head=str(head), clip=str(tiny_path / "clip"))
    with pytest.raises(CheckpointError, match=r"width 768.*has 96"):
        AestheticPredictor.load(config)


def test_a_clip_that_is_not_there_is_refused(tmp_path):
    head = saved(v1_state(768), tmp_path / "head.pth")
    with pytest.raises(CheckpointError, match="not a CLIP folder"):
        AestheticPredictor.load(AestheticConfig(head=str(head), clip=str(tmp_path / "none")))


def test_without_paths_there_is_no_predictor():
    assert AestheticPredictor.load(AestheticConfig()) is None


@pytest.mark.parametrize("given", ["head", "clip"])
def test_head_and_clip_are_given_together(given):
    with pytest.raises(ConfigError, match="together"):
        validate(EvaluationConfig, {"aesthetic": {given: "somewhere"}}, "here")


def test_a_head_with_activations_is_not_taken_for_the_one_without(tmp_path):
    other = {0: 0, 2: 3, 4: 6, 6: 9, 7: 11}  # the layout once ReLUs stand between the layers
    state = {
        f"layers.{other[int(name.split('.')[1])]}.{name.split('.')[2]}": value
        for name, value in v2_state(768).items()
    }
    with pytest.raises(CheckpointError, match=r"not an aesthetic head.*layers\.0\.bias"):
        load_head(saved(state, tmp_path / "relu.pth"))


def test_a_head_of_odd_shape_is_refused(tmp_path):
    state = {**v2_state(768), "layers.2.weight": torch.zeros(128, 7)}
    with pytest.raises(CheckpointError, match=r"layers\.2\.weight"):
        load_head(saved(state, tmp_path / "head.pth"))


class Code:
    """A pickle of this runs code when it is loaded."""

    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("code.pth", pickle.dumps({"weight": Code()})),
        ("text.pth", b"<html>not found</html>"),
        ("empty.pth", b""),
        ("text.safetensors", b"<html>not found</html>"),
    ],
)
def test_files_that_hold_no_weights_are_refused_and_run_nothing(tmp_path, capsys, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        load_head(tmp_path / name)
    assert "code ran" not in capsys.readouterr().out


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"head\.pth"):
        load_head(tmp_path / "head.pth")
