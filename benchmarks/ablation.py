"""What do noise on the caches and negative keyframes bring? The paper's Table 2, by training.

    python -m benchmarks.ablation ENCODED OUT [--seeds 1000000:1000100] [--start MODEL --steps N]
        [--arms full,without_augmentation] [--set a.b=c] [--json FILE] [--quick]

ENCODED is what `filmweaver encode` made of toy films with the tiny-scratch profile (or `filmweaver
toyfilms ENCODED --encoded --profile tiny-scratch`). Trains a common base on still pictures without
caches, then three arms from it on one short schedule that differ only in what each goes without,
and films the same held-out stories with all of them. With --start the arms continue a trained model
instead, for N steps of all modes each. Every step is a `filmweaver` command, printed before it
runs; after an interruption the same command continues. Compare the arms with each other only.
--quick renders eight films into ENCODED, trains two arms for one step and films one story.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.report import PROJECT, filmweaver, parser, report, scorecard_rows

BASE = "[{name: pictures, steps: 900, chunk_latents: 1, mode_weights: {first_shot: 1.0}}]"
STAGES = (
    "[{name: pictures, steps: 400, chunk_latents: 1,"
    " mode_weights: {first_shot: 0.25, new_shot: 0.75}},"
    " {name: all_modes, steps: 750, mode_weights: {first_shot: 0.2, extend_first_shot: 0.2,"
    " new_shot: 0.35, extend_new_shot: 0.25}}]"
)
FURTHER = (
    "[{{name: all_modes, steps: {steps}, mode_weights: {{first_shot: 0.2, extend_first_shot: 0.2,"
    " new_shot: 0.35, extend_new_shot: 0.25}}}}]"
)
ARMS = {
    "full": (),
    "without_augmentation": ("training.augment.enabled=false",),
    "without_negatives": ("training.sampling.negative_fraction=0",),
}


TINY = str(PROJECT / "fw_model/assets/tiny")
QUICK = (
    "training.group_size=1", "training.noises_per_context=1", "training.compile=false",
    "training.num_workers=0", "training.export_dtype=float32",
)  # fmt: skip


def main() -> None:
    """Train the base and the arms, then film and score."""
    arguments = _arguments()
    out: Path = arguments.out
    if arguments.quick:
        _make_quick(arguments)
    start, stages = arguments.start, FURTHER.format(steps=arguments.steps)
    if start is None:
        start, stages = out / "base" / "model", STAGES
        base = ("training.optimizer.decay=constant", "training.seed=11")
        _train(arguments.encoded, out / "base", (f"training.stages={BASE}", *base, *arguments.set))
    arms = {name: ARMS[name] for name in arguments.arms}
    for name, settings in arms.items():
        common = (
            f"model.checkpoint={start}",
            f"training.stages={stages}",
            "training.optimizer.decay_start=0.6",
            "training.seed=12",
        )
        _train(arguments.encoded, out / name, (*common, *settings, *arguments.set))
    models = [f"evaluation.checkpoints.{name}={out / name / 'model'}" for name in list(arms)[1:]]
    variants = f"evaluation.variants=[{', '.join(arms)}]"
    full = f"model.checkpoint={out / 'full' / 'model'}"
    filmweaver("evaluate", str(out / "score"), "--seeds", arguments.seeds,
               *_settings((full, variants, *models, *arguments.film)))  # fmt: skip
    scorecard = json.loads((out / "score" / "scorecard.json").read_text(encoding="utf-8"))
    first_seed = int(arguments.seeds.partition(":")[0])
    rows = scorecard_rows(scorecard, first_seed)
    rows.sort(key=lambda row: "full minus" not in row.metric)
    report(arguments, "ablation", rows)


def _make_quick(arguments: argparse.Namespace) -> None:
    """Render a small dataset and cut the rest down to a step and a story."""
    films = ("toyfilms.num_films=8", "toyfilms.width=64", "toyfilms.height=64")
    filmweaver("toyfilms", str(arguments.encoded), "--encoded", "--profile", "tiny-scratch",
               *_settings(films))  # fmt: skip
    arguments.start, arguments.steps, arguments.set = TINY, 1, list(QUICK)
    arguments.arms, arguments.seeds = ["full", "without_augmentation"], "1000000:1000001"
    arguments.film = ("evaluation.shots_per_story=2", "evaluation.num_chunks=1")


def _train(encoded: Path, output: Path, settings: tuple[str, ...]) -> None:
    # A finished run has nothing left to do, and a run with other settings is refused.
    words = ("train", str(encoded), str(output), "--profile", "tiny-scratch")
    filmweaver(*words, *_settings(settings))


def _settings(settings: tuple[str, ...]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def _arms(text: str) -> list[str]:
    arms = text.split(",")
    if arms[0] != "full" or not set(arms) <= set(ARMS):
        raise argparse.ArgumentTypeError(f"{text!r}: full first, then any of {', '.join(ARMS)}")
    return arms


def _arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("encoded", type=Path, help="training dataset of toy films")
    made.add_argument("out", type=Path, help="folder for models and the scorecard")
    made.add_argument("--seeds", default="1000000:1000100", help="seeds of the held-out stories")
    made.add_argument("--start", help="model folder that the arms continue from")
    made.add_argument("--steps", type=int, default=600, help="steps of each arm, with --start")
    made.add_argument(
        "--arms", default="full,without_augmentation,without_negatives",
        type=_arms, help="full first, then what it is compared with",
    )  # fmt: skip
    made.add_argument("--set", action="append", default=[], help="a.b=c, for every training")
    made.set_defaults(film=())
    return made.parse_args()


if __name__ == "__main__":
    main()
