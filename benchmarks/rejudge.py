"""What would another CLIP say? The paper's consistency and alignment over films that are there.

    python benchmarks/rejudge.py EVALUATED --clip FOLDER [--json FILE]

EVALUATED is the output of `filmweaver evaluate` on toy films; its films are read as they were
filed (H.264, alike for all variants), with the frames and boxes that its scores rest on. Prints
each variant's mean and the full method less each, with 95 % intervals by bootstrap over stories.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from fw_model.embedders.base import Embedder
from fw_model.embedders.clip import OpenClipEmbedder
from fw_model.evaluation import consistency
from fw_model.evaluation.config import EvaluationConfig
from fw_model.evaluation.scorecard import Interval, bootstrap_interval, difference_interval
from fw_model.evaluation.truth import StoryTruth
from fw_model.media.video import read_frames
from pipelines.story_suites import suite_story

METRICS = (
    "character_consistency",
    "overall_consistency",
    "character_alignment",
    "overall_alignment",
)
NUM_BOOTSTRAP = 2000


def main() -> None:
    """Judge every film again and print the tables."""
    arguments = _arguments()
    evaluated: Path = arguments.evaluated
    if not (evaluated / "scorecard.json").is_file():
        sys.exit(f"{evaluated} holds no scorecard.json; run `filmweaver evaluate` first.")
    settings = json.loads((evaluated / "scorecard.json").read_text())["settings"]
    known = {name: settings[name] for name in EvaluationConfig.model_fields if name in settings}
    config = EvaluationConfig(**known)
    embedder = OpenClipEmbedder.load(arguments.clip)
    stories = {seed: suite_story(seed, config).truth for seed in config.story_seeds}
    scores = {
        variant: {seed: judge(evaluated, variant, stories[seed], embedder) for seed in stories}
        for variant in ("truth", *config.variants)
    }
    report = tables(scores)
    for title, rows in report.items():
        print(f"\n{title}\n" + " " * 24 + "".join(f"{metric:>32}" for metric in METRICS))
        for name, row in rows.items():
            print(f"{name:<24}" + "".join(f"{_cell(row[metric]):>32}" for metric in METRICS))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


def judge(
    evaluated: Path, variant: str, story: StoryTruth, embedder: Embedder
) -> dict[str, float | None]:
    """Return the four measures of one film."""
    name = f"{variant}/story_{story.seed:07d}"
    result = json.loads((evaluated / f"stories/{name}.json").read_text())
    frames = read_frames(evaluated / f"films/{name}.mp4")
    shots = np.split(frames, np.cumsum(result["shot_frames"])[:-1])
    told = [
        (index, kind, seen)
        for index, shot in enumerate(result["details"]["shots"])
        for kind, sightings in shot["characters"].items()
        for seen in sightings
    ]
    standing = sorted({(index, seen["frame"]) for index, _, seen in told})
    boxes = {(i, seen["frame"], kind): seen["box"] for i, kind, seen in told if "box" in seen}
    found = consistency.embed_frames(shots, standing, story, boxes, embedder)
    return {
        "character_consistency": consistency.character_consistency(found),
        "overall_consistency": consistency.overall_consistency(found, story),
        "character_alignment": consistency.character_alignment(found),
        "overall_alignment": consistency.overall_alignment(found),
    }


def tables(
    scores: dict[str, dict[int, dict[str, float | None]]],
) -> dict[str, dict[str, dict[str, Interval | None]]]:
    """Return the means of variants, and the full method less each, both with intervals."""
    means: dict[str, Any] = {}
    less: dict[str, Any] = {}
    for variant, own in scores.items():
        means[variant] = {
            metric: bootstrap_interval(
                [s[metric] for s in own.values() if s[metric] is not None], NUM_BOOTSTRAP
            )
            for metric in METRICS
        }
        if variant in ("full", "truth") or "full" not in scores:
            continue
        less[variant] = {}
        for metric in METRICS:
            pairs = [(scores["full"][seed][metric], own[seed][metric]) for seed in own]
            both = [(a, b) for a, b in pairs if a is not None and b is not None]
            less[variant][metric] = difference_interval(both, NUM_BOOTSTRAP)
    return {"means": means, "full less": less}


def _cell(interval: Interval | None) -> str:
    if interval is None:
        return "not measured"
    return f"{interval['mean']:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("evaluated", type=Path, help="OUTPUT of `filmweaver evaluate`")
    parser.add_argument("--clip", type=Path, required=True, help="open_clip folder of the judge")
    parser.add_argument("--json", type=Path, help="where the numbers go as well")
    return parser.parse_args()


if __name__ == "__main__":
    main()
