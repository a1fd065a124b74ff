"""How does the loss of each mode fall while a model trains?

    python -m benchmarks.loss_curves RUN [RUN ...] [--picture loss.png] [--window 100] [--json FILE]

Reads metrics.jsonl of `filmweaver train` outputs, one run after the other, and averages over a
window of steps of one mode. Stages stay apart: the loss of still pictures is not that of video.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.report import Row, parser, report

Curve = tuple[list[int], list[float]]


def main() -> None:
    """Read, smooth, report and plot."""
    arguments = _arguments()
    curves = sorted(read_curves(arguments.runs).items())
    rows = []
    for name, (_, losses) in curves:
        window = min(arguments.window, len(losses))
        first, last = float(np.mean(losses[:window])), float(np.mean(losses[-window:]))
        note = f"first {window} of {len(losses)} steps: {first:.4f}"
        rows.append(Row(f"last loss, {name}", round(last, 4), note=note))
    report(arguments, "loss_curves", rows)
    if arguments.picture:
        plot(dict(curves), arguments.window, arguments.picture)


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


def plot(curves: dict[str, Curve], window: int, picture: Path) -> None:
    """Write the smoothed curves as one plot."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    for name, (steps, losses) in curves.items():
        width = min(window, len(losses))
        smooth = np.convolve(losses, np.full(width, 1 / width), mode="valid")
        axes.plot(steps[width - 1 :], smooth, label=name, linewidth=1.2)
    axes.set(xlabel="step", ylabel=f"loss, mean of {window} steps of a mode")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(picture, dpi=110)


def _arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("runs", type=Path, nargs="+", help="outputs of `filmweaver train`")
    made.add_argument("--picture", type=Path, help="plot to write (PNG)")
    made.add_argument("--window", type=int, default=100, help="steps of a mode in one mean")
    return made.parse_args()


if __name__ == "__main__":
    main()
