"""What would another CLIP say of films that are there already?

    python -m benchmarks.rejudge EVALUATED --clip FOLDER [--json FILE] [--quick]

EVALUATED is the output of `filmweaver evaluate` on toy films. Its films are read from their H.264
files (encoded the same way for all variants), with the frames and boxes that its scores rest on.
Reports the paper's consistency and alignment of each variant, and the full method minus each, with
95 % bootstrap intervals over stories. --quick judges two stories.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import parser, report, scorecard_rows
from fw_model.embedders.base import Embedder
from fw_model.embedders.clip import OpenClipEmbedder
from fw_model.evaluation.config import EvaluationConfig
from fw_model.evaluation.metrics import consistency
from fw_model.evaluation.scoring.scorecard import build_scorecard
from fw_model.evaluation.scoring.story_score import METRICS
from fw_model.evaluation.stories.truth import StoryTruth
from fw_model.media.video import read_frames
from pipelines.evaluation.film_story import TRUTH
from pipelines.evaluation.suites import suite_story

NUM_BOOTSTRAP = 2000


def main() -> None:
    """Judge every film again."""
    arguments = _arguments()
    evaluated: Path = arguments.evaluated
    if not (evaluated / "scorecard.json").is_file():
        sys.exit(f"{evaluated} holds no scorecard.json; run `filmweaver evaluate` first.")
    settings = json.loads((evaluated / "scorecard.json").read_text())["settings"]
    known = {name: settings[name] for name in EvaluationConfig.model_fields if name in settings}
    config = EvaluationConfig(**known)
    embedder = OpenClipEmbedder.load(arguments.clip)
    seeds = list(config.story_seeds)[: 2 if arguments.quick else None]
    stories = {seed: suite_story(seed, config).truth for seed in seeds}
    scores = {
        variant: {seed: judge(evaluated, variant, stories[seed], embedder) for seed in stories}
        for variant in (TRUTH, *config.variants)
    }
    truth = scores.pop(TRUTH)
    scorecard = build_scorecard(scores, truth, num_bootstrap=NUM_BOOTSTRAP, about={})
    report(arguments, "rejudge", scorecard_rows(scorecard, min(stories)))


def judge(evaluated: Path, variant: str, story: StoryTruth, embedder: Embedder) -> dict[str, Any]:
    """Return the score of one film: CLIP's four measures; the others are not measured."""
    name = f"{variant}/story_{story.seed:07d}"
    result = json.loads((evaluated / f"stories/{name}.json").read_text())
    frames = read_frames(evaluated / f"films/{name}.mp4")
    shots = np.split(frames, np.cumsum(result["shot_frames"])[:-1])
    sightings = [
        (index, kind, seen)
        for index, shot in enumerate(result["details"]["shots"])
        for kind, found in shot["characters"].items()
        for seen in found
    ]
    standing = sorted({(index, seen["frame"]) for index, _, seen in sightings})
    boxes = {(i, seen["frame"], kind): seen["box"] for i, kind, seen in sightings if "box" in seen}
    embedded = consistency.embed_frames(shots, standing, story, boxes, embedder)
    measures = consistency.clip_measures(embedded, story)
    return {"metrics": {**dict.fromkeys(METRICS), **measures}, "details": {}}


def _arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("evaluated", type=Path, help="OUTPUT of `filmweaver evaluate`")
    made.add_argument("--clip", type=Path, required=True, help="open_clip folder of the judge")
    return made.parse_args()


if __name__ == "__main__":
    main()
