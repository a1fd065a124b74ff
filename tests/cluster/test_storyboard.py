"""The storyboard: a row a row, its frames, and what was retrieved for it."""

from pathlib import Path

import numpy as np
import pytest

from cluster.storyboard import (
    CARD,
    MODE_WORDS,
    Retrieved,
    StoryboardRow,
    storyboard_image,
    write_storyboard,
)


def flat(hue: int, count: int = 9) -> np.ndarray:
    return np.full((count, 16, 16, 3), hue, dtype=np.uint8)


def rows(num_retrieved: int) -> list[StoryboardRow]:
    found = [Retrieved(flat(200)[0], 0.5, "shot 1")] * num_retrieved
    return [
        StoryboardRow(index, mode, "A bear waves. " * 30, flat(60 + index), found)
        for index, mode in enumerate(MODE_WORDS)
    ]


def colors(image: object) -> set[tuple[int, ...]]:
    return {color for _, color in image.getcolors(maxcolors=1 << 20)}


def test_every_segment_shows_its_frames() -> None:
    page = storyboard_image("Title", rows(2))
    assert {(60 + index,) * 3 for index in range(4)} <= colors(page)
    assert CARD in colors(page)


def test_retrieved_keyframes_stand_beside_their_shot() -> None:
    assert (200, 200, 200) in colors(storyboard_image("Title", rows(1)))
    assert (200, 200, 200) not in colors(storyboard_image("Title", rows(0)))


@pytest.mark.parametrize("num_frames", [1, 2, 50])
def test_any_number_of_frames_fits(num_frames: int) -> None:
    row = StoryboardRow(0, "first_shot", "A bear.", flat(9, num_frames), [])
    assert storyboard_image("Title", [row]).width > 0


def test_the_picture_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "storyboard.png"
    write_storyboard(path, "Title", rows(3))
    assert [file.name for file in path.parent.iterdir()] == ["storyboard.png"]
