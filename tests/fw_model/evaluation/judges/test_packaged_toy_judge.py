"""The packaged toy judge on unseen true films: as right as its card says, and damage shows."""

import cv2
import numpy as np
import pytest

from fw_model.evaluation.judges.toy_judge import PACKAGED_TOY_JUDGE, ToyJudge
from fw_model.evaluation.metrics import accuracy
from fw_model.evaluation.metrics.hue import hue_errors_deg
from tests.fw_model.evaluation.made_up import toy, true_frames

SEEDS = range(2_000_000, 2_000_006)

pytestmark = pytest.mark.skipif(not PACKAGED_TOY_JUDGE.is_dir(), reason="no packaged toy_judge")


@pytest.fixture(scope="module")
def toy_judge():
    return ToyJudge.load()


@pytest.fixture(scope="module")
def stories():
    toys = [toy(seed) for seed in SEEDS]
    return [(story.truth, true_frames(story, 21)) for story in toys]


def mean_score(toy_judge, stories, measure, damage=lambda frames, index: frames):
    scores = []
    for truth, shots in stories:
        readings = [toy_judge.read(damage(frames, i)) for i, frames in enumerate(shots)]
        value = measure(readings, truth)
        if value != []:
            scores.append(np.mean(value))
    return float(np.mean(scores))


def falling(values):
    return all(a > b for a, b in zip(values, values[1:], strict=False))


@pytest.fixture
def tells(toy_judge):
    """Skip what needs a judgement that this toy judge, by its own card, is not good enough at."""

    def check(name):
        if toy_judge.card["held_out"][f"{name}_accuracy"] < 0.7:
            pytest.skip(f"by its card the packaged toy judge is often wrong about {name}")

    return check


@pytest.mark.parametrize(
    ("measure", "name"),
    [
        (accuracy.figure_accuracy, "figures"),
        (accuracy.place_accuracy, "place"),
        (accuracy.light_accuracy, "light"),
        (accuracy.scale_accuracy, "scale"),
        (accuracy.action_accuracy, "action"),
    ],
)
def test_true_films_score_what_the_card_says(toy_judge, stories, measure, name):
    card = toy_judge.card["held_out"]
    expected = card[f"{name}_accuracy"]
    if name == "action":  # it counts only where the figure is seen
        expected *= card["figures_accuracy"]
    assert mean_score(toy_judge, stories, measure) >= expected - 0.2


def test_true_hues_are_found_again(toy_judge, stories):
    assert mean_score(toy_judge, stories, hue_errors_deg) < 25


@pytest.mark.parametrize(
    ("measure", "name"),
    [
        (accuracy.figure_accuracy, "figures"),
        (accuracy.place_accuracy, "place"),
        (accuracy.scale_accuracy, "scale"),
    ],
)
def test_the_more_shots_are_swapped_the_lower_the_score(toy_judge, stories, tells, measure, name):
    tells(name)
    strangers = [shots for _, shots in stories[1:]] + [stories[0][1]]

    def score(swapped):
        mixed = [
            (truth, [*other[:swapped], *shots[swapped:]])
            for (truth, shots), other in zip(stories, strangers, strict=True)
        ]
        return mean_score(toy_judge, mixed, measure)

    assert falling([score(0), score(2), score(5)])


def test_films_that_stand_still_do_not_act(toy_judge, stories, tells):
    tells("action")

    def still(frames, index):
        return np.repeat(frames[10:11], len(frames), axis=0)

    moving = mean_score(toy_judge, stories, accuracy.action_accuracy)
    assert mean_score(toy_judge, stories, accuracy.action_accuracy, still) < moving - 0.15


def test_hue_error_follows_a_turn_of_all_colours_after_the_first_shot(toy_judge, stories):
    def turned(degrees):
        def damage(frames, index):
            if index == 0 or degrees == 0:
                return frames
            hsv = [cv2.cvtColor(frame, cv2.COLOR_RGB2HSV) for frame in frames]
            for image in hsv:  # OpenCV's hue is in steps of two degrees
                image[..., 0] = (image[..., 0].astype(int) + degrees * index // 2) % 180
            return np.stack([cv2.cvtColor(image, cv2.COLOR_HSV2RGB) for image in hsv])

        return mean_score(toy_judge, stories, hue_errors_deg, damage)

    values = [turned(degrees) for degrees in (0, 30, 60)]
    assert falling(values[::-1])


def test_noise_hides_figures(toy_judge, stories, tells):
    tells("figures")

    def noisy(levels):
        def damage(frames, index):
            noise = np.random.default_rng(index).normal(0, levels, frames.shape)
            return np.clip(frames + noise, 0, 255).astype(np.uint8)

        return mean_score(toy_judge, stories, accuracy.figure_accuracy, damage)

    assert falling([noisy(0), noisy(160), noisy(240)])
