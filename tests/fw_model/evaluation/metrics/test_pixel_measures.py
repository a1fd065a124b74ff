"""Measures over pixels alone: on true films they are as good as can be, and damage shows."""

import cv2
import numpy as np
import pytest

from fw_model.evaluation.metrics.continuity import (
    border_jump_ratio,
    true_and_filmed_motion,
)
from fw_model.evaluation.metrics.copying import copy_paste
from fw_model.evaluation.metrics.flicker import flicker
from fw_model.evaluation.stories.truth import CachedFrame, FilmedShot
from tests.fw_model.evaluation.made_up import filmed, toy, true_frames


@pytest.fixture(scope="module")
def truth():
    return true_frames(toy(), 33)


def rising(values):
    return all(a < b for a, b in zip(values, values[1:], strict=False))


def test_borders_of_true_films_cannot_be_told():
    ratios = [
        border_jump_ratio(filmed(true_frames(toy(seed), 33), (0, 9, 21))) for seed in range(4)
    ]
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.15)
    assert max(ratios) < 1.5


def test_a_jump_at_the_border_raises_the_ratio(truth):
    def damaged(pixels):
        shots = []
        for frames in truth:
            moved = frames.copy()
            moved[9:] = np.roll(moved[9:], pixels, axis=2)
            shots.append(moved)
        return border_jump_ratio(filmed(shots, (0, 9)))

    assert rising([damaged(0), damaged(1), damaged(3), damaged(8)])


def test_one_chunk_has_no_border(truth):
    assert border_jump_ratio(filmed(truth, (0,))) is None


def test_a_still_shot_has_ratio_one(truth):
    still = [np.repeat(frames[:1], 12, axis=0) for frames in truth]
    assert border_jump_ratio(filmed(still, (0, 5))) == 1.0


def test_a_steady_change_does_not_flicker():
    ramp = np.arange(0, 200, 10, dtype=np.uint8)[:, None, None, None]
    frames = np.broadcast_to(ramp, (20, 8, 8, 3))
    still = np.repeat(frames[:1], 20, axis=0)
    assert flicker([FilmedShot(frames, (0,))], [still]) == 0.0


def test_flicker_grows_with_flashes(truth):
    def damaged(levels):
        shots = [frames.astype(np.int16) for frames in truth]
        for frames in shots:
            frames[::2] += levels
        return flicker(filmed([f.clip(0, 255).astype(np.uint8) for f in shots]), truth)

    assert damaged(0) == 0.0
    assert rising([damaged(0), damaged(4), damaged(12), damaged(30)])


def with_cache(shots, truth):
    """Give each shot the middle frames of the shots before it, as filmed."""
    result = []
    for index, frames in enumerate(shots):
        cached = tuple(CachedFrame(s, 16, 0.5, shots[s][16]) for s in range(index))
        result.append(FilmedShot(frames, (0,), cached))
    return copy_paste(result, truth)


def test_truth_does_not_copy(truth):
    assert with_cache(truth, truth) == 0.0


def test_blending_in_the_cached_frame_is_copying(truth):
    def damaged(share):
        shots = [truth[0]]
        for frames in truth[1:]:
            mixed = (1 - share) * frames + share * truth[0][16]
            shots.append(np.rint(mixed).astype(np.uint8))
        return with_cache(shots, truth)

    assert rising([damaged(0), damaged(0.2), damaged(0.5), damaged(1.0)])


def test_blur_alone_is_little_copying(truth):
    blurred = [np.stack([cv2.GaussianBlur(f, (0, 0), 1.5) for f in shot]) for shot in truth]
    assert abs(with_cache(blurred, truth)) < 0.1


def test_without_a_cache_there_is_nothing_to_copy(truth):
    assert copy_paste(filmed(truth), truth) is None


def test_a_film_that_stands_still_has_motion_of_nothing_and_the_border_does_not_count():
    truth = np.zeros((6, 4, 4, 3), np.uint8)
    truth[:] = (10 * np.arange(6, dtype=np.uint8))[:, None, None, None]
    still = np.zeros_like(truth)
    still[3:] = 200  # a jump at the border alone
    pair = true_and_filmed_motion([FilmedShot(still, (0, 3))], [truth])
    assert pair == (10.0, 0.0)
    assert true_and_filmed_motion([FilmedShot(truth, (0, 3))], [truth]) == (10.0, 10.0)
