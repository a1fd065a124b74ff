import numpy as np
import pytest

from pipelines.curation_config import SceneConfig
from pipelines.scenes import cluster_shots, mean_similarity, scene_id

A, B, C = np.eye(3, dtype=np.float32)
A_AND_B = (A + B) / np.float32(np.sqrt(2))


def groups(rows, *, durations_s=None, threshold=0.7, **settings):
    config = SceneConfig(similarity_threshold=threshold, **settings)
    scenes = cluster_shots(np.stack(rows), durations_s or [1.0] * len(rows), config)
    return [list(scene.shots) for scene in scenes]


def test_shots_of_another_place_begin_another_scene():
    assert groups([A, A, B, B, C]) == [[0, 1], [2, 3], [4]]


def test_a_dialogue_that_cuts_back_and_forth_is_one_scene():
    # Each shot is like one of the last few, though neighbours B and A are unlike.
    assert groups([A, A_AND_B, B, A, B, A]) == [[0, 1, 2, 3, 4, 5]]


def test_only_the_last_shots_of_a_scene_are_compared():
    rows = [A, A_AND_B, B, B, B, A]
    assert groups(rows, window=2) == [[0, 1, 2, 3, 4], [5]]
    assert groups(rows, window=6) == [[0, 1, 2, 3, 4, 5]]


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
