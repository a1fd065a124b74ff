"""Facts about the default detector on generated footage, each of a kind that hid cuts before."""

import cv2
import numpy as np
import pytest
from safetensors.numpy import save_file

from fw_model.errors import ConfigError
from pipelines.curation.detectors.base import make_detector
from pipelines.curation.detectors.borders import find_borders, picture
from pipelines.curation.detectors.learned.cut_features import (
    HALF,
    NUM_FEATURES,
    change,
    cut_features,
)
from pipelines.curation.detectors.learned.cut_network import CutNetwork
from pipelines.curation.detectors.learned.gradual_gate import may_hold
from pipelines.curation.detectors.learned.gradual_proposals import propose
from pipelines.curation.detectors.learned.thumbnails import pair_structures, thumbnails
from pipelines.curation.detectors.learned.views import view_of
from tests.pipelines.curation.detectors.detect import cuts, transitions
from tests.pipelines.curation.footage import film, shot

SIZE = (128, 72)


def scenes(*seeds, num_frames=24):
    return np.concatenate([shot(seed, num_frames, size=SIZE) for seed in seeds])


@pytest.mark.parametrize("rows", [0, 9, 16])
@pytest.mark.parametrize("columns", [0, 16, 43])
@pytest.mark.parametrize("level", [0, 16, 235])
def test_cuts_between_bars_are_found(rows, columns, level):
    sides = ((0, 0), (rows, rows), (columns, columns), (0, 0))
    assert cuts(np.pad(scenes(1, 2, 3), sides, constant_values=level)) == [24, 48]


def test_bars_that_come_and_go_are_no_cut():
    frames = scenes(1, num_frames=80)
    frames[30:60, :9] = frames[30:60, -9:] = 0
    assert cuts(frames) == []


@pytest.mark.parametrize(("gain", "offset"), [(0.3, 0), (0.12, 0), (0.12, 16), (0.15, 180)])
def test_cuts_in_dark_and_flat_pictures_are_found(gain, offset):
    frames = (scenes(1, 2, 3) * gain + offset).astype(np.uint8)
    assert cuts(frames) == [24, 48]


def test_cuts_without_colour_are_found():
    grey = scenes(1, 2, 3).mean(3, keepdims=True).astype(np.uint8)
    assert cuts(np.repeat(grey, 3, axis=3)) == [24, 48]


def test_a_cut_from_one_colour_to_another_is_found():
    frames = np.zeros((60, 72, 128, 3), np.uint8)
    frames[:30], frames[30:] = (200, 20, 20), (20, 20, 200)
    assert cuts(frames) == [30]


