"""Pieces of an HTML page: tables, bars, histograms and pictures, as plain strings.

No script, no font, no file beside the page: it opens anywhere, for years.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence

STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #646b73; --line: #dfe3e8;
  --paper: #ffffff; --panel: #f6f7f9; --accent: #2f6fde; --bad: #c2483d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #9aa3ad; --line: #31363c;
  --paper: #15181b; --panel: #1d2125; --accent: #6ea0f5; --bad: #e0776c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 32px 24px 64px; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 40px 0 12px; }
p { margin: 4px 0 12px; } .soft { color: var(--soft); }
.cards { display: flex; flex-wrap: wrap; gap: 12px; margin: 20px 0; }
.card { background: var(--panel); border-radius: 8px; padding: 12px 18px; min-width: 128px; }
.card b { display: block; font-size: 24px; font-variant-numeric: tabular-nums; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(340px, 1fr)); gap: 32px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); }
th, td { padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; white-space: nowrap; }
td.wrap { word-break: break-word; }
.bar { display: grid; grid-template-columns: 150px 1fr 72px; gap: 12px; align-items: center;
  margin: 6px 0; }
.bar i { display: block; height: 18px; border-radius: 3px; background: var(--accent);
  min-width: 2px; }
.bar.bad i { background: var(--bad); } .bar span:last-child { text-align: right; }
.scene { border-top: 1px solid var(--line); padding: 16px 0; }
.shots { display: flex; flex-wrap: wrap; gap: 16px; margin-top: 8px; }
.shot { width: 200px; } .shot img { width: 100%; border-radius: 4px; display: block;
  background: var(--panel); }
.strip { display: grid; grid-auto-flow: column; gap: 2px; }
.shot p { margin: 6px 0 0; font-size: 13px; line-height: 1.4; }
.tag { display: inline-block; background: var(--panel); border-radius: 10px; padding: 1px 10px;
  margin: 0 6px 4px 0; font-size: 13px; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; } svg rect { fill: var(--accent); }
svg line { stroke: var(--line); }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """Return a whole page."""
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head>\n<body>{body}</body></html>\n"
    )


def text(value: object) -> str:
    """Return `value` as text that cannot be taken for markup."""
    return html.escape(str(value))


def cards(values: Mapping[str, str]) -> str:
    """Return the figures that matter most, large."""
    inner = "".join(
        f'<div class="card"><b>{text(value)}</b>{text(name)}</div>'
        for name, value in values.items()
    )
    return f'<div class="cards">{inner}</div>'


def section(title: str, *parts: str) -> str:
    """Return a titled section, "" if it would be empty."""
    inner = "".join(parts)
    return f"<section><h2>{text(title)}</h2>{inner}</section>" if inner else ""


def columns(*parts: str) -> str:
    """Return parts side by side where there is room."""
    shown = [f"<div>{part}</div>" for part in parts if part]
    return f'<div class="columns">{"".join(shown)}</div>' if shown else ""


def bars(values: Mapping[str, float], *, bad: bool = False) -> str:
    """Return a horizontal bar for each value, in the scale of the largest."""
    largest = max(values.values(), default=0.0)
    if largest <= 0:
        return ""
    kind = "bar bad" if bad else "bar"
    return "".join(
        f'<div class="{kind}"><span>{text(name.replace("_", " "))}</span>'
        f'<i style="width:{100 * value / largest:.1f}%"></i><span>{value:,g}</span></div>'
        for name, value in values.items()
    )


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table; numbers stand right. "" without rows."""
    if not rows:
        return ""
    numeric = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(header))]
    heads = "".join(
        f'<th class="number">{text(h)}</th>' if n else f"<th>{text(h)}</th>"
        for h, n in zip(header, numeric, strict=True)
    )
    lines = "".join(
        "<tr>" + "".join(_cell(c, n) for c, n in zip(row, numeric, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{heads}</tr>{lines}</table>"


def histogram(title: str, values: Sequence[float], *, bins: int = 24, unit: str = "") -> str:
    """Return an SVG histogram of values; "" for fewer than two different ones."""
    if not values or max(values) <= min(values):
        return ""
    low, high = min(values), max(values)
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - low) / (high - low) * bins))] += 1
    width, height, most = 460, 120, max(counts)
    step = width / bins
    drawn = "".join(
        f'<rect x="{i * step + 1:.1f}" y="{height - height * c / most:.1f}" '
        f'width="{step - 2:.1f}" height="{height * c / most:.1f}" rx="1"/>'
        for i, c in enumerate(counts)
    )
    return (
        f'<p class="soft">{text(title)}</p><svg viewBox="0 -14 {width} {height + 34}" width="100%">'
        f'<line x1="0" y1="{height}" x2="{width}" y2="{height}"/>{drawn}'
        f'<text x="0" y="{height + 15}">{low:.3g} {unit}</text>'
        f'<text x="{width}" y="{height + 15}" text-anchor="end">{high:.3g} {unit}</text>'
        f'<text x="0" y="-3">most in one bar: {most}</text></svg>'
    )


def picture(jpeg: bytes, description: str) -> str:
    """Return a JPEG as an image inside the page."""
    data = base64.b64encode(jpeg).decode("ascii")
    return f'<img alt="{text(description)}" src="data:image/jpeg;base64,{data}">'


def _cell(value: object, is_number: bool) -> str:
    if is_number:
        return f'<td class="number">{_number(value)}</td>'
    return f'<td class="wrap">{text(value)}</td>'


def _number(value: object) -> str:
    return f"{value:,d}" if isinstance(value, int) else f"{value:,.3g}"
