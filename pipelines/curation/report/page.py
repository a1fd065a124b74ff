"""The curation report: one self-contained page made from the finished tables.

Shows where material was lost and why, what the scenes look like, and what the work cost.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from fw_model.errors import StorageError
from pipelines.curation.ledger.tables import published_files
from pipelines.curation.report.html import (
    bars,
    cards,
    columns,
    histogram,
    page,
    picture,
    section,
    table,
    text,
)
from pipelines.curation.report.summary import read_summary
from pipelines.storage.arrow_rows import iter_rows
from pipelines.storage.store import Store

REPORT = "report.html"
MAX_SCENES = 36
MAX_SHOTS_SHOWN = 10
MAX_ROWS = 20
MAX_HISTOGRAM_ROWS = 200_000
THUMBNAIL_PX = 176
COLUMNS = {
    "videos": ["uri", "status", "reason", "detail", "analyze_s", "num_frames", "decode_errors"],
    "shots": ["start_s", "end_s", "motion"],
    "scenes": [
        "scene_id", "uri", "shot_ids", "num_shots", "start_s", "end_s", "min_link_similarity",
        "mean_similarity",
    ],
    "captions": ["uri", "scene_id", "status", "reason", "detail", "attempts"],
}  # fmt: skip

Row = Mapping[str, Any]


def write_report(output: str) -> str:
    """Write `report.html` into a finished output folder and return its address."""
    store = Store(output)
    summary = read_summary(output)
    videos, scenes = _rows(store, "videos"), _rows(store, "scenes")
    parts = [
        f"<h1>Curation report</h1><p class='soft'>{text(store.address(''))}</p>",
        _headline(summary),
        section("Funnel", bars(_funnel(summary))),
        section("What was lost, and why", _losses(summary)),
        section("Quarantined videos", _quarantined(videos)),
        section("Rejected scenes", _rejected(_rows(store, "captions"))),
        section("Distributions", _distributions(_rows(store, "shots"), scenes)),
        section("Scenes", *_contact_sheets(store, scenes)),
        section("Slowest and most damaged sources", _troublesome(videos)),
        section("Time and cost", _costs(summary)),
    ]
    store.write(REPORT, page("Curation report", parts).encode())
    return store.address(REPORT)


def _rows(store: Store, name: str) -> list[Row]:
    """Return the rows of a table up to a bound, each no more than is shown of all of them."""
    rows: list[Row] = []
    for key in published_files(store, name):
        table = store.read_table(key, COLUMNS[name])
        rows += table.slice(0, MAX_HISTOGRAM_ROWS - len(rows)).to_pylist()
        if len(rows) == MAX_HISTOGRAM_ROWS:
            break
    return rows


def _whole(store: Store, name: str, id_column: str, ids: Sequence[str]) -> dict[str, Row]:
    """Return some rows of a table by id, whole."""
    wanted = pa.array(ids, pa.string())
    return {
        row[id_column]: row
        for key in published_files(store, name)
        for row in iter_rows(store.read_table(key, filters=pc.field(id_column).isin(wanted)))
    }


def _headline(summary: Row) -> str:
    kept = f"{summary['hours_kept']:.2f} h"
    consistency = summary["entity_consistency"]
    named = {
        "entity references resolved": consistency["resolved_share"],
        "recurring characters, same id": consistency["same_id_share"],
    }
    figures = {
        "videos in": f"{summary['videos_in']:,}",
        "videos kept": f"{summary['videos_kept']:,}",
        "shots kept": f"{summary['shots_kept']:,}",
        "scenes": f"{summary['scenes']:,}",
        "scenes captioned": f"{summary['scenes_captioned']:,}",
        f"kept of {summary['hours_in']:.2f} h": kept,
    }
    figures |= {name: f"{share:.1%}" for name, share in named.items() if share is not None}
    if summary["cost_usd"]:
        figures["captions have cost"] = f"{summary['cost_usd']:.2f} USD"
    return cards(figures)


def _funnel(summary: Row) -> dict[str, float]:
    names = (
        "videos_in", "videos_kept", "shots", "shots_kept", "scenes", "scenes_captioned"
    )  # fmt: skip
    return {name: summary[name] for name in names}


def _losses(summary: Row) -> str:
    named = {
        "Videos quarantined": summary["video_reasons"],
        "Shots dropped": summary["shot_reasons"],
        "Scenes rejected": summary["caption_reasons"],
    }
    parts = [
        f"<p class='soft'>{title}: {sum(reasons.values()):,}</p>{bars(reasons, bad=True)}"
        for title, reasons in named.items()
    ]
    return columns(*parts)


def _quarantined(videos: Sequence[Row]) -> str:
    lost = [v for v in videos if v["status"] == "quarantined"]
    rows = [[_name(v), v["reason"], v["detail"] or ""] for v in lost[:MAX_ROWS]]
    more = f"<p class='soft'>and {len(lost) - MAX_ROWS} more</p>" if len(lost) > MAX_ROWS else ""
    return table(["video", "reason", "detail"], rows) + more


def _rejected(captions: Iterable[Row]) -> str:
    """List rejected scenes; `detail` quotes the text that was refused."""
    lost = [row for row in captions if row["status"] == "rejected"]
    rows = [
        [_name(row), row["scene_id"][:12], row["reason"], row["detail"] or "", row["attempts"]]
        for row in lost[:MAX_ROWS]
    ]
    more = f"<p class='soft'>and {len(lost) - MAX_ROWS} more</p>" if len(lost) > MAX_ROWS else ""
    header = ["video", "scene", "reason", "what was wrong, and the words", "attempts"]
    return table(header, rows) + more


def _distributions(shots: Sequence[Row], scenes: Sequence[Row]) -> str:
    lengths = [s["end_s"] - s["start_s"] for s in shots]
    links = [s["min_link_similarity"] for s in scenes if s["num_shots"] > 1]
    return columns(
        histogram("Length of shots", lengths, unit="s"),
        histogram("Shots in a scene", [float(s["num_shots"]) for s in scenes]),
        histogram("Weakest similarity inside a scene of several shots", links),
        histogram("Motion of shots", [float(s["motion"]) for s in shots]),
    )


def _contact_sheets(store: Store, scenes: Sequence[Row]) -> list[str]:
    """Scenes of several shots first: they are what curation is for."""
    ordered = sorted(scenes, key=lambda scene: scene["num_shots"] < 2)[:MAX_SCENES]
    shot_ids = [i for scene in ordered for i in scene["shot_ids"][:MAX_SHOTS_SHOWN]]
    shots = _whole(store, "shots", "shot_id", shot_ids)
    captions = _whole(store, "captions", "scene_id", [scene["scene_id"] for scene in ordered])
    shown = [
        _contact_sheet(store, scene, shots, captions.get(scene["scene_id"], {}))
        for scene in ordered
    ]
    if len(scenes) > len(ordered):
        shown.append(f"<p class='soft'>{len(scenes) - len(ordered):,} more scenes not shown</p>")
    return shown


def _contact_sheet(store: Store, scene: Row, shots: Mapping[str, Row], caption: Row) -> str:
    said = {shot["shot_id"]: shot for shot in caption.get("shots") or []}
    entities = "".join(
        f"<span class='tag'><b>{text(e['id'])}</b> {text(e['name'])}"
        + (f", {text(e['attributes'])}" if e["attributes"] else "")
        + "</span>"
        for e in caption.get("entities") or []
    )
    rejected = caption.get("reason")
    why = f"rejected: {rejected}" + (f", {caption['detail']}" if caption.get("detail") else "")
    note = f"<p class='soft'>{text(why)}</p>" if rejected else ""
    ids = scene["shot_ids"][:MAX_SHOTS_SHOWN]
    cells = "".join(_shot_cell(store, shots[i], said.get(i, {})) for i in ids if i in shots)
    hidden = len(scene["shot_ids"]) - len(ids)
    more = f"<p class='soft'>and {hidden} more shots</p>" if hidden else ""
    return (
        f"<div class='scene'><b>{text(_name(scene))}</b> "
        f"<span class='soft'>{scene['start_s']:.1f} to {scene['end_s']:.1f} s, "
        f"{scene['num_shots']} {'shot' if scene['num_shots'] == 1 else 'shots'}, "
        f"similarity {scene['mean_similarity']:.2f}</span> {entities}{note}"
        f"<div class='shots'>{cells}</div>{more}</div>"
    )


def _shot_cell(store: Store, shot: Row, said: Row) -> str:
    frames = shot["keyframes"]
    middle = frames[len(frames) // 2 : len(frames) // 2 + 1]
    pictures = "".join(_thumbnail(store, frame["uri"]) for frame in middle)
    length_s = shot["end_s"] - shot["start_s"]
    words = text(said.get("text", ""))
    named = "".join(f"<span class='tag'>{text(i)}</span>" for i in said.get("entity_ids") or [])
    framing = f"{text(said['framing'])}, " if said.get("framing") else ""
    return (
        f"<div class='shot'><div class='strip'>{pictures}</div>"
        f"<p>{words} <span class='soft'>{framing}{length_s:.1f} s</span> {named}</p></div>"
    )


def _thumbnail(store: Store, uri: str) -> str:
    try:
        jpeg = store.read(uri)
    except StorageError:
        return f"<p class='soft'>{text(uri)} is missing</p>"
    image = Image.open(io.BytesIO(jpeg)).convert("RGB")
    image.thumbnail((2 * THUMBNAIL_PX, 2 * THUMBNAIL_PX))
    small = io.BytesIO()
    image.save(small, "JPEG", quality=72)
    return picture(small.getvalue(), "keyframe")


def _troublesome(videos: Sequence[Row]) -> str:
    slowest = sorted(videos, key=lambda v: -(v["analyze_s"] or 0))[:8]
    damaged = sorted(videos, key=lambda v: -(v["decode_errors"] or 0))
    damaged = [v for v in damaged if v["decode_errors"]][:8]
    return columns(
        table(
            ["slowest", "seconds", "frames"],
            [[_name(v), round(v["analyze_s"] or 0.0, 1), v["num_frames"] or 0] for v in slowest],
        ),
        table(
            ["most damaged", "faults", "frames"],
            [[_name(v), v["decode_errors"], v["num_frames"] or 0] for v in damaged],
        ),
    )


def _costs(summary: Row) -> str:
    rows = [[phase, seconds] for phase, seconds in summary["seconds"].items()]
    made = (
        f"<p>In this run {summary['videos_analyzed_now']:,} videos were decoded and "
        f"{summary['scenes_captioned_now']:,} scenes captioned; the rest was there already. "
        f"Captions have cost {summary['cost_usd']:.2f} USD so far.</p>"
    )
    return made + columns(table(["phase", "seconds"], rows)) + _caption_runs(summary)


def _caption_runs(summary: Row) -> str:
    """Show what was expected of each run that asked a model, and what came."""
    runs = summary["caption_runs"]
    rows = [
        [
            run["created_at"],
            run["num_scenes"],
            f"{e['requests_low']:,} to {e['requests_high']:,}",
            run["requests"],
            f"{e['input_tokens_low']:,} to {e['input_tokens_high']:,}",
            run["prompt_tokens"],
            f"{e['output_tokens_low']:,} to {e['output_tokens_high']:,}",
            run["output_tokens"],
            f"{e['usd_low']:.2f} to {e['usd_high']:.2f}",
            run["cost_usd"],
        ]
        for run, e in ((run, run["estimate"]) for run in runs)
    ]
    header = [
        "captions asked for", "scenes", "requests expected", "made", "input tokens expected",
        "counted", "output tokens expected", "counted", "USD expected", "spent",
    ]  # fmt: skip
    lost_usd = summary["cost_usd"] - sum(run["cost_usd"] for run in runs)
    killed = f"<p class='soft'>Runs that were killed: at most {lost_usd:.2f} USD.</p>"
    return table(header, rows) + (killed if runs and lost_usd > 0.005 else "")


def _name(row: Row) -> str:
    return PurePosixPath(row["uri"]).name
