import io

import numpy as np
import pytest
from PIL import Image

from fw_model.errors import InputError, MediaError
from fw_model.media import images
from fw_model.media.images import read_image
from fw_model.media.keyframes import encode_jpeg, encode_png, select_keyframe_indices


def _picture():
    return np.random.default_rng(3).integers(0, 256, (12, 10, 3), dtype=np.uint8)


def _file(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_png_keeps_every_pixel(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(encode_png(_picture()))
    assert np.array_equal(read_image(path), _picture())
    assert np.array_equal(read_image(path.read_bytes()), _picture())


def test_the_same_pixels_give_the_same_jpeg():
    smooth = np.full((16, 16, 3), (200, 80, 40), np.uint8)
    assert encode_jpeg(smooth) == encode_jpeg(smooth.copy())
    assert np.abs(read_image(encode_jpeg(smooth)).astype(int) - smooth).max() <= 4


def test_webp_is_read():
    assert read_image(_file(Image.fromarray(_picture()), "WEBP")).shape == (12, 10, 3)


def test_transparency_is_laid_on_white():
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert (read_image(_file(clear, "PNG")) == 255).all()


def test_sixteen_bit_grey_is_scaled_not_clipped():
    grey = Image.fromarray(np.full((4, 4), 0x8000, np.uint16))
    assert (read_image(_file(grey, "PNG")) == 128).all()


def test_a_turned_photograph_is_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    assert read_image(_file(Image.fromarray(_picture()), "JPEG", exif=exif)).shape == (10, 12, 3)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"%PDF-1.7", b"<svg/>"])
def test_what_is_no_image_is_told(data):
    with pytest.raises(InputError, match="not a PNG, JPEG or WebP"):
        read_image(data)


def test_other_kinds_of_image_are_told():
    with pytest.raises(InputError, match="not a PNG, JPEG or WebP"):
        read_image(_file(Image.fromarray(_picture()), "GIF"))


def test_a_damaged_image_is_told():
    data = encode_png(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    with pytest.raises(InputError, match="damaged"):
        read_image(data[: len(data) // 2])


def test_an_animation_is_refused():
    first, second = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    data = _file(first, "WEBP", save_all=True, append_images=[second])
    with pytest.raises(InputError, match="animation"):
        read_image(data)


def test_a_huge_image_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(images, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match="10x12, more than 100 pixels"):
        read_image(encode_png(_picture()))


def test_a_missing_image_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_image(tmp_path / "absent.png")


def test_one_keyframe_is_the_middle_and_more_are_spread():
    assert select_keyframe_indices(9, 1) == [4]
    assert select_keyframe_indices(12, 3) == [2, 6, 10]


@pytest.mark.parametrize("num_frames", [3, 10, 24, 241])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_keyframes_are_distinct_ordered_and_inside(num_frames, count):
    indices = select_keyframe_indices(num_frames, count)
    assert len(indices) == min(count, num_frames)
    assert indices == sorted(set(indices))
    assert indices[0] >= 0
    assert indices[-1] < num_frames


def test_keyframes_of_nothing_are_refused():
    with pytest.raises(MediaError, match="0 frames"):
        select_keyframe_indices(0, 1)
