"""The scorecard as one HTML page: plots, tables and films, nothing fetched from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from fw_model.evaluation.report.films import StoryFilms
from fw_model.evaluation.report.plots import bar_plot, drift_plot
from fw_model.evaluation.report.table import NOT_MEASURED, interval_text, table_rows
from fw_model.evaluation.scoring.bootstrap import Interval
from fw_model.evaluation.scoring.scorecard import MetricIntervals, Scorecard, VariantDetails
from fw_model.evaluation.scoring.story_score import METRICS
from fw_model.pages.render import render_page

_TEMPLATE = Path(__file__).parent / "scorecard.html"
_BEST = {
    "hue_error_deg": "lower is better",
    "border_jump_ratio": "1 is best",
    "copy_paste": "0 is best",
}


def render_report(scorecard: Scorecard, stories: Sequence[StoryFilms]) -> str:
    """Return the page."""
    plots = {metric: bar_plot(scorecard, metric) for metric in METRICS}
    return render_page(
        _TEMPLATE,
        settings=scorecard.get("settings", {}),
        clip=scorecard.get("clip"),
        toy_judge=scorecard.get("toy_judge", {}).get("held_out", {}),
        plots={metric: plot for metric, plot in plots.items() if plot is not None},
        best=_BEST,
        metrics=table_rows(scorecard),
        differences=_difference_rows(scorecard["full_minus"]),
        details=_detail_rows(scorecard["details"]),
        drift=drift_plot(scorecard),
        stories=stories,
    )


def _difference_rows(full_minus: Mapping[str, MetricIntervals]) -> list[list[str]]:
    """Return a header, then one row per metric that was measured for any variant."""
    rows = [
        [metric, *(_difference(differences[metric]) for differences in full_minus.values())]
        for metric in METRICS
        if any(differences[metric] for differences in full_minus.values())
    ]
    return [["metric", *full_minus], *rows] if rows else []


def _difference(interval: Interval | None) -> str:
    """Return a difference as text, bold where its interval excludes zero."""
    text = interval_text(interval, sign="+")
    is_clear = interval is not None and not interval["low"] <= 0 <= interval["high"]
    return Markup("<b>%s</b>") % text if is_clear else text


def _detail_rows(details: Mapping[str, VariantDetails]) -> list[list[str]]:
    """Return a header, then one row per detail, without the lists of values by chunk."""
    columns = [
        {name: _detail(value) for name, value in own.items() if not isinstance(value, list)}
        for own in details.values()
    ]
    names = columns[0] if columns else {}
    return [["", *details], *([name, *(column[name] for column in columns)] for name in names)]


def _detail(value: object) -> str:
    match value:
        case None:
            return NOT_MEASURED
        case {"mean": float(mean), "low": float(low), "high": float(high)}:
            return interval_text({"mean": mean, "low": low, "high": high})
        case float():
            return f"{value:.4g}"
    return str(value)
