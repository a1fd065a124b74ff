"""Who is where, told by a finder: boxes that are none count as not found, with the reason."""

import numpy as np
import pytest

from fw_model.evaluation.judges.characters import (
    Sightings,
    StoryCharacters,
    fault_of_box,
    found_by,
    found_by_toy_judge,
    standing_frames,
)
from fw_model.evaluation.scoring.story_score import Judges, score_story
from fw_model.evaluation.stories.truth import FigureTruth, FilmedShot, ShotTruth, StoryTruth
from tests.fw_model.evaluation.made_up import asked, seen, story
from tests.fw_model.small_model import ColourEmbedder

LEFT_HALF = (0.0, 0.0, 0.5, 1.0)


class ToldFinder:
    """Says what the test tells it, and keeps what it was asked."""

    version = "told"

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def find(self, frame, names):
        self.asked.append((int(frame[0, 0, 0]), list(names)))
        return self.answers[len(self.asked) - 1]


def worded(*casts):
    """A story of words alone: a shot for each cast."""
    figures = [tuple(FigureTruth(name) for name in cast) for cast in casts]
    return StoryTruth(1, tuple(ShotTruth("a red room", figures=f) for f in figures))


def shot(level=0, *, num_frames=4):
    """A shot whose frame i is of brightness level + i."""
    frames = np.arange(level, level + num_frames, dtype=np.uint8)[:, None, None, None]
    return FilmedShot(np.tile(frames, (1, 16, 16, 3)), (0,))


def test_the_middles_of_three_chunks_at_most_stand_for_a_shot():
    frames = np.zeros((81, 16, 16, 3), np.uint8)
    assert standing_frames(FilmedShot(frames[:9], (0,))) == [4]
    assert standing_frames(FilmedShot(frames[:21], (0, 9))) == [4, 15]
    starts = tuple(range(9, 69, 12))
    assert standing_frames(FilmedShot(frames[:69], (0, *starts))) == [15, 39, 63]


def test_the_middle_frame_of_each_chunk_is_shown_with_its_own_cast():
    finder = ToldFinder(Sightings({"a cat": LEFT_HALF}), Sightings({"a cat": LEFT_HALF}))
    found = found_by(
        finder, [shot(10), shot(20), shot(30)], worded(["a cat"], [], ["a dog", "a cat"])
    )
    assert finder.asked == [(12, ["a cat"]), (32, ["a dog", "a cat"])]
    assert found.boxes == {(0, 2, "a cat"): LEFT_HALF, (2, 2, "a cat"): LEFT_HALF}
    assert list(found.not_found) == [(2, 2, "a dog")]
    assert found.share_found == pytest.approx(2 / 3)


def test_somebody_who_was_not_asked_for_is_left_out():
    found = found_by(ToldFinder(Sightings({"a fox": LEFT_HALF})), [shot()], worded(["a cat"]))
    assert not found.boxes
    assert set(found.not_found) == {(0, 2, "a cat")}


def test_the_finders_own_reason_is_kept():
    finder = ToldFinder(Sightings(not_found={"a cat": "it is too dark"}))
    found = found_by(finder, [shot()], worded(["a cat"]))
    assert found.rows_of(0) == {"a cat": [{"frame": 2, "not_found": "it is too dark"}]}


@pytest.mark.parametrize(
    ("box", "fault"),
    [
        ((0.0, 0.0, 1.0, 1.0), None),
        ((0.2, 0.3, 0.21, 0.31), None),
        ((-0.1, 0.0, 0.5, 0.5), "not inside"),
        ((0.1, 0.0, 0.5, 1.01), "not inside"),
        ((0.5, 0.0, 0.5, 1.0), "no area"),
        ((0.0, 0.9, 1.0, 0.1), "no area"),
        ((0.0, 0.0, 1.0), "four numbers"),
        ((0.0, 0.0, float("nan"), 1.0), "four numbers"),
    ],
)
def test_a_box_is_checked(box, fault):
    if fault is None:
        assert fault_of_box(box) is None
    else:
        assert fault in fault_of_box(box)
        found = found_by(ToldFinder(Sightings({"a cat": box})), [shot()], worded(["a cat"]))
        assert not found.boxes
        assert fault in found.not_found[0, 2, "a cat"]


def test_the_toy_judge_tells_of_every_figure_asked_for():
    found = found_by_toy_judge([shot()] * 2, [seen(["bear"]), seen([])], story(asked(), asked()))
    assert set(found.boxes) == {(0, 2, "bear")}
    assert found.not_found == {(1, 2, "bear"): "the toy judge does not see it"}


def test_nobody_looked_is_not_a_share():
    assert StoryCharacters().share_found is None


RED_HALF = np.zeros((3, 16, 16, 3), np.uint8)
RED_HALF[:, :, :8, 0] = 200
RED_HALF[:, :, 8:, 2] = 200


def test_characters_of_a_story_of_words_are_measured_where_a_finder_sees_them():
    shots = [FilmedShot(RED_HALF, (0,))] * 2
    finder = ToldFinder(*[Sightings({"a red cat": LEFT_HALF})] * 2)
    score = score_story(
        shots,
        worded(["a red cat"], ["a red cat"]),
        None,
        Judges(toy_judge=None, embedder=ColourEmbedder(), finder=finder),
    )
    assert score["metrics"]["character_consistency"] == pytest.approx(100)
    assert score["metrics"]["character_alignment"] > 99
    assert score["details"]["characters_found"] == 1.0
    assert score["details"]["shots"][1]["characters"] == {
        "a red cat": [{"frame": 1, "box": list(LEFT_HALF)}]
    }


def test_without_a_finder_characters_of_words_are_not_measured():
    shots = [FilmedShot(RED_HALF, (0,))] * 2
    judges = Judges(toy_judge=None, embedder=ColourEmbedder())
    score = score_story(shots, worded(["a red cat"], ["a red cat"]), None, judges)
    assert score["metrics"]["character_consistency"] is None
    assert score["metrics"]["character_alignment"] is None
    assert score["metrics"]["aesthetic"] is None
    assert score["metrics"]["inception"] is None
    assert score["details"]["characters_found"] is None
