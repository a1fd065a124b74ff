"""The temporal cache's tiers, by hand (FilmWeaver, appendix: 1, 2 and 16 latents)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fw_model.cache.config import CacheConfig
from fw_model.cache.context import ContextLatents, context_segments, mode_of
from fw_model.cache.temporal import temporal_tiers

LEVELS = CacheConfig().levels


def numbered(count: int) -> torch.Tensor:
    """Latents whose every value is their own index."""
    return torch.arange(count, dtype=torch.float32).view(1, 1, count, 1, 1).expand(1, 1, -1, 8, 8)


def contents(count: int) -> list[tuple[list[int], int]]:
    tiers = temporal_tiers(LEVELS, numbered(count))
    return [(t.latents[0, 0, :, 0, 0].int().tolist(), t.position) for t in tiers]


def test_full_history_fills_19_latents_in_three_tiers() -> None:
    assert contents(19) == [(list(range(16)), -19), ([16, 17], -3), ([18], -1)]


def test_older_latents_than_19_are_not_read() -> None:
    tiers = contents(30)
    assert tiers[0] == (list(range(11, 27)), -19)
    assert tiers[2] == ([29], -1)


def test_little_history_fills_the_nearest_tier_first() -> None:
    assert contents(1) == [([0], -1)]
    assert contents(2) == [([0], -2), ([1], -1)]


def test_a_group_that_is_not_full_repeats_its_oldest_latent() -> None:
    assert contents(4) == [([0, 0], -5), ([1, 2], -3), ([3], -1)]
    assert contents(6)[0] == ([0, 0, 1, 2], -7)


def test_no_history_gives_no_tier() -> None:
    assert temporal_tiers(LEVELS, numbered(0)) == []


@given(st.integers(1, 40))
def test_every_recent_latent_is_in_exactly_one_tier_at_its_own_slot(count: int) -> None:
    placed = {}
    for values, position in contents(count):
        for offset, value in enumerate(values):
            placed.setdefault(value, []).append(position + offset)
    expected = range(max(0, count - 19), count)
    assert set(placed) == set(expected)
    assert all(value - count in slots for value, slots in placed.items())


def test_19_latents_of_history_cost_the_tokens_of_two() -> None:
    tokens = sum(
        t.latents.shape[2] * 64 // (t.kernel[0] * t.kernel[1] * t.kernel[2])
        for t in temporal_tiers(LEVELS, numbered(19))
    )
    assert tokens == 2 * 16


def test_context_is_keyframes_then_history_coarse_to_fine() -> None:
    cache = CacheConfig()
    sigma, text = torch.zeros(1), torch.zeros(1, 2, 3)
    keyframes = [ContextLatents(numbered(1), sigma, text)] * 3
    segments = context_segments(
        cache, keyframes=keyframes, history=ContextLatents(numbered(25), sigma, text)
    )
    assert [s.role for s in segments] == ["keyframe"] * 3 + ["temporal"] * 3
    positions = [s.position for s in segments]
    assert positions == [-27, -29, -31, -19, -3, -1]


@pytest.mark.parametrize(
    ("history", "keyframes", "mode"),
    [
        (False, False, "first_shot"),
        (True, False, "extend_first_shot"),
        (False, True, "new_shot"),
        (True, True, "extend_new_shot"),
    ],
)
def test_the_four_modes_are_which_caches_are_empty(
    history: bool, keyframes: bool, mode: str
) -> None:
    assert mode_of(has_history=history, has_keyframes=keyframes) == mode


def test_a_tier_carries_the_caption_of_its_middle_latent() -> None:
    # 8 latents of history: captions A A A A A B B C. Tiers: [-1], [-3, -2], [-8 .. -4] filled to 6.
    a, b, c = (torch.full((1, 2, 4), float(i)) for i in range(3))
    history = ContextLatents(numbered(8), torch.zeros(1), (a, a, a, a, a, b, b, c))
    coarse, middle, fine = context_segments(CacheConfig(), history=history)
    assert coarse.text is a
    assert middle.text is b
    assert fine.text is c
