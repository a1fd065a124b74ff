"""The packaged oracle on true films it never saw: nearly always right, and damage shows."""

import cv2
import numpy as np
import pytest

from fw_model.evaluation import accuracy
from fw_model.evaluation.hue import hue_errors_deg
from fw_model.evaluation.oracle import PACKAGED_ORACLE, Oracle
from tests.fw_model.evaluation.made_up import toy, true_frames

SEEDS = range(2_000_000, 2_000_010)

pytestmark = pytest.mark.skipif(not PACKAGED_ORACLE.is_dir(), reason="no packaged oracle")


@pytest.fixture(scope="module")
def oracle():
    return Oracle.load()


@pytest.fixture(scope="module")
def stories():
    toys = [toy(seed) for seed in SEEDS]
    return [(story.truth, true_frames(story, 21)) for story in toys]


def mean_score(oracle, stories, measure, damage=lambda frames, index: frames):
    scores = []
    for truth, shots in stories:
        readings = [oracle.read(damage(frames, i)) for i, frames in enumerate(shots)]
        value = measure(readings, truth)
        if value != []:
            scores.append(np.mean(value))
    return float(np.mean(scores))


def falling(values):
    return all(a > b for a, b in zip(values, values[1:], strict=False))


@pytest.mark.parametrize(
    ("measure", "least"),
    [
        (accuracy.figure_accuracy, 0.9),
        (accuracy.place_accuracy, 0.95),
        (accuracy.light_accuracy, 0.95),
        (accuracy.scale_accuracy, 0.95),
        (accuracy.action_accuracy, 0.75),
    ],
)
def test_true_films_score_nearly_one(oracle, stories, measure, least):
    assert mean_score(oracle, stories, measure) >= least


def test_true_hues_are_found_within_a_few_degrees(oracle, stories):
    assert mean_score(oracle, stories, hue_errors_deg) < 15


@pytest.mark.parametrize(
    "measure", [accuracy.figure_accuracy, accuracy.place_accuracy, accuracy.scale_accuracy]
)
def test_the_more_shots_are_swapped_for_others_the_lower_the_score(oracle, stories, measure):
    strangers = [shots for _, shots in stories[1:]] + [stories[0][1]]

    def score(swapped):
        mixed = [
            (truth, [*other[:swapped], *shots[swapped:]])
            for (truth, shots), other in zip(stories, strangers, strict=True)
        ]
        return mean_score(oracle, mixed, measure)

    assert falling([score(0), score(2), score(5)])


def test_films_that_stand_still_do_not_act(oracle, stories):
    def still(frames, index):
        return np.repeat(frames[10:11], len(frames), axis=0)

    moving = mean_score(oracle, stories, accuracy.action_accuracy)
    assert mean_score(oracle, stories, accuracy.action_accuracy, still) < moving - 0.15


def test_hue_error_follows_a_turn_of_all_colours_after_the_first_shot(oracle, stories):
    def turned(degrees):
        def damage(frames, index):
            if index == 0 or degrees == 0:
                return frames
            hsv = [cv2.cvtColor(frame, cv2.COLOR_RGB2HSV) for frame in frames]
            for image in hsv:  # OpenCV's hue is in steps of two degrees
                image[..., 0] = (image[..., 0].astype(int) + degrees * index // 2) % 180
            return np.stack([cv2.cvtColor(image, cv2.COLOR_HSV2RGB) for image in hsv])

        return mean_score(oracle, stories, hue_errors_deg, damage)

    values = [turned(degrees) for degrees in (0, 30, 60)]
    assert falling(values[::-1])


def test_noise_hides_figures(oracle, stories):
    def noisy(levels):
        def damage(frames, index):
            noise = np.random.default_rng(index).normal(0, levels, frames.shape)
            return np.clip(frames + noise, 0, 255).astype(np.uint8)

        return mean_score(oracle, stories, accuracy.figure_accuracy, damage)

    assert falling([noisy(0), noisy(60), noisy(160)])
