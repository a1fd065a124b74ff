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
from fw_model.evaluation.config import EvaluationConfig
from fw_model.evaluation.metrics import consistency
from fw_model.evaluation.scoring.scorecard import build_scorecard, table_text
from fw_model.evaluation.scoring.story_score import METRICS
from fw_model.evaluation.stories.truth import StoryTruth
from fw_model.media.video import read_frames
from pipelines.evaluation.film_story import TRUTH
from pipelines.evaluation.suites import suite_story

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
        for variant in (TRUTH, *config.variants)
    }
    truth = scores.pop(TRUTH)
    scorecard = build_scorecard(scores, truth, num_bootstrap=NUM_BOOTSTRAP, about={})
    print(table_text(scorecard))
    for variant, differences in scorecard["full_minus"].items():
        for metric in METRICS:
            if (less := differences[metric]) is not None:
                interval = f"{less['mean']:+.2f} [{less['low']:+.2f}, {less['high']:+.2f}]"
                print(f"full minus {variant:<24}{metric:<24}{interval}")
    if arguments.json:
        arguments.json.write_text(json.dumps(scorecard, indent=2) + "\n")


def judge(evaluated: Path, variant: str, story: StoryTruth, embedder: Embedder) -> dict[str, Any]:
    """Return the score of one film: CLIP's four measures, the others not measured."""
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
    measures = consistency.clip_measures(found, story)
    return {"metrics": {**dict.fromkeys(METRICS), **measures}, "details": {}}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("evaluated", type=Path, help="OUTPUT of `filmweaver evaluate`")
    parser.add_argument("--clip", type=Path, required=True, help="open_clip folder of the judge")
    parser.add_argument("--json", type=Path, help="where the numbers go as well")
    return parser.parse_args()


if __name__ == "__main__":
    main()
