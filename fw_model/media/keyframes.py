"""Which frames represent a shot, and how they are encoded as still images."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fw_model.errors import MediaError


def select_keyframe_indices(num_frames: int, count: int) -> list[int]:
    """Return the middles of `count` equal parts of a shot, in order.

    The middles avoid both ends, where a dissolve mixes in another shot. A shot with fewer frames
    than `count` gives all of them.
    """
    if num_frames < 1 or count < 1:
        raise MediaError(
            f"Cannot choose {count} keyframes of {num_frames} frames; both must be at least 1."
        )
    if count >= num_frames:
        return list(range(num_frames))
    return [(2 * part + 1) * num_frames // (2 * count) for part in range(count)]


def encode_jpeg(frame: NDArray[np.uint8], *, quality: int = 90) -> bytes:
    """Return uint8 RGB [H, W, 3] as a JPEG file; the same pixels give the same bytes."""
    return _encoded(frame, "JPEG", quality=quality, subsampling=0)


def encode_png(frame: NDArray[np.uint8]) -> bytes:
    """Return uint8 RGB [H, W, 3] as a PNG file, without loss."""
    return _encoded(frame, "PNG")


def _encoded(frame: NDArray[np.uint8], kind: str, **options: int) -> bytes:
    if frame.ndim != 3 or frame.shape[-1] != 3 or frame.dtype != np.uint8:
        raise MediaError(f"An image must be uint8 [H, W, 3], not {frame.dtype} {frame.shape}.")
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, kind, **options)
    return buffer.getvalue()
