"""A story as one picture: one row per shot, with the keyframes that its shot cache retrieved.

Works on pictures and text only; knows nothing about models or servers.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fw_model.files.atomic import atomic_file

PAPER = (250, 248, 244)
CARD = (255, 255, 255)
INK = (32, 33, 36)
MUTED = (118, 116, 110)
LINE = (226, 222, 214)
ACCENT = {
    "first_shot": (94, 129, 172),
    "extend_first_shot": (136, 112, 176),
    "new_shot": (70, 150, 112),
    "extend_new_shot": (203, 112, 62),
}
MODE_WORDS = {
    "first_shot": "first shot · both caches empty",
    "extend_first_shot": "extend first shot · temporal cache",
    "new_shot": "new shot · shot cache",
    "extend_new_shot": "extend new shot · both caches",
}

TILE_HEIGHT_PX = 150
MARGIN_PX = 28
GAP_PX = 10
TEXT_WIDTH_PX = 270


@dataclass(frozen=True)
class Retrieved:
    """A keyframe that a row retrieved. `image` uint8 [H, W, 3]."""

    image: np.ndarray
    score: float
    label: str


@dataclass(frozen=True)
class StoryboardRow:
    """A part of a shot under one prompt. `frames` uint8 [F, H, W, 3]."""

    shot: int
    mode: str
    prompt: str
    frames: np.ndarray
    retrieved: Sequence[Retrieved]


def storyboard_image(
    title: str, rows: Sequence[StoryboardRow], *, num_tiles: int = 5
) -> Image.Image:
    """Draw one row per row: its prompt, `num_tiles` of its frames, its retrieved keyframes."""
    height, width = rows[0].frames.shape[1:3]
    tile = (round(TILE_HEIGHT_PX * width / height), TILE_HEIGHT_PX)
    small = (round(tile[0] * 0.62), round(tile[1] * 0.62))
    most_retrieved = max(1, *(len(row.retrieved) for row in rows))
    frames_left = MARGIN_PX + TEXT_WIDTH_PX + 2 * GAP_PX
    cache_left = frames_left + num_tiles * (tile[0] + GAP_PX) + 2 * GAP_PX
    page_width = cache_left + most_retrieved * (small[0] + GAP_PX) + MARGIN_PX
    row_height = tile[1] + 2 * GAP_PX + 6
    header = 92
    page = Image.new(
        "RGB", (page_width, header + len(rows) * (row_height + GAP_PX) + MARGIN_PX), PAPER
    )
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN_PX, 22), title, font=_font(28), fill=INK)
    draw.text((frames_left, 66), "the film", font=_font(14), fill=MUTED)
    draw.text((cache_left, 66), "keyframes retrieved, with scores", font=_font(14), fill=MUTED)
    for index, row in enumerate(rows):
        top = header + index * (row_height + GAP_PX)
        box = (MARGIN_PX - 12, top, page_width - MARGIN_PX + 12, top + row_height)
        draw.rounded_rectangle(box, radius=10, fill=CARD, outline=LINE)
        accent = ACCENT.get(row.mode, MUTED)
        draw.rounded_rectangle((box[0], top, box[0] + 6, top + row_height), radius=3, fill=accent)
        _draw_words(draw, row, (MARGIN_PX + 6, top + GAP_PX), accent)
        for position, frame in enumerate(_spread(row.frames, num_tiles)):
            left = frames_left + position * (tile[0] + GAP_PX)
            page.paste(_tile(frame, tile), (left, top + GAP_PX + 3))
        _draw_retrieved(page, draw, row.retrieved, (cache_left, top + GAP_PX + 3), small)
    return page


def write_storyboard(path: Path, title: str, rows: Sequence[StoryboardRow]) -> None:
    """Draw the storyboard and save it at `path` as PNG."""
    with atomic_file(path) as file:
        storyboard_image(title, rows).save(file, format="PNG", optimize=True)


def _draw_words(
    draw: ImageDraw.ImageDraw, row: StoryboardRow, corner: tuple[int, int], accent: tuple[int, ...]
) -> None:
    left, top = corner
    draw.text((left, top), f"Shot {row.shot + 1}", font=_font(20), fill=INK)
    words = MODE_WORDS.get(row.mode, row.mode)
    draw.text((left, top + 28), words, font=_font(13), fill=accent)
    lines = textwrap.wrap(row.prompt, width=37)
    shown = lines[:5] if len(lines) <= 5 else [*lines[:4], lines[4][:33] + " ..."]
    draw.multiline_text((left, top + 52), "\n".join(shown), font=_font(14), fill=INK, spacing=4)


def _draw_retrieved(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    retrieved: Sequence[Retrieved],
    corner: tuple[int, int],
    size: tuple[int, int],
) -> None:
    left, top = corner
    if not retrieved:
        draw.text((left, top + size[1] // 2 - 8), "none", font=_font(14), fill=MUTED)
    for keyframe in retrieved:
        page.paste(_tile(keyframe.image, size), (left, top))
        draw.text((left, top + size[1] + 6), f"{keyframe.score:.3f}", font=_font(15), fill=INK)
        label = textwrap.shorten(keyframe.label, width=max(8, size[0] // 8), placeholder="…")
        draw.text((left, top + size[1] + 26), label, font=_font(12), fill=MUTED)
        left += size[0] + GAP_PX


def _spread(frames: np.ndarray, count: int) -> list[np.ndarray]:
    """Return `count` frames spread evenly over the row, both ends included."""
    picked = np.linspace(0, len(frames) - 1, count).round().astype(int)
    return [frames[index] for index in picked]


def _tile(frame: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Return a frame scaled to its place on the page."""
    return Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)


def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own scalable font, so no font file on the machine is needed."""
    return ImageFont.load_default(size_px)
