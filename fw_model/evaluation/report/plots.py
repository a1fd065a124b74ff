"""Positions of bars and lines in a scorecard's plots, in SVG pixels. The template draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fw_model.evaluation.scoring.bootstrap import Interval
from fw_model.evaluation.scoring.scorecard import Scorecard
from fw_model.evaluation.variants import VARIANTS

_COLOURS = ("#4c8bd6", "#d9694f", "#5fa463", "#9b7fd1", "#c09a1c", "#4fa3b5", "#c46a8f")
_TRUTH_COLOUR = "#8a8a8a"
_BAR_LEFT_PX, _BAR_WIDTH_PX, _BAR_PITCH_PX = 150, 190, 20
_LINES_LEFT_PX, _LINES_WIDTH_PX, _LINES_HEIGHT_PX = 40, 700, 180
_LABEL_PITCH_PX = 16


@dataclass(frozen=True)
class Bar:
    """A variant's value from `left` to `right` and its interval from `low` to `high`."""

    name: str
    colour: str
    top: int
    left: float
    right: float
    low: float
    high: float
    value: float


@dataclass(frozen=True)
class BarPlot:
    """A metric of all variants; `truth` is the position of the true films."""

    bars: Sequence[Bar]
    height: int
    truth: float | None


@dataclass(frozen=True)
class Line:
    """A variant's values as SVG points, and the position of its name."""

    name: str
    colour: str
    points: str
    label_y: int


@dataclass(frozen=True)
class LinePlot:
    """Shares over chunks, one line per variant, and the heights of 0, 50 and 100 %."""

    lines: Sequence[Line]
    grid: Mapping[str, float]
    left: int = _LINES_LEFT_PX
    right: int = _LINES_LEFT_PX + _LINES_WIDTH_PX
    height: int = 0


def bar_plot(scorecard: Scorecard, metric: str) -> BarPlot | None:
    """Return a metric as bars with intervals; None if it was not measured for any variant."""
    measured: dict[str, Interval] = {
        name: interval
        for name, metrics in scorecard["variants"].items()
        if (interval := metrics[metric]) is not None
    }
    if not measured:
        return None
    truth = scorecard["truth"][metric]
    low = min([0.0, *(interval["low"] for interval in measured.values())])
    ends = [interval["high"] for interval in measured.values()] + ([truth["mean"]] if truth else [])
    high = max([*ends, low + 1e-6])

    def x(value: float) -> float:
        return round(_BAR_LEFT_PX + _BAR_WIDTH_PX * (value - low) / (high - low), 1)

    bars = []
    for row, (name, interval) in enumerate(measured.items()):
        left, right = sorted((x(0.0), x(interval["mean"])))
        ends_px = x(interval["low"]), x(interval["high"])
        top = 6 + _BAR_PITCH_PX * row
        bars.append(Bar(name, _colour(name), top, left, right, *ends_px, interval["mean"]))
    return BarPlot(bars, 6 + _BAR_PITCH_PX * len(bars), x(truth["mean"]) if truth else None)


def drift_plot(scorecard: Scorecard) -> LinePlot | None:
    """Return the accuracy chunk by chunk; None if no shot has two chunks."""
    by_chunk = {
        name: values
        for name, details in scorecard["details"].items()
        if len(values := details["accuracy_by_chunk"]) > 1
    }
    if not by_chunk:
        return None
    step = _LINES_WIDTH_PX / (max(map(len, by_chunk.values())) - 1)
    lines = [
        Line(
            name,
            _colour(name),
            " ".join(f"{_LINES_LEFT_PX + step * i:.1f},{_y(v):.1f}" for i, v in enumerate(values)),
            20 + _LABEL_PITCH_PX * row,
        )
        for row, (name, values) in enumerate(by_chunk.items())
    ]
    height = max(_LINES_HEIGHT_PX + 24, 20 + _LABEL_PITCH_PX * len(lines))
    return LinePlot(lines, {f"{v:.0%}": _y(v) for v in (0, 0.5, 1)}, height=height)


def _y(share: float) -> float:
    return 10 + _LINES_HEIGHT_PX * (1 - share)


def _colour(name: str) -> str:
    """Return the colour of a variant, the same in every plot."""
    names = list(VARIANTS)
    return _COLOURS[names.index(name) % len(_COLOURS)] if name in names else _TRUTH_COLOUR
