"""The shot cache: exact top-K, its ties, pins, mutes and weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fw_model.cache.shot import Keyframe, RetrievalConfig, admit, retrieve
from fw_model.errors import InputError


def keyframe(name: str, direction: list[float], *, shot: int = 0, frame: int = 0) -> Keyframe:
    embedding = np.array(direction, dtype=np.float32)
    embedding /= np.linalg.norm(embedding)
    pixels = np.zeros((2, 2, 3), dtype=np.uint8)
    return Keyframe(name, shot, frame, torch.zeros(1, 1, 1, 1), embedding, "", pixels)


QUERY = np.array([1.0, 0.0], dtype=np.float32)


def ids(bank: list[Keyframe], count: int) -> list[str]:
    return [s.keyframe.keyframe_id for s in retrieve(QUERY, bank, count)]


def test_best_first_with_cosine_as_score() -> None:
    bank = [keyframe("far", [0, 1]), keyframe("near", [3, 4]), keyframe("same", [2, 0])]
    found = retrieve(QUERY, bank, 2)
    assert [s.keyframe.keyframe_id for s in found] == ["same", "near"]
    assert np.allclose([s.score for s in found], [1.0, 0.6])


def test_ties_are_broken_by_shot_then_frame() -> None:
    bank = [
        keyframe("c", [1, 0], shot=2, frame=0),
        keyframe("b", [1, 0], shot=1, frame=9),
        keyframe("a", [1, 0], shot=1, frame=3),
    ]
    assert ids(bank, 3) == ["a", "b", "c"]


def test_a_pinned_keyframe_comes_first_and_a_muted_one_never() -> None:
    bank = [
        keyframe("best", [1, 0]),
        replace(keyframe("pinned", [0, 1]), pinned=True),
        replace(keyframe("muted", [1, 0]), muted=True),
    ]
    assert ids(bank, 3) == ["pinned", "best"]


def test_a_weight_scales_the_score() -> None:
    bank = [keyframe("plain", [4, 3]), replace(keyframe("heavy", [3, 4]), weight=2.0)]
    assert ids(bank, 2) == ["heavy", "plain"]


def test_an_empty_bank_or_no_slots_give_nothing() -> None:
    assert retrieve(QUERY, [], 3) == []
    assert retrieve(QUERY, [keyframe("a", [1, 0])], 0) == []


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0.1, 1)), max_size=20), st.integers(0, 25))
def test_top_k_equals_a_full_sort(directions: list[tuple[float, float]], count: int) -> None:
    bank = [keyframe(str(i), list(d), frame=i) for i, d in enumerate(directions)]
    found = retrieve(QUERY, bank, count)
    cosines = sorted((float(k.embedding @ QUERY) for k in bank), reverse=True)
    assert np.allclose([s.score for s in found], cosines[:count], atol=1e-6)


def test_near_duplicates_of_the_same_shot_are_not_admitted() -> None:
    first = keyframe("a", [1, 0], frame=1)
    twin, other = keyframe("b", [1, 0.001], frame=2), keyframe("c", [0, 1], frame=3)
    later_shot = keyframe("d", [1, 0], shot=1)
    assert admit([twin, other, later_shot], [first]) == [other, later_shot]
    assert admit([first, twin], []) == [first]


def test_diversity_prefers_what_the_chosen_ones_do_not_show() -> None:
    bank = [
        keyframe("best", [0.96, 0.28]),
        keyframe("twin", [0.8, 0.6]),
        keyframe("far", [0.6, -0.8]),
    ]
    assert ids(bank, 2) == ["best", "twin"]
    # best . twin = .936, best . far = .352: .8 - .5 * .936 = .332 < .6 - .5 * .352 = .424
    found = retrieve(QUERY, bank, 2, RetrievalConfig(diversity=0.5))
    assert [s.keyframe.keyframe_id for s in found] == ["best", "far"]
    assert np.allclose([s.score for s in found], [0.96, 0.6])


def test_an_entity_gets_no_more_than_its_quota() -> None:
    bank = [
        replace(keyframe("a1", [1, 0]), name="Ann"),
        replace(keyframe("a2", [4, 3], shot=1), name="Ann"),
        keyframe("s1", [3, 4], shot=2, frame=1),
        keyframe("s2", [0, 1], shot=2, frame=2),
    ]
    found = retrieve(QUERY, bank, 4, RetrievalConfig(max_per_entity=1))
    assert [s.keyframe.keyframe_id for s in found] == ["a1", "s1"]


def test_more_pinned_than_a_chunk_reads_is_refused() -> None:
    bank = [replace(keyframe(str(i), [1, 0], frame=i), pinned=True) for i in range(4)]
    with pytest.raises(InputError, match=r"4 keyframes .* reads 3; unpin 1"):
        retrieve(QUERY, bank, 3)
