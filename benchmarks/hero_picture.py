"""What does each cache do? One story with both caches, and without either, as one picture.

    python -m benchmarks.hero_picture docs/hero.jpg [--seed S] [--checkpoint MODEL]

The prompts never state a colour, so only the shot cache can carry it from shot to shot; only the
temporal cache can carry motion from one chunk of a shot to the next.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fw_model.evaluation.stories.truth import FilmedShot
from fw_model.evaluation.variants import VARIANTS, film_story
from fw_model.generation.generator import StoryGenerator
from fw_model.loading.config import ModelConfig
from fw_model.loading.load import load_model

PROMPTS = (
    "Medium shot: a rabbit in a top hat stands in the meadow by day.",
    "Close-up: a rabbit in a top hat waves in the meadow by day.",
    "Medium shot: a rabbit in a top hat dances in the meadow by day.",
)
ROWS = (
    ("full", "Both caches", "one rabbit in one meadow, in one motion"),
    ("without_shot_cache", "No shot cache", "each shot invents a new rabbit"),
    (
        "without_temporal_cache",
        "No temporal cache",
        "each chunk starts again, so the picture jumps",
    ),
)
TILE, GAP, SHOT_GAP, LABEL, HEAD = 128, 3, 30, 300, 96
PAPER, INK, MUTED, ACCENT = (255, 255, 255), (28, 30, 33), (98, 103, 110), (31, 95, 191)


def main() -> None:
    """Film the story by each variant and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path, help="file to write (.jpg)")
    parser.add_argument("--seed", type=int, default=7, help="seed of the story")
    parser.add_argument("--checkpoint", help="model folder written by `filmweaver train`")
    arguments = parser.parse_args()
    generator = StoryGenerator(load_model(ModelConfig(checkpoint=arguments.checkpoint)))
    films = [
        film_story(generator, PROMPTS, seed=arguments.seed, num_chunks=2, variant=VARIANTS[variant])
        for variant, _, _ in ROWS
    ]
    compose(films).save(arguments.picture, quality=90)


def compose(films: Sequence[Sequence[FilmedShot]]) -> Image.Image:
    """Return one row per film: of each shot, two frames on either side of the chunk border."""
    shot_width = 4 * (TILE + GAP)
    width = LABEL + len(PROMPTS) * (shot_width + SHOT_GAP)
    page = Image.new("RGB", (width, HEAD + len(films) * (TILE + 2 * GAP + 12)), PAPER)
    draw = ImageDraw.Draw(page)
    for number, prompt in enumerate(PROMPTS):
        left = LABEL + number * (shot_width + SHOT_GAP)
        draw.text((left, 6), f"Shot {number + 1}", font=ImageFont.load_default(26), fill=INK)
        words = "\n".join(textwrap.wrap(f"“{prompt}”", 48))
        draw.multiline_text((left, 40), words, font=ImageFont.load_default(20), fill=MUTED)
    for row, (film, (_, title, effect)) in enumerate(zip(films, ROWS, strict=True)):
        top = HEAD + row * (TILE + 2 * GAP + 12)
        draw.text((10, top + 8), title, font=ImageFont.load_default(28), fill=ACCENT)
        words = "\n".join(textwrap.wrap(effect, 28))
        draw.multiline_text((10, top + 48), words, font=ImageFont.load_default(20), fill=MUTED)
        for number, shot in enumerate(film):
            left = LABEL + number * (shot_width + SHOT_GAP)
            for place, frame in enumerate(around_border(shot)):
                at = left + place * (TILE + GAP) + (2 * GAP if place > 1 else 0)
                tile = Image.fromarray(frame).resize((TILE, TILE), Image.Resampling.LANCZOS)
                page.paste(tile, (at, top))
    return page


def around_border(shot: FilmedShot) -> list[np.ndarray]:
    """Return two frames before and two after the border of a shot's two chunks."""
    border = shot.chunk_starts[1]
    return [shot.frames[i] for i in (border - 5, border - 1, border, border + 4)]


if __name__ == "__main__":
    main()
