"""What does each cache bring? The full method against its ablations, measured and seen.

    python -m benchmarks.caches OUT [--seeds 1000000:1000100] [--checkpoint DIR]
        [--picture FILE [--shown S,S,...]] [--json FILE] [--quick]

Runs `filmweaver evaluate OUT` (an evaluation that is finished is read, not repeated) and reports
every measure of every variant, the full method minus each variant first. --picture puts the film
strips of some stories below each other, one row per variant. --quick films one story.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from benchmarks.report import filmweaver, parser, report, scorecard_rows
from pipelines.evaluation.film_story import TRUTH

LABEL_PX, GAP_PX = 130, 4
PAPER, INK = (250, 248, 244), (32, 33, 36)
ORDER = (
    TRUTH, "full", "without_shot_cache", "without_temporal_cache", "independent",
    "keyframe_then_animate", "without_augmentation", "without_negatives",
)  # fmt: skip
QUICK = ("evaluation.shots_per_story=2", "evaluation.variants=[full, without_shot_cache]")


def main() -> None:
    """Evaluate, report and show."""
    arguments = _arguments()
    out: Path = arguments.out
    seeds = "1000000:1000001" if arguments.quick else arguments.seeds
    words = ["evaluate", str(out), "--seeds", seeds]
    words += ["--checkpoint", str(arguments.checkpoint)] if arguments.checkpoint else []
    filmweaver(*words, *[w for s in QUICK if arguments.quick for w in ("--set", s)])
    scorecard = json.loads((out / "scorecard.json").read_text(encoding="utf-8"))
    rows = scorecard_rows(scorecard, int(seeds.partition(":")[0]))
    rows.sort(key=lambda row: "full minus" not in row.metric)
    report(arguments, "caches", rows)
    if arguments.picture:
        write_picture(out / "films", arguments.picture, arguments.shown)


def write_picture(films: Path, picture: Path, seeds: list[int] | None) -> None:
    """Write the strips of these stories (default: the first two), one row per variant."""
    variants = [v for v in ORDER if (films / v).is_dir()]
    names = sorted(path.stem for path in (films / variants[0]).glob("story_*.jpg"))
    chosen = [f"story_{seed:07d}" for seed in seeds] if seeds else names[:2]
    rows = [(v, Image.open(films / v / f"{name}.jpg")) for name in chosen for v in variants]
    labelled_rows(rows, len(variants)).save(picture, quality=88)


def labelled_rows(rows: list[tuple[str, Image.Image]], per_story: int) -> Image.Image:
    """Return labelled strips below each other, with a wider gap after each story."""
    height = max(strip.height for _, strip in rows) + GAP_PX
    stories = len(rows) // per_story
    size = (
        LABEL_PX + max(s.width for _, s in rows),
        len(rows) * height + (stories - 1) * height // 4,
    )
    page = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=11)
    for number, (name, strip) in enumerate(rows):
        top = number * height + number // per_story * height // 4
        draw.text((4, top + height // 2 - 8), name.replace("_", " "), fill=INK, font=font)
        page.paste(strip, (LABEL_PX, top))
    return page


def _arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("out", type=Path, help="folder of `filmweaver evaluate`")
    made.add_argument("--seeds", default="1000000:1000100", help="stories to film: FIRST:LAST")
    made.add_argument("--checkpoint", type=Path, help="model folder; default: the packaged model")
    made.add_argument("--picture", type=Path, help="picture to write: .jpg or .png")
    made.add_argument(
        "--shown", type=lambda text: [int(s) for s in text.split(",")], metavar="SEED,...",
        help="stories in the picture; default: the first two",
    )  # fmt: skip
    return made.parse_args()


if __name__ == "__main__":
    main()