def slide(words, *, ink=20, paper=240):
    page = np.full((72, 128, 3), paper, np.uint8)
    return cv2.putText(page, words, (20, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (ink,) * 3, 1)


@pytest.mark.parametrize(("ink", "paper"), [(20, 240), (235, 0)])
def test_slides_with_little_text_are_shots(ink, paper):
    pages = [slide(words, ink=ink, paper=paper) for words in ("Results", "By region", "2027")]
    assert cuts(np.repeat(pages, 24, axis=0)) == [24, 48]


@pytest.mark.parametrize("length", [8, 12])
def test_a_short_look_at_something_else_is_a_shot(length):
    frames = scenes(1, num_frames=60)
    frames[30 : 30 + length] = shot(2, length, size=SIZE)
    assert cuts(frames) == [30, 30 + length]


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_white_frames_in_a_shot_are_a_flash(length):
    frames = scenes(1, num_frames=60)
    frames[30 : 30 + length] = 255
    assert cuts(frames) == []


def test_a_cut_in_a_picture_in_the_picture_is_no_cut():
    frames, inner = scenes(1, num_frames=48), scenes(2, 3)[:, ::3, ::3]
    frames[:, -28:-4, -48:-5] = inner[:, :24, :43]
    assert cuts(frames) == []


def test_the_cut_of_a_frame_rate_is_found_at_any_rate():
    for fps in (5.0, 12.0, 60.0, 120.0):
        assert cuts(film([1, 2, 3], 20), fps=fps) == [20, 40]


def test_the_network_is_as_its_layers_say():
    identity = np.eye(2, dtype=np.float32)
    network = CutNetwork(
        mean=np.array([1.0, 0.0], np.float32),
        deviation=np.array([1.0, 2.0], np.float32),
        layers=(
            (identity, np.array([0.0, -1.0], np.float32)),
            (np.array([[1.0, 3.0]], np.float32), np.array([-1.0], np.float32)),
        ),
    )
    # (3, 4) is normalized to (2, 2), after the first layer (2, 1), after the second 2 + 3 - 1 = 4.
    assert network.probability(np.array([[3.0, 4.0]], np.float32)) == pytest.approx(
        [1 / (1 + np.exp(-4.0))]
    )


def test_a_network_of_other_features_is_refused(tmp_path):
    path = tmp_path / "old.safetensors"
    save_file({"mean": np.zeros(3, np.float32), "deviation": np.ones(3, np.float32)}, path)
    with pytest.raises(ConfigError, match=f"3 features, and this version measures {NUM_FEATURES}"):
        make_detector("learned", {"path": str(path)}, fps=24)


def test_a_missing_network_is_refused_with_its_path(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot use .*none\.safetensors"):
        make_detector("learned", {"path": str(tmp_path / "none.safetensors")}, fps=24)


def windows():
    rng = np.random.default_rng(0)
    return rng.integers(16, 235, (2 * HALF, 3, 36, 64), dtype=np.uint8)


def test_features_are_as_many_as_the_network_reads():
    planes = windows()
    assert cut_features(view_of(planes), fps=24).shape == (NUM_FEATURES,)


def test_frames_that_do_not_change_have_no_change():
    planes = np.repeat(windows()[:1], 4, axis=0)
    assert change(view_of(planes)).tolist() == [0.0] * 4


def test_a_border_is_flat_rows_and_columns_of_one_level():
    luma = np.full((2, 36, 64), 16, np.uint8)
    luma[0, 5:30, 10:60] = np.random.default_rng(0).integers(40, 255, (25, 50))
    borders = find_borders(luma)
    assert borders.depths[0].tolist() == [5, 6, 10, 4]
    assert borders.depths[1].tolist() == [36, 36, 64, 64]  # black all over
    assert borders.shared() == (5, 6, 10, 4)


def test_frames_with_bars_of_other_levels_share_none():
    luma = np.random.default_rng(0).integers(40, 255, (2, 36, 64)).astype(np.uint8)
    luma[0, :6], luma[1, :6] = 16, 200
    assert find_borders(luma).shared() == (0, 0, 0, 0)


def test_a_picture_without_its_border_is_the_means_of_equal_areas():
    planes = np.zeros((1, 3, 36, 64), np.uint8)
    planes[:, :, 6:30, 8:56] = np.arange(24).repeat(48).reshape(24, 48)
    small = picture(planes.astype(np.float32), (6, 6, 8, 8), rows=12, columns=6)
    assert small[0, 0, :, 0] == pytest.approx(np.arange(12) * 2 + 0.5)


def test_a_gradual_transition_between_bars_is_found():
    first, last = shot(1, 1, size=SIZE)[0], shot(2, 1, size=SIZE)[0]
    weights = (np.arange(1, 17) / 17)[:, None, None, None]
    mixed = ((1 - weights) * first + weights * last).astype(np.uint8)
    frames = np.concatenate([[first] * 40, mixed, [last] * 40])
    (found,) = transitions(np.pad(frames, ((0, 0), (0, 0), (40, 40), (0, 0))))
    assert found.kind == "gradual"
    assert abs(found.start_frame - 40) <= 2 and abs(found.end_frame - 56) <= 2


def planes_of(*, bars=0):
    """A pan, a dissolve of 16 frames, a cut, a wipe and a shaking picture: 160 frames of planes."""
    rng = np.random.default_rng(5)
    noise = rng.integers(20, 236, (4, 12, 12, 3), dtype=np.uint8)
    a, b, c, d = (cv2.resize(x, (96, 60), interpolation=cv2.INTER_CUBIC) for x in noise)
    at = [a[:36, i // 2 : i // 2 + 64] for i in range(40)]
    weights = np.arange(1, 17)[:, None, None, None] / 17
    mixed = ((1 - weights) * at[-1] + weights * b[:36, :64]).astype(np.uint8)
    still, other = [b[:36, :64]] * 20, [c[:36, :64]] * 24
    wipe = np.stack([np.concatenate([d[:36, : 4 * i], c[:36, 4 * i : 64]], 1) for i in range(16)])
    shaking = [d[x : x + 36, y : y + 64] for x, y in rng.integers(0, 24, (44, 2))]
    frames = np.concatenate([at, mixed, still, other, wipe, shaking])
    if bars:
        frames[:, :bars] = frames[:, -bars:] = 16
    return np.ascontiguousarray(frames.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("bars", [0, 5])
def test_the_gate_rejects_no_window_that_would_be_proposed(bars):
    recent = thumbnails(0, view_of(planes_of(bars=bars)))
    spans = [(s, s + n) for n in (6, 10, 17, 29) for s in range(0, len(recent) - n)]
    firsts, lasts = np.array(spans).T
    (border,) = set(recent.borders.shared_by(firsts, lasts))
    possible = may_hold(recent.without(border), firsts, lasts)
    proposed = np.array([propose(recent.part(s, e + 1)) is not None for s, e in spans])
    assert proposed.sum() > 10
    assert possible[proposed].all()
    assert (~possible).sum() > 100  # and it does rule windows out


def test_pairs_of_frames_are_compared_without_the_border_that_they_share():
    planes = planes_of()[:6].copy()
    planes[:3, :, :6] = planes[:3, :, -6:] = 16
    window = thumbnails(0, view_of(planes))
    found = pair_structures(window.part(0, 3), window.part(2, 6))
    for i, first in enumerate((0, 1, 2)):
        for j, last in enumerate((2, 3, 4, 5)):
            both = window.chosen(np.array([first, last])).cropped()
            assert found[i, j] == pytest.approx(both.structure(0, 1), abs=1e-4)


@pytest.mark.parametrize("sizes", [(1,), (7,), (32,), (160,)])
def test_batches_of_any_size_give_the_same_transitions(sizes):
    frames = planes_of(bars=4).transpose(0, 2, 3, 1)
    assert transitions(frames, batch=sizes[0]) == transitions(frames)
