"""The demo's report: one HTML page that contains its pictures and its film, so it can be sent on.

Reads what the stages wrote (tables, metrics, timings) and runs none of them.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from fw_model.files.atomic import write_atomic
from fw_model.pages.render import data_uri, render_page
from fw_model.schemas.curated_rows import CaptionRow, ShotRow
from pipelines.curation.ledger.tables import read_published
from pipelines.storage.store import Store

MAX_SCENES = 12
TEMPLATE = Path(__file__).with_name("report.html")

Bars = list[tuple[str, float, str]]
"""One bar per row: its name, its value, and the value in words."""
Losses = dict[str, list[tuple[int, float]]]
"""Stage -> (step, loss) in order of steps."""


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

    `timings_s`: seconds of each stage, in order. `facts`: the rows of the first table.
    """
    store = Store(str(curated))
    drops = [row["drop_reason"] for row in read_published(store, ShotRow, ["drop_reason"])]
    dropped = Counter(reason for reason in drops if reason)
    scenes = _scenes(store)
    page = render_page(
        TEMPLATE,
        title=title,
        facts=facts,
        film=data_uri(film, "video/mp4"),
        storyboard=data_uri(storyboard, "image/png"),
        timings=[(stage, seconds, f"{seconds:.1f} s") for stage, seconds in timings_s.items()],
        counts=_counts(curated, len(drops), dropped.total()),
        dropped=[(reason, count, str(count)) for reason, count in dropped.most_common()],
        scenes=scenes[:MAX_SCENES],
        num_more=max(0, len(scenes) - MAX_SCENES),
        loss=_loss_picture(read_losses(trained / "metrics.jsonl")),
    )
    write_atomic(path, page)


def read_losses(path: Path) -> Losses:
    """Return the losses that a training run logged in its metrics.jsonl, by stage."""
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    losses: Losses = {}
    for record in sorted((r for r in records if "loss" in r), key=lambda r: int(r["step"])):
        stage = str(record.get("stage", "loss"))
        losses.setdefault(stage, []).append((record["step"], record["loss"]))
    return losses


def _counts(curated: Path, num_shots: int, num_dropped: int) -> Bars:
    """Count from videos to scenes."""
    summary = json.loads((curated / "summary.json").read_text(encoding="utf-8"))
    counts = {
        "videos in": summary["videos_in"],
        "videos kept": summary["videos_kept"],
        "videos quarantined": summary["videos_quarantined"],
        "shots found": num_shots,
        "shots kept": num_shots - num_dropped,
        "scenes": summary["scenes"],
    }
    return [(name, count, str(count)) for name, count in counts.items()]


def _scenes(store: Store) -> list[dict[str, object]]:
    """Return the captioned scenes: the middle keyframe and the caption of each shot."""
    keyframes = {
        row["shot_id"]: row["keyframes"] or []
        for row in read_published(store, ShotRow, ["shot_id", "keyframes"])
    }

    def picture(shot_id: str) -> str:
        found = keyframes.get(shot_id, [])
        middle = found[len(found) // 2]["uri"] if found else None
        return data_uri(store.read(middle), "image/jpeg") if middle else ""

    return [
        {
            "shots": [
                {"picture": picture(shot["shot_id"]), "text": shot["text"]}
                for shot in scene["shots"]
            ],
            "cast": ", ".join(entity["name"] for entity in scene["entities"] or []),
        }
        for scene in read_published(store, CaptionRow, ["status", "shots", "entities"])
        if scene["status"] == "captioned"
    ]


def _loss_picture(losses: Losses) -> str:
    """Plot loss against step, one line per stage; return a data URI, "" without losses."""
    if not losses:
        return ""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for stage, points in losses.items():
        axes.plot(*zip(*points, strict=True), marker=".", label=stage)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return data_uri(picture.getvalue(), "image/png")
