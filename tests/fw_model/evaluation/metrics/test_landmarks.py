"""Landmarks are found again by their shape, wherever figures do not hide them."""

import numpy as np
import pytest

from fw_model.evaluation.metrics import landmarks
from fw_model.evaluation.metrics.landmarks import Backdrop, landmark_displacement, window_shifts
from pipelines.toyfilms import places
from tests.fw_model.evaluation.made_up import asked, filmed, seen, story

STILL = {"camera": "still"}


def picture(*towers: float, zoom: float = 1.0) -> np.ndarray:
    """Return four frames [F, 64, 64, 3] of dark towers at these places under a light sky."""
    frames = np.full((4, 64, 64, 3), 200, np.uint8)
    for number, x in enumerate(towers):
        middle = 32 + (x - 0.5) * 64 * zoom
        half = (3 + number) * zoom  # each has a width of its own
        frames[:, :, round(middle - half) : round(middle + half)] = 60
    return frames


def nobody():
    return seen(kinds=())


@pytest.mark.parametrize("pixels", [0, 3, 8])
def test_a_backdrop_moved_by_so_many_pixels_is_found_there(pixels):
    known = np.ones((64, 64), np.float32)
    old, new = (
        Backdrop(picture(0.3 + moved / 64, 0.6 + moved / 64)[0, ..., 0].astype(np.float32), known)
        for moved in (0, pixels)
    )
    shifts = window_shifts(old, new)
    assert shifts
    assert np.median(shifts) == pytest.approx(pixels / 64)


def test_a_camera_that_comes_nearer_turns_about_the_same_height_as_in_the_films():
    assert landmarks._PIVOT_Y == places._PIVOT_Y


def test_an_empty_backdrop_has_nothing_to_be_found_by():
    flat = Backdrop(np.full((64, 64), 90, np.float32), np.ones((64, 64), np.float32))
    assert window_shifts(flat, flat) == []


def test_landmarks_are_compared_in_the_place_not_on_the_screen():
    wide, near = asked(**STILL), asked(**STILL, zoom=1.25, scale="close")
    shots = filmed([picture(0.3, 0.6), picture(0.3, 0.6, zoom=1.25)])
    assert landmark_displacement(shots, [nobody()] * 2, story(wide, near)) < 0.01


def test_what_figures_hide_is_not_asked_for():
    """A figure fills the middle of the frame: the tower behind it may stand anywhere."""
    shots = filmed([picture(0.05, 0.5, 0.95), picture(0.05, 0.4, 0.95)])
    asks = story(asked(**STILL), asked(**STILL))
    bare = landmark_displacement(shots, [nobody()] * 2, asks)
    hidden = landmark_displacement(shots, [seen()] * 2, asks)
    assert hidden < 0.01 < bare


def test_a_panning_camera_and_a_new_place_are_not_compared():
    asks = [asked(**STILL), asked(camera="pan"), asked(**STILL, place_index=1)]
    shots = filmed([picture(0.3)] * 3)
    assert landmark_displacement(shots, [nobody()] * 3, story(*asks)) is None
