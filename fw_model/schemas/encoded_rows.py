"""The rows of the encoded tables as Python types: one per Arrow schema of `encoded`.

A test in `tests/fw_model/schemas` checks that the keys equal the schema's columns.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray


class EncodedShotRow(TypedDict):
    """A row of SHOTS."""

    shot_id: str
    scene_id: str
    video_id: str
    index: int
    text_id: str
    num_frames: int
    num_latents: int
    latents: bytes


class EncodedKeyframeRow(TypedDict):
    """A row of KEYFRAMES."""

    keyframe_id: str
    shot_id: str
    frame: int
    embedding: NDArray[np.float32]
    latents: bytes


class EncodedTextRow(TypedDict):
    """A row of TEXTS."""

    text_id: str
    text: str
    num_tokens: int
    clip_embedding: NDArray[np.float32]
    embedding: bytes
