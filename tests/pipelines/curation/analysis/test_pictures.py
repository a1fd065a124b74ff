"""What is measured of a keyframe's picture."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from pipelines.curation.analysis.keyframes import (
    colour_histogram,
    encode_jpeg,
    fingerprint,
    miniature,
    text_area,
)
from pipelines.curation.assembly.near_duplicates import distance_bits
from tests.pipelines.curation.footage import scenery


def title_card():
    picture = np.zeros((288, 512, 3), np.uint8)
    for line in range(5):
        place = 40, 60 + 45 * line
        cv2.putText(
            picture, "directed by somebody", place, cv2.FONT_HERSHEY_SIMPLEX, 1.1, (255,) * 3, 2
        )
    return picture


def test_a_title_card_is_text_and_a_view_is_not():
    assert text_area(title_card()) > 0.2
    assert text_area(scenery(1, size=(512, 288))) < 0.02
    assert text_area(np.zeros((20, 400, 3), np.uint8)) == 0.0


@pytest.mark.parametrize("side", [512, 1000])
def test_text_is_looked_for_in_pictures_of_many_small_things(side):
    """Dots in every row, as many as can be told apart: more than 16 bits number."""
    picture = np.zeros((side, side, 3), np.uint8)
    for row in range(0, side, 2):
        picture[row, 5 * (row // 2 % 2) :: 10] = 255
    assert 0.0 <= text_area(picture) <= 1.0


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (640, 2), (512, 288)])
def test_pictures_of_any_size_are_measured_and_written(size):
    picture = scenery(3, size=size)
    mini = miniature(picture)
    assert len(fingerprint(mini)) == 32
    assert np.linalg.norm(colour_histogram(mini)) == pytest.approx(1.0)
    read = np.asarray(Image.open(io.BytesIO(encode_jpeg(picture, 90))))
    assert read.shape == picture.shape
    assert encode_jpeg(picture, 90) == encode_jpeg(picture, 90)


def test_colours_stay_what_they_are_in_a_jpeg():
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:] = (250, 120, 10)
    read = np.asarray(Image.open(io.BytesIO(encode_jpeg(picture, 90)))).astype(int)
    assert np.abs(read - picture).max() <= 4


def test_fingerprints_are_near_for_the_same_view_and_far_for_another():
    view = scenery(1, size=(512, 288))
    noisy = view + np.random.default_rng(0).integers(0, 6, view.shape, np.uint8)
    one, same, other = (fingerprint(miniature(p)) for p in (view, noisy, scenery(2)))
    assert distance_bits(one, same) < 20 < 60 < distance_bits(one, other)
