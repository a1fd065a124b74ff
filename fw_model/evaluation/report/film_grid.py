"""The films of one story side by side in one film.

F frames, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fw_model.evaluation.stories.truth import Pixels

_LABEL_PX = 16
_GAP_PX = 4
_PAPER, _INK = (250, 248, 244), (32, 33, 36)
_SMALLEST_TILE_PX = 128  # a label must fit above its film


def film_grid(films: Mapping[str, Sequence[Pixels]], *, columns: int = 4) -> Pixels:
    """Return films, each a list of shots [F, H, W, 3], as named tiles of one film.

    A shot starts in all films at the same time: one that ends early repeats its last frame. Small
    films are enlarged by an integer. Width and height are even, as video codecs require.
    """
    _, height, width, _ = next(iter(films.values()))[0].shape
    step = max(1, math.ceil(_SMALLEST_TILE_PX / width))
    columns = min(columns, len(films))
    tile_w, tile_h = width * step + _GAP_PX, height * step + _LABEL_PX + _GAP_PX
    rows = math.ceil(len(films) / columns)
    lengths = [max(map(len, takes)) for takes in zip(*films.values(), strict=True)]
    page = _page(list(films), columns, (tile_w, tile_h), (tile_w * columns, tile_h * rows))
    grid = np.repeat(page[None], sum(lengths), axis=0)
    for number, shots in enumerate(films.values()):
        top = number // columns * tile_h + _LABEL_PX
        left = number % columns * tile_w
        film = np.concatenate([_held(s, n) for s, n in zip(shots, lengths, strict=True)])
        enlarged = film.repeat(step, axis=1).repeat(step, axis=2)
        grid[:, top : top + height * step, left : left + width * step] = enlarged
    return grid


def _held(frames: Pixels, num_frames: int) -> Pixels:
    return np.concatenate([frames, np.repeat(frames[-1:], num_frames - len(frames), axis=0)])


def _page(names: list[str], columns: int, tile: tuple[int, int], size: tuple[int, int]) -> Pixels:
    """Return the background with the names of the films, [H, W, 3]."""
    image = Image.new("RGB", (size[0] + size[0] % 2, size[1] + size[1] % 2), _PAPER)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=11)
    for number, name in enumerate(names):
        at = (number % columns * tile[0] + 2, number // columns * tile[1] + 1)
        draw.text(at, name.replace("_", " "), fill=_INK, font=font)
    return np.array(image, dtype=np.uint8)
