"""The scorecard as one HTML page: plots, table and film strips, nothing fetched from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from fw_model.evaluation.report.films import StoryFilms, story_html
from fw_model.evaluation.scoring.scorecard import table_rows
from fw_model.evaluation.scoring.story_score import METRICS

_BEST = {"hue_error_deg": "lower is better", "border_jump_ratio": "1 is best", "copy_paste": "0"}
_COLOURS = ("#2f6f9f", "#c8553d", "#588157", "#8a6bbe", "#b08900", "#5b8e9c", "#9b5d73", "#777777")

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>FilmWeaver scorecard</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; color: #202124; background: #faf8f4;
  max-width: 1200px; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }}
td, th {{ border-bottom: 1px solid #e2ded6; padding: .3rem .6rem; text-align: left; }}
.scroll {{ overflow-x: auto; }}
.plots {{ display: flex; flex-wrap: wrap; gap: 1rem; }}
figure {{ margin: 0; background: #fff; border: 1px solid #e2ded6; border-radius: 8px;
  padding: .6rem; }}
figcaption, .muted {{ color: #76746e; font-size: 13px; }}
.film {{ display: grid; grid-template-columns: 11rem 1fr; gap: .3rem .8rem; align-items: center; }}
.film img {{ width: 100%; image-rendering: pixelated; border-radius: 3px; }}
.return img {{ height: 96px; image-rendering: pixelated; }}
video {{ max-width: 100%; margin-top: .6rem; }}
ol {{ margin: .3rem 0 .8rem; padding-left: 1.4rem; font-size: 13px; }}
</style></head><body>
<h1>FilmWeaver scorecard</h1>
<p>{about}</p>
<h2>Measures</h2>
<p class="muted">Means over stories (inception: of all stories together) with 95 % intervals by
bootstrap over stories. The line marks what the true films score.</p>
<div class="plots">{plots}</div>
<div class="scroll">{table}</div>
<h2>The full method less each variant</h2>
<p class="muted">On the same stories, with 95 % intervals; bold where zero lies outside.</p>
<div class="scroll">{differences}</div>
<h2>Details</h2>
<div class="scroll">{details}</div>
{drift}
<h2>Films</h2>
{films}
</body></html>
"""


def render_report(scorecard: Mapping[str, Any], stories: Sequence[StoryFilms]) -> str:
    """Return the page."""
    header, *rows = table_rows(scorecard)
    return _PAGE.format(
        about=html.escape(_about(scorecard)),
        plots="".join(_plot(scorecard, metric) for metric in METRICS),
        differences=_differences(scorecard["full_minus"]),
        details=_details(scorecard["details"]),
        drift=_drift(scorecard),
        table=_table(header, rows),
        films="".join(story_html(story) for story in stories) or "<p>No films kept.</p>",
    )


