"""Films of one story side by side as one film: what a scorecard's numbers look like.

F frames, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fw_model.evaluation.truth import Pixels

_LABEL_PX = 16
_GAP_PX = 4
_PAPER, _INK = (250, 248, 244), (32, 33, 36)
_SMALLEST_TILE_PX = 128  # a label must fit above its film


def film_grid(films: Mapping[str, Pixels], *, columns: int = 4) -> Pixels:
    """Return films [F, H, W, 3] as tiles of one film under their names, row by row.

    Small films are enlarged by whole steps; a film that ends early rests on its last frame. Width
    and height are even, as video codecs want.
    """
    _, height, width, _ = next(iter(films.values())).shape
    step = max(1, math.ceil(_SMALLEST_TILE_PX / width))
    columns = min(columns, len(films))
    tile_w, tile_h = width * step + _GAP_PX, height * step + _LABEL_PX + _GAP_PX
    rows = math.ceil(len(films) / columns)
    num_frames = max(len(film) for film in films.values())
    page = _page(list(films), columns, (tile_w, tile_h), (tile_w * columns, tile_h * rows))
    grid = np.repeat(page[None], num_frames, axis=0)
    for number, film in enumerate(films.values()):
        top = number // columns * tile_h + _LABEL_PX
        left = number % columns * tile_w
        enlarged = film.repeat(step, axis=1).repeat(step, axis=2)
        rest = num_frames - len(film)
        whole = np.concatenate([enlarged, np.repeat(enlarged[-1:], rest, axis=0)])
        grid[:, top : top + height * step, left : left + width * step] = whole
    return grid


def _page(names: list[str], columns: int, tile: tuple[int, int], size: tuple[int, int]) -> Pixels:
    """Return the paper with the names of the films on it, [H, W, 3]."""
    image = Image.new("RGB", (size[0] + size[0] % 2, size[1] + size[1] % 2), _PAPER)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=11)
    for number, name in enumerate(names):
        at = (number % columns * tile[0] + 2, number // columns * tile[1] + 1)
        draw.text(at, name.replace("_", " "), fill=_INK, font=font)
    return np.array(image, dtype=np.uint8)
