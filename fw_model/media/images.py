"""Still images from users: PNG, JPEG or WebP with one frame, small enough for memory."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fw_model.errors import InputError

MAX_IMAGE_PIXELS = 33_000_000  # a frame of 8K
_FORMATS = ("PNG", "JPEG", "WEBP")


def read_image(source: str | Path | bytes) -> NDArray[np.uint8]:
    """Return an image as uint8 RGB [H, W, 3], upright, transparency on white.

    Raises InputError for anything except one intact still PNG, JPEG or WebP image.
    """
    name = "The image" if isinstance(source, bytes) else f"The image {source}"
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}.") from error
    try:
        # Pillow's own limit differs and only warns; ours is checked below.
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{name} has more than {MAX_IMAGE_PIXELS} pixels; scale it down."
        ) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{name} is not a PNG, JPEG or WebP image.") from error
    with image:
        if image.width * image.height > MAX_IMAGE_PIXELS:
            raise InputError(
                f"{name} is {image.width}x{image.height}, more than {MAX_IMAGE_PIXELS} pixels; "
                "scale it down."
            )
        if getattr(image, "n_frames", 1) > 1:
            raise InputError(f"{name} is an animation; give one still image.")
        try:
            return _upright_rgb(image)
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(f"{name} is damaged: {error}.") from error


def _upright_rgb(image: Image.Image) -> NDArray[np.uint8]:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit greyscale, which Pillow would clip instead of scaling
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        paper = Image.new("RGBA", rgba.size, "white")
        image = Image.alpha_composite(paper, rgba)
    return np.array(image.convert("RGB"), dtype=np.uint8)
