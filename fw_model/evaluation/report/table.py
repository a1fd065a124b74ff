"""The scorecard as a table of text cells."""

from __future__ import annotations

from fw_model.evaluation.scoring.bootstrap import Interval
from fw_model.evaluation.scoring.scorecard import Scorecard
from fw_model.evaluation.scoring.story_score import METRICS

NOT_MEASURED = "not measured"


def table_rows(scorecard: Scorecard) -> list[list[str]]:
    """Return a header, then one row per metric, with one column per measured variant.

    Cells read "mean [low, high]", or "not measured".
    """
    columns = {
        name: intervals
        for name, intervals in {**scorecard["variants"], "truth": scorecard["truth"]}.items()
        if any(interval is not None for interval in intervals.values())
    }
    header = ["metric", *columns]
    return [header, *([m, *(interval_text(c[m]) for c in columns.values())] for m in METRICS)]


def table_text(scorecard: Scorecard) -> str:
    """Return the table in aligned columns, for a console."""
    rows = table_rows(scorecard)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def interval_text(interval: Interval | None, sign: str = "") -> str:
    """Return an interval as text; `sign` "+" marks differences."""
    if interval is None:
        return NOT_MEASURED
    low, high = interval["low"], interval["high"]
    return f"{interval['mean']:{sign}.3g} [{low:.3g}, {high:.3g}]"
