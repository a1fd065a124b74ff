"""The films of some stories side by side as one picture: a row a variant, for the documents.

    python benchmarks/strips.py OUTPUT PICTURE [--seeds S,S,...] [--variants A,B,...]

OUTPUT is a folder of `filmweaver evaluate`, whose strips are put together.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from PIL import Image, ImageDraw, ImageFont

from pipelines.evaluation.film_story import TRUTH

LABEL_PX, GAP_PX = 130, 4
PAPER, INK = (250, 248, 244), (32, 33, 36)
ORDER = (
    TRUTH, "full", "without_shot_cache", "without_temporal_cache", "independent",
    "keyframe_then_animate", "without_augmentation", "without_negatives",
)  # fmt: skip


def main() -> None:
    """Read strips, put them under one another, write."""
    arguments = _arguments()
    films: Path = arguments.output / "films"
    variants = arguments.variants or [v for v in ORDER if (films / v).is_dir()]
    names = sorted(path.stem for path in (films / variants[0]).glob("story_*.jpg"))
    chosen = [f"story_{seed:07d}" for seed in arguments.seeds] if arguments.seeds else names[:2]
    rows = [(v, Image.open(films / v / f"{name}.jpg")) for name in chosen for v in variants]
    draw_rows(rows, len(variants)).save(arguments.picture, quality=88)


def draw_rows(rows: list[tuple[str, Image.Image]], of_a_story: int) -> Image.Image:
    """Return labelled strips under one another, a wider gap after each story."""
    height = max(strip.height for _, strip in rows) + GAP_PX
    stories = len(rows) // of_a_story
    size = (
        LABEL_PX + max(s.width for _, s in rows),
        len(rows) * height + (stories - 1) * height // 4,
    )
    page = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=11)
    for number, (name, strip) in enumerate(rows):
        top = number * height + number // of_a_story * height // 4
        draw.text((4, top + height // 2 - 8), name.replace("_", " "), fill=INK, font=font)
        page.paste(strip, (LABEL_PX, top))
    return page


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="folder of `filmweaver evaluate`")
    parser.add_argument("picture", type=Path, help="file to write: .jpg or .png")
    parser.add_argument("--seeds", type=lambda text: [int(s) for s in text.split(",")])
    parser.add_argument("--variants", type=lambda text: text.split(","))
    return parser.parse_args()


if __name__ == "__main__":
    main()
