"""The demo's report: one HTML page that holds its pictures and its film, so it can be sent on.

Reads what the stages left (tables, metrics, timings); runs none of them.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.curation.ledger.tables import read_published
from pipelines.storage.store import Store

MAX_SHEETS = 12

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:2.5rem auto;max-width:74rem;padding:0 1.5rem;
  color:#202124;background:#faf8f4}
h1{font-size:1.9rem;margin:0} h2{margin:2.6rem 0 .8rem;font-size:1.25rem}
.note,figcaption,th{color:#76746e} .note{max-width:46rem}
table{border-collapse:collapse} td,th{padding:.3rem 1.2rem .3rem 0;text-align:left;
  border-bottom:1px solid #e2ded6;font-variant-numeric:tabular-nums;font-weight:400}
.number{text-align:right} img,video{max-width:100%;border-radius:8px}
video{width:26rem;image-rendering:auto;background:#000}
.bar{background:#5e81ac;height:.8rem;border-radius:3px;min-width:2px}
.dropped .bar{background:#cb703e}
.sheet{background:#fff;border:1px solid #e2ded6;border-radius:10px;padding:1rem;margin:0 0 1rem}
.strip{display:flex;flex-wrap:wrap;gap:.8rem} .strip figure{margin:0;width:11rem}
.strip img{width:11rem} figcaption{font-size:.82rem;line-height:1.35}
"""


def write_report(
    path: Path,
    *,
    title: str,
    film: Path,
    storyboard: Path,
    curated: Path,
    trained: Path,
    timings_s: Mapping[str, float],
    facts: Mapping[str, str],
) -> None:
    """Write the page at `path`.

    `timings_s`: seconds of each stage, in order. `facts`: words for the first table.
    """
    summary = json.loads((curated / "summary.json").read_text(encoding="utf-8"))
    records = read_metrics(trained / "metrics.jsonl")
    sections = [
        f"<h1>{html.escape(title)}</h1>",
        "<p class=note>Videos were curated on Ray Data, the cache-guided transformer was trained"
        " on them under Ray Train and DeepSpeed, and this film was asked for over HTTP from Ray"
        " Serve.</p>",
        _table(("", ""), facts.items()),
        "<h2>The film</h2>",
        f'<video controls loop muted autoplay src="{_data_uri(film, "video/mp4")}"></video>',
        "<h2>Storyboard</h2><p class=note>A row a prompt. On the right the keyframes of earlier"
        " shots (and injected references) that the shot cache retrieved for it.</p>",
        f'<img alt="storyboard" src="{_data_uri(storyboard, "image/png")}">',
        "<h2>Where the time went</h2>",
        _bars([(stage, seconds, f"{seconds:.1f} s") for stage, seconds in timings_s.items()]),
        "<h2>Curation</h2>",
        *_funnel(summary, read_published(Store(str(curated)), "shots", ["drop_reason"])),
        "<h2>Scenes and their captions</h2>",
        *_contact_sheets(curated),
        "<h2>Training</h2>",
        _loss_figure(records),
    ]
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style><body>"
        + "\n".join(sections)
        + "</body></html>"
    )
    part = path.with_name(path.name + ".part")
    part.write_text(page, encoding="utf-8")
    part.replace(path)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Records of a training's metrics.jsonl that hold a loss, in order of steps."""
    lines = path.read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines if line.strip()]
    return sorted((r for r in records if "loss" in r), key=lambda r: r["step"])


def _funnel(summary: Mapping[str, Any], shots: Sequence[Mapping[str, Any]]) -> list[str]:
    """Counts from videos to scenes, and what filters dropped."""
    dropped = Counter(row["drop_reason"] for row in shots if row["drop_reason"])
    kept = len(shots) - sum(dropped.values())
    counts = [
        ("videos in", summary["videos_in"]),
        ("videos kept", summary["videos_kept"]),
        ("videos quarantined", summary["videos_quarantined"]),
        ("shots found", len(shots)),
        ("shots kept", kept),
        ("scenes", summary["scenes"]),
    ]
    parts = [_bars([(name, float(count), f"{count}") for name, count in counts])]
    if dropped:
        rows = [(reason, float(count), f"{count}") for reason, count in dropped.most_common()]
        parts += ["<p class=note>Shots dropped, by reason:</p>", _bars(rows, kind="dropped")]
    return parts


def _contact_sheets(curated: Path) -> list[str]:
    """The first captioned scenes: a keyframe of each shot and its words."""
    store = Store(str(curated))
    shots = read_published(store, "shots", ["shot_id", "keyframes"])
    keyframes = {row["shot_id"]: row["keyframes"] for row in shots}
    scenes = [
        row
        for row in read_published(store, "captions", ["status", "shots", "entities"])
        if row["status"] == "captioned"
    ]
    sheets = []
    for scene in scenes[:MAX_SHEETS]:
        figures = "".join(
            _figure(curated, keyframes.get(shot["shot_id"]) or [], shot["text"])
            for shot in scene["shots"]
        )
        names = ", ".join(entity["name"] for entity in scene["entities"] or [])
        cast = f"<p class=note>{html.escape(names)}</p>" if names else ""
        sheets.append(f"<div class=sheet><div class=strip>{figures}</div>{cast}</div>")
    if len(scenes) > MAX_SHEETS:
        sheets.append(f"<p class=note>and {len(scenes) - MAX_SHEETS} more scenes.</p>")
    return sheets


def _figure(curated: Path, keyframes: Sequence[Mapping[str, Any]], text: str) -> str:
    middle = keyframes[len(keyframes) // 2] if keyframes else None
    picture = (
        f'<img alt="" src="{_data_uri(curated / middle["uri"], "image/jpeg")}">' if middle else ""
    )
    return f"<figure>{picture}<figcaption>{html.escape(text)}</figcaption></figure>"


def _loss_figure(records: Sequence[Mapping[str, Any]]) -> str:
    """Loss against steps, stage by stage, as an inline picture."""
    if not records:
        return "<p class=note>No losses were recorded.</p>"
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), dpi=110, facecolor="#faf8f4", layout="constrained")
    axes = figure.add_subplot(facecolor="#ffffff")
    stages = list(dict.fromkeys(str(record.get("stage", "loss")) for record in records))
    for stage in stages:
        points = [r for r in records if str(r.get("stage", "loss")) == stage]
        axes.plot([r["step"] for r in points], [r["loss"] for r in points], marker=".", label=stage)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    data = base64.b64encode(picture.getvalue()).decode("ascii")
    return f'<img alt="loss against step" src="data:image/png;base64,{data}">'


def _table(head: Sequence[str], rows: Any) -> str:
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    heads = "".join(f"<th>{html.escape(cell)}</th>" for cell in head) if any(head) else ""
    return f"<table>{heads}{body}</table>"


def _bars(rows: Sequence[tuple[str, float, str]], kind: str = "") -> str:
    """A table with a bar for each value."""
    most = max((value for _, value, _ in rows), default=0.0) or 1.0
    body = "".join(
        f"<tr><td>{html.escape(name)}</td><td class=number>{html.escape(shown)}</td>"
        f'<td style="width:30rem"><div class=bar style="width:{100 * value / most:.1f}%">'
        "</div></td></tr>"
        for name, value, shown in rows
    )
    return f"<table class='{kind}'>{body}</table>"


def _data_uri(path: Path, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
