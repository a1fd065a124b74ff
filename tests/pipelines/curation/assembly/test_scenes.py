import numpy as np
import pytest

from pipelines.curation.analysis.keyframes import colour_histogram
from pipelines.curation.assembly.assemble import _clustered
from pipelines.curation.assembly.scenes import (
    best_link,
    cluster_shots,
    mean_similarity,
    scene_id,
)
from pipelines.curation.config import SceneConfig

A, B, C = np.eye(3, dtype=np.float32)
A_AND_B = (A + B) / np.float32(np.sqrt(2))


def groups(rows, *, durations_s=None, threshold=0.7, **settings):
    config = SceneConfig(similarity_threshold=threshold, **settings)
    scenes = cluster_shots(np.stack(rows), durations_s or [1.0] * len(rows), config)
    return [list(scene.shots) for scene in scenes]


def test_shots_of_another_place_begin_another_scene():
    assert groups([A, A, B, B, C]) == [[0, 1], [2, 3], [4]]


def test_a_dialogue_that_cuts_back_and_forth_is_one_scene():
    assert groups([A, B, A, B]) == [[0, 1, 2, 3]]
    assert groups([C, A, B, A, B, C]) == [[0], [1, 2, 3, 4], [5]]


def test_only_shots_within_the_window_are_compared():
    assert groups([A, B, C, A], window=2) == [[0], [1], [2], [3]]
    assert groups([A, B, C, A], window=3) == [[0, 1, 2, 3]]


def test_the_best_link_of_a_boundary_is_over_all_pairs_within_the_window():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(9, 4)).astype(np.float32)
    for shot in range(1, 9):
        pairs = [(a, b) for a in range(shot) for b in range(shot, 9) if b - a <= 3]
        best = max(float(rows[a] @ rows[b]) for a, b in pairs)
        assert best_link(rows, shot, 3) == pytest.approx(best, abs=1e-5)


def test_a_scene_is_closed_at_its_most_shots():
    assert groups([A] * 5, max_shots=2) == [[0, 1], [2, 3], [4]]


def test_a_scene_is_closed_before_it_grows_too_long():
    assert groups([A] * 3, durations_s=[4.0, 4.0, 4.0], max_duration_s=9.0) == [[0, 1], [2]]


def test_no_shots_make_no_scene():
    assert cluster_shots(np.zeros((0, 3), np.float32), [], SceneConfig()) == []


def test_the_weakest_link_is_reported():
    config = SceneConfig(similarity_threshold=0.5)
    (scene,) = cluster_shots(np.stack([A, A, A_AND_B]), [1.0, 1.0, 1.0], config)
    assert scene.min_link_similarity == pytest.approx(np.sqrt(0.5), abs=1e-6)


def test_mean_similarity_counts_each_pair_of_different_shots():
    assert mean_similarity(np.stack([A, A, B])) == pytest.approx(1 / 3)
    assert mean_similarity(np.stack([A])) == 1.0


def test_a_scene_is_identified_by_its_shots_in_order():
    assert scene_id(["x", "y"]) == scene_id(["x", "y"])
    assert scene_id(["x", "y"]) != scene_id(["y", "x"])


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (0.0, [(0, 1), (2,)]),  # by CLIP alone: 1.0, then 0.6
        (1.0, [(0,), (1, 2)]),  # by colours alone: 0.0, then 0.8
        (0.5, [(0,), (1, 2)]),  # 0.5, then 0.7
        (0.8, [(0,), (1, 2)]),  # 0.2, then 0.76
        (0.3, [(0, 1), (2,)]),  # 0.7, then 0.66
    ],
)
def test_colours_count_beside_clip_by_their_weight(weight, expected):
    second = {"start_frame": 0, "end_frame": 24, "start_s": 0.0, "end_s": 1.0}
    second |= {"content_start_frame": 0, "content_end_frame": 24}
    shots = [
        second | {"embedding": [1.0, 0.0], "colours": [1.0, 0.0, 0.0]},
        second | {"embedding": [1.0, 0.0], "colours": [0.0, 1.0, 0.0]},
        second | {"embedding": [0.6, 0.8], "colours": [0.0, 0.8, 0.6]},
    ]
    config = SceneConfig(similarity_threshold=0.68, colour_weight=weight)
    assert [scene.shots for scene in _clustered(shots, config)] == expected


def test_a_histogram_tells_how_much_colour_two_pictures_share():
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, :30] = (255, 0, 0)
    picture[:, 30:] = (0, 0, 255)
    other = picture[:, ::-1].copy()
    other[20:] = (0, 255, 0)
    first, second = colour_histogram(picture), colour_histogram(other)
    assert first @ first == pytest.approx(1.0, abs=1e-5)
    # Red and blue fill a half each, then a quarter each: 2 * sqrt(1/2 * 1/4).
    assert first @ second == pytest.approx(2 * np.sqrt(1 / 8), abs=0.03)
