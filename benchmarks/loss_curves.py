"""How does the loss of each mode fall?

    python benchmarks/loss_curves.py RUN [RUN ...] --out loss.png [--window 100]

Draws metrics.jsonl of `filmweaver train` outputs, one run after the other, smoothed over so many
steps of a mode. Stages are told apart: a still picture's loss is no video's.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot

Curve = tuple[list[int], list[float]]


def main() -> None:
    """Read, smooth, draw."""
    arguments = _arguments()
    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    for name, (steps, losses) in sorted(read_curves(arguments.runs).items()):
        window = min(arguments.window, len(losses))
        smooth = np.convolve(losses, np.full(window, 1 / window), mode="valid")
        axes.plot(steps[window - 1 :], smooth, label=name, linewidth=1.2)
    axes.set(xlabel="step", ylabel=f"loss, mean of {arguments.window} steps of a mode")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(arguments.out, dpi=110)


def read_curves(runs: list[Path]) -> dict[str, Curve]:
    """Return steps and losses of every stage and mode; steps count on from run to run."""
    curves: dict[str, Curve] = defaultdict(lambda: ([], []))
    before = 0
    for run in runs:
        last = 0
        for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            last = row["step"] + 1
            for mode, loss in row["loss_by_mode"].items():
                steps, losses = curves[f"{row['stage']}: {mode}"]
                steps.append(before + row["step"])
                losses.append(loss)
        before += last
    return curves


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="outputs of `filmweaver train`")
    parser.add_argument("--out", type=Path, required=True, help="picture to write")
    parser.add_argument("--window", type=int, default=100, help="steps of a mode in a mean")
    return parser.parse_args()


if __name__ == "__main__":
    main()
