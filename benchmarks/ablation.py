"""What do noise on the caches and strange keyframes bring? The paper's Table 2, trained anew.

    python benchmarks/ablation.py ENCODED OUT [--seeds 1000000:1000100] [--start MODEL --steps N]
                                            [--arms full,without_augmentation]
                                            [--set a.b=c]

ENCODED is what `filmweaver encode` made of toy films by the tiny-scratch profile. Trains a common
base on still pictures without caches, then three arms from it on one short schedule, alike but for
what each goes without, and films the same held-out stories with all of them. With --start the arms
go on from a trained model instead, N steps of all modes each. Every step is an ordinary
`filmweaver` command, printed before it runs; one that was stopped goes on where it was. The arms
are compared among themselves alone.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

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


def _arms(text: str) -> list[str]:
    arms = text.split(",")
    if arms[0] != "full" or not set(arms) <= set(ARMS):
        raise argparse.ArgumentTypeError(f"{text!r}: full first, then any of {', '.join(ARMS)}")
    return arms


def main() -> None:
    """Train the base and the arms, then film and score."""
    arguments = _arguments()
    out: Path = arguments.out
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
    checkpoints = [
        f"evaluation.checkpoints.{name}={out / name / 'model'}" for name in list(arms)[1:]
    ]
    variants = f"evaluation.variants=[{', '.join(arms)}]"
    model = f"model.checkpoint={out / 'full' / 'model'}"
    _run("evaluate", str(out / "score"), "--seeds", arguments.seeds,
         *_settings((model, variants, *checkpoints)))  # fmt: skip


def _train(encoded: Path, output: Path, settings: tuple[str, ...]) -> None:
    # A finished run has nothing left to do, and one of other settings is refused.
    _run("train", str(encoded), str(output), "--profile", "tiny-scratch", *_settings(settings))


def _settings(settings: tuple[str, ...]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def _run(*words: str) -> None:
    command = [str(Path(sys.executable).with_name("filmweaver")), *words]
    print("$ " + shlex.join(["filmweaver", *words]), flush=True)
    subprocess.run(command, check=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("encoded", type=Path, help="folder of `filmweaver encode`")
    parser.add_argument("out", type=Path, help="folder for models and the scorecard")
    parser.add_argument("--seeds", default="1000000:1000100", help="of the held-out stories")
    parser.add_argument("--start", type=Path, help="model folder that the arms go on from")
    parser.add_argument("--steps", type=int, default=600, help="of each arm, with --start")
    parser.add_argument(
        "--arms", default="full,without_augmentation,without_negatives",
        type=_arms, help="full first, then what is held against it",
    )  # fmt: skip
    parser.add_argument("--set", action="append", default=[], help="of every training: a.b=c")
    return parser.parse_args()


if __name__ == "__main__":
    main()