def _about(scorecard: Mapping[str, Any]) -> str:
    settings = scorecard.get("settings", {})
    toy_judge = scorecard.get("toy_judge", {}).get("held_out", {})
    about = (
        f"Stories of seeds {settings.get('seeds')}, {settings.get('shots_per_story')} shots of "
        f"{settings.get('num_chunks')} chunks. Consistency and alignment are judged by "
        f"{scorecard.get('clip') or 'nobody: name a CLIP in evaluation.clip'}."
    )
    if toy_judge:
        words = ", ".join(f"{name} {value:.3g}" for name, value in toy_judge.items())
        about += f" The toy judge itself, on held-out truth: {words}."
    return about


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _differences(full_minus: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table of differences, a metric a row; only what was measured."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("metric", *full_minus))
    rows = ""
    for metric in METRICS:
        found = [differences[metric] for differences in full_minus.values()]
        if any(found):
            cells = "".join(f"<td>{_signed(difference)}</td>" for difference in found)
            rows += f"<tr><td>{metric}</td>{cells}</tr>"
    return f"<table><tr>{head}</tr>{rows}</table>" if rows else "<p>Nothing to compare.</p>"


def _signed(difference: Mapping[str, float] | None) -> str:
    if difference is None:
        return "not measured"
    low, high = difference["low"], difference["high"]
    cell = f"{difference['mean']:+.3g} [{low:.3g}, {high:.3g}]"
    return f"<b>{cell}</b>" if low > 0 or high < 0 else cell


def _details(details: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table of details, a variant a column, but for those chunk by chunk."""
    names = [
        name
        for name in next(iter(details.values()), {})
        if not any(isinstance(own[name], list) for own in details.values())
    ]
    rows = [[name, *(_detail(own[name]) for own in details.values())] for name in names]
    return _table(["", *details], rows)


def _detail(value: Any) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, Mapping):
        return f"{value['mean']:.3g} [{value['low']:.3g}, {value['high']:.3g}]"
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def _plot(scorecard: Mapping[str, Any], metric: str) -> str:
    """Draw a metric as bars with intervals; nothing where no variant was measured."""
    bars = {
        name: values[metric]
        for name, values in scorecard["variants"].items()
        if values[metric] is not None
    }
    if not bars:
        return ""
    truth = scorecard["truth"][metric]
    low = min([0.0, *(bar["low"] for bar in bars.values())])
    ends = [bar["high"] for bar in bars.values()] + ([truth["mean"]] if truth else [])
    high = max([*ends, low + 1e-6])

    def x(value: float) -> float:
        return 150.0 + 190.0 * float((value - low) / (high - low))

    lines = []
    for row, (name, bar) in enumerate(bars.items()):
        y, colour = 6 + 20 * row, _COLOURS[row % len(_COLOURS)]
        left, right = sorted((x(0.0), x(bar["mean"])))
        lines.append(
            f'<text x="144" y="{y + 11}" text-anchor="end">{html.escape(name)}</text>'
            f'<rect x="{left:.1f}" y="{y}" width="{right - left:.1f}" height="14" fill="{colour}" '
            f'opacity=".75"/>'
            f'<line x1="{x(bar["low"]):.1f}" x2="{x(bar["high"]):.1f}" y1="{y + 7}" '
            f'y2="{y + 7}" stroke="#202124"/>'
            f'<text x="350" y="{y + 11}">{bar["mean"]:.3g}</text>'
        )
    bottom = 6 + 20 * len(bars)
    if truth:
        at = x(truth["mean"])
        lines.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="2" y2="{bottom}" stroke="#c00"/>')
    note = f" ({_BEST[metric]})" if metric in _BEST else ""
    return (
        f'<figure><svg width="400" height="{bottom + 2}" font-size="11" '
        f'font-family="system-ui, sans-serif">{"".join(lines)}</svg>'
        f"<figcaption>{metric}{note}</figcaption></figure>"
    )


def _drift(scorecard: Mapping[str, Any]) -> str:
    """Draw what is right of figures, place and scale, chunk by chunk, a line a variant."""
    lines = {
        name: details["accuracy_by_chunk"]
        for name, details in scorecard["details"].items()
        if len(details["accuracy_by_chunk"]) > 1
    }
    if not lines:
        return ""
    width, height = 700, 180
    longest = max(map(len, lines.values()))
    drawn = []
    for number, (name, values) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join(
            f"{40 + width * i / (longest - 1):.1f},{10 + height * (1 - value):.1f}"
            for i, value in enumerate(values)
        )
        drawn.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<text x="{50 + width}" y="{20 + 16 * number}" fill="{colour}">'
            f"{html.escape(name)}</text>"
        )
    axis = "".join(
        f'<text x="34" y="{14 + height * (1 - share)}" text-anchor="end">{share:.0%}</text>'
        for share in (0, 0.5, 1)
    )
    return (
        "<h2>Over the length of a shot</h2>"
        f'<svg width="{width + 240}" height="{height + 24}" font-size="11" '
        f'font-family="system-ui, sans-serif">{axis}{"".join(drawn)}</svg>'
        '<p class="muted">Share of figures, place and scale that the toy judge finds right, '
        "by chunk.</p>"
    )
