"""Measures over what the toy judge sees: perfect on what was asked for, worse with every fault."""

import pytest

from fw_model.evaluation.judges.toy_judge import hue_gap_deg
from fw_model.evaluation.metrics import accuracy, drift, hue, retrieval
from fw_model.evaluation.stories.truth import CachedFrame, FilmedShot
from tests.fw_model.evaluation.made_up import asked, filmed, seen, story, toy, true_frames

STORY = story(asked(), asked(("bear", "cat")), asked(place="city"), asked(scale="close"))
RIGHT = [seen(), seen(("bear", "cat")), seen(place="city"), seen(scale="close")]


@pytest.mark.parametrize(
    "measure",
    [
        accuracy.figure_accuracy,
        accuracy.place_accuracy,
        accuracy.light_accuracy,
        accuracy.scale_accuracy,
        accuracy.action_accuracy,
    ],
)
def test_what_was_asked_for_scores_one(measure):
    assert measure(RIGHT, STORY) == 1.0


@pytest.mark.parametrize(
    ("measure", "wrong"),
    [
        (accuracy.figure_accuracy, seen(("cat",))),
        (accuracy.place_accuracy, seen(place="city")),
        (accuracy.scale_accuracy, seen(scale="close")),
        (accuracy.action_accuracy, seen(action="sit")),
    ],
)
def test_every_wrong_shot_costs_its_share(measure, wrong):
    shots = story(*[asked()] * 4)
    scores = [measure([seen()] * (4 - faults) + [wrong] * faults, shots) for faults in range(5)]
    assert scores == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_one_figure_too_many_is_wrong():
    assert accuracy.figure_accuracy([seen(("bear", "cat"))], story(asked())) == 0.0


def test_a_figure_that_is_not_there_does_nothing_right():
    assert accuracy.action_accuracy([seen(())], story(asked())) == 0.0


def test_kept_colours_have_no_hue_error():
    assert hue.hue_errors_deg([seen()] * 3, story(*[asked()] * 3)) == pytest.approx(
        [0, 0, 0, 0], abs=1e-3
    )


def test_hue_error_grows_with_the_turn_of_the_colour():
    def error(turn):
        turned = seen(hues_deg={"bear": (350 + turn, 200)})
        return max(hue.hue_errors_deg([seen(hues_deg={"bear": (350, 200)}), turned],
                                      story(asked(), asked())))  # fmt: skip

    assert [error(turn) for turn in (0, 20, 90, 180)] == pytest.approx([0, 20, 90, 180], abs=1e-2)


def test_a_character_is_compared_with_its_own_earlier_shots_only():
    shots = story(asked(("bear",)), asked(("cat",)), asked(("bear",)))
    readings = [
        seen(("bear",)),
        seen(("cat",), hues_deg={"cat": (120, 120)}),
        seen(("bear",), hues_deg={"bear": (40, 200)}),
    ]
    assert hue.hue_errors_deg(readings, shots) == pytest.approx([30, 0], abs=1e-2)


def test_a_character_that_is_not_seen_is_not_compared():
    assert hue.hue_errors_deg([seen(), seen(("cat",))], story(asked(), asked())) == []


def test_hues_lie_on_a_circle():
    assert hue_gap_deg(350, 10) == 20
    assert hue.mean_hue_deg([350, 20]) == pytest.approx(5)


def test_accuracy_chunk_by_chunk_finds_where_a_shot_falls_apart():
    whole = [FilmedShot(f, (0, 2)) for f in true_frames(toy(num_shots=2), 4)]
    good, bad = seen(), seen(("cat",), place="city")
    broken = [
        type(good)(**{**vars(good), **{n: getattr(good, n).copy() for n in ("place", "presence")}})
        for _ in range(2)
    ]
    for reading in broken:
        reading.place[2:], reading.presence[2:] = bad.place[2:], bad.presence[2:]
    shots = story(asked(), asked())
    assert drift.accuracy_by_chunk(whole, [good, good], shots) == [1.0, 1.0]
    assert drift.accuracy_by_chunk(whole, broken, shots) == pytest.approx([1.0, 1 / 3])


def test_drift_compares_the_last_chunks_with_the_first():
    assert drift.drift_ratio([1.0]) is None
    assert drift.drift_ratio([1.0, 0.5]) == 0.5
    assert drift.drift_ratio([1.0] * 10 + [0.0] * 40 + [0.9] * 10) == pytest.approx(0.9)


def test_retrieval_counts_returns_to_a_place_alone():
    places = (0, 1, 0, 0, 1)
    truth = story(*[asked(place_index=place) for place in places])
    assert retrieval.returning_shots(truth) == [2, 4]
    frames = true_frames(toy(num_shots=5), 4)

    def with_best(*best):
        shots = filmed(frames, (0,))
        for index, shot in zip((2, 4), best, strict=True):
            cached = (CachedFrame(shot, 0, 0.9, frames[0][0]),)
            shots[index] = FilmedShot(frames[index], (0,), cached)
        return retrieval.retrieval_return_accuracy(shots, truth)

    assert with_best(0, 1) == 1.0
    assert with_best(1, 1) == 0.5
    assert with_best(1, 2) == 0.0
    assert retrieval.retrieval_return_accuracy(filmed(frames, (0,)), truth) is None
