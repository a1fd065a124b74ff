"""The scorecard as one HTML page: plots, table and film strips, nothing fetched from elsewhere."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fw_model.evaluation.scorecard import table_rows
from fw_model.evaluation.story_score import METRICS
from fw_model.evaluation.truth import Pixels
from fw_model.media.keyframes import encode_jpeg, select_keyframe_indices

_TILES = 3
_GAP_PX = 4
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
ol {{ margin: .3rem 0 .8rem; padding-left: 1.4rem; font-size: 13px; }}
</style></head><body>
<h1>FilmWeaver scorecard</h1>
<p>{about}</p>
<h2>Measures</h2>
<p class="muted">Means over stories with 95 % intervals by bootstrap over stories. The line marks
what the true films score.</p>
<div class="plots">{plots}</div>
<div class="scroll">{table}</div>
<h2>Films</h2>
{films}
</body></html>
"""


@dataclass(frozen=True)
class StoryStrips:
    """A story's films side by side: prompts, and a JPEG strip for each variant."""

    title: str
    prompts: Sequence[str]
    strips: Mapping[str, bytes]


def film_strip(shots: Sequence[Pixels]) -> bytes:
    """Return a JPEG with a few frames of each shot [F, H, W, 3], shots apart by a gap."""
    height = shots[0].shape[1]
    gap = np.full((height, _GAP_PX, 3), 250, np.uint8)
    parts: list[Pixels] = []
    for frames in shots:
        parts += [frames[i] for i in select_keyframe_indices(len(frames), _TILES)]
        parts.append(gap)
    return encode_jpeg(np.concatenate(parts[:-1], axis=1), quality=88)


def render_report(scorecard: Mapping[str, Any], stories: Sequence[StoryStrips]) -> str:
    """Return the page."""
    header, *rows = table_rows(scorecard)
    return _PAGE.format(
        about=html.escape(_about(scorecard)),
        plots="".join(_plot(scorecard, metric) for metric in METRICS),
        table=_table(header, rows),
        films="".join(_story(story) for story in stories) or "<p>No films kept.</p>",
    )


def _about(scorecard: Mapping[str, Any]) -> str:
    settings = scorecard.get("settings", {})
    oracle = scorecard.get("oracle", {}).get("held_out", {})
    words = ", ".join(f"{name} {value:.3g}" for name, value in oracle.items())
    return (
        f"Stories of seeds {settings.get('seeds')}, {settings.get('shots_per_story')} shots of "
        f"{settings.get('num_chunks')} chunks. The oracle itself, on held-out truth: {words}."
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


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


def _story(story: StoryStrips) -> str:
    prompts = "".join(f"<li>{html.escape(prompt)}</li>" for prompt in story.prompts)
    rows = "".join(
        f"<div>{html.escape(name)}</div>"
        f'<img alt="{html.escape(name)}" src="data:image/jpeg;base64,'
        f'{base64.b64encode(strip).decode()}">'
        for name, strip in story.strips.items()
    )
    return f'<h3>{html.escape(story.title)}</h3><ol>{prompts}</ol><div class="film">{rows}</div>'
