"""The curation report: one self-contained page made from the finished tables.

Shows where material was lost and why, what the scenes look like, and what the work cost.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from fw_model.errors import StorageError
from fw_model.pages.render import render_page
from fw_model.schemas.curated_rows import CaptionRow, SceneRow, ShotRow, VideoRow
from pipelines.curation.ledger.tables import first_places, read_published
from pipelines.curation.report.summary import CurationSummary, read_summary
from pipelines.storage.parallel import in_parallel
from pipelines.storage.store import Store

TEMPLATE = Path(__file__).with_name("report.html")
MAX_SCENES = 36
MAX_SHOTS_SHOWN = 10
MAX_ROWS = 20
MAX_SOURCES = 8
MAX_ROWS_READ = 200_000
THUMBNAIL_PX = 400
MIN_SPREAD = 1e-4  # equal values differ by their rounding
NUM_BINS = 24

Bars = list[tuple[str, float, str]]
"""One bar per row: its name, its value, and the value in words."""


class Histogram(NamedTuple):
    """How many values fall in each of equally wide bins from `low` to `high`."""

    title: str
    unit: str
    low: float
    high: float
    counts: list[int]


def write_report(store: Store) -> None:
    """Write `report.html` into a finished output folder."""
    summary = read_summary(store)
    places = first_places(store, MAX_ROWS_READ)
    columns = ["uri", "status", "reason", "detail", "analyze_s", "num_frames", "decode_errors"]
    videos = read_published(store, VideoRow, columns, places=places)
    shots = read_published(store, ShotRow, ["start_s", "end_s", "motion"], places=places)
    columns = ["scene_id", "uri", "shot_ids", "num_shots", "start_s", "end_s"]
    columns += ["min_link_similarity", "mean_similarity"]
    scenes = read_published(store, SceneRow, columns, places=places)
    columns = ["uri", "scene_id", "status", "reason", "detail", "attempts"]
    captions = read_published(store, CaptionRow, columns, places=places)
    # Scenes of several shots first: they are what curation is for.
    shown = sorted(scenes, key=lambda scene: scene["num_shots"] < 2)[:MAX_SCENES]
    shown_shots = _shots_of(store, shown, places)
    page = render_page(
        TEMPLATE,
        address=store.address(""),
        summary=summary,
        figures=_figures(summary),
        funnel=_funnel(summary),
        losses={
            "Videos quarantined": _bars(summary.video_reasons),
            "Shots dropped": _bars(summary.shot_reasons),
            "Scenes rejected": _bars(summary.caption_reasons),
        },
        quarantined=[video for video in videos if video["status"] == "quarantined"],
        rejected=[caption for caption in captions if caption["status"] == "rejected"],
        max_rows=MAX_ROWS,
        histograms=_histograms(shots, scenes),
        scenes=shown,
        num_scenes=summary.scenes,
        max_shots=MAX_SHOTS_SHOWN,
        shots=shown_shots,
        captions=_captions_of(store, shown, places),
        pictures=_thumbnails(store, shown_shots),
        slowest=sorted(videos, key=lambda video: -(video["analyze_s"] or 0.0))[:MAX_SOURCES],
        damaged=sorted(
            (video for video in videos if video["decode_errors"]),
            key=lambda video: -(video["decode_errors"] or 0),
        )[:MAX_SOURCES],
        lost_usd=summary.cost_usd - sum(run.cost_usd for run in summary.caption_runs),
    )
    store.write(summary.report, page.encode())


def _figures(summary: CurationSummary) -> dict[str, str]:
    """Return the figures that matter most."""
    shares = {
        "entity references resolved": summary.entity_consistency["resolved_share"],
        "recurring characters, same id": summary.entity_consistency["same_id_share"],
    }
    figures = {
        "videos in": f"{summary.videos_in:,}",
        "videos kept": f"{summary.videos_kept:,}",
        "shots kept": f"{summary.shots_kept:,}",
        "scenes": f"{summary.scenes:,}",
        "scenes captioned": f"{summary.scenes_captioned:,}",
        f"kept of {summary.hours_in:.2f} h": f"{summary.hours_kept:.2f} h",
    }
    figures |= {name: f"{share:.1%}" for name, share in shares.items() if share is not None}
    if summary.cost_usd:
        figures["captions have cost"] = f"{summary.cost_usd:.2f} USD"
    return figures


def _funnel(summary: CurationSummary) -> Bars:
    names = ("videos_in", "videos_kept", "shots", "shots_kept", "scenes", "scenes_captioned")
    return _bars({name: getattr(summary, name) for name in names})


def _bars(counts: dict[str, int]) -> Bars:
    return [(name.replace("_", " "), count, f"{count:,}") for name, count in counts.items()]


def _histograms(shots: Sequence[ShotRow], scenes: Sequence[SceneRow]) -> list[Histogram]:
    """Return a histogram of each measure that is not the same for all rows."""
    links = [s["min_link_similarity"] or 0.0 for s in scenes if s["num_shots"] > 1]
    measured: list[tuple[str, str, Sequence[float]]] = [
        ("Length of shots", "s", [shot["end_s"] - shot["start_s"] for shot in shots]),
        ("Shots in a scene", "", [scene["num_shots"] for scene in scenes]),
        ("Weakest similarity inside a scene of several shots", "", links),
        ("Motion of shots", "", [shot["motion"] for shot in shots]),
    ]
    histograms = []
    for title, unit, values in measured:
        if np.ptp(values or [0.0]) > MIN_SPREAD:  # else there is nothing to see
            counts, edges = np.histogram(values, NUM_BINS)
            low, high = float(edges[0]), float(edges[-1])
            histograms.append(Histogram(title, unit, low, high, counts.tolist()))
    return histograms


def _shots_of(
    store: Store, scenes: Sequence[SceneRow], places: Sequence[int]
) -> dict[str, ShotRow]:
    """Return the first shots of each scene, by id."""
    ids = [i for scene in scenes for i in scene["shot_ids"][:MAX_SHOTS_SHOWN]]
    columns = ["shot_id", "start_s", "end_s", "keyframes"]
    shots = read_published(store, ShotRow, columns, ids=ids, places=places)
    return {shot["shot_id"]: shot for shot in shots}


def _captions_of(
    store: Store, scenes: Sequence[SceneRow], places: Sequence[int]
) -> dict[str, CaptionRow]:
    ids = [scene["scene_id"] for scene in scenes]
    columns = ["scene_id", "reason", "detail", "entities", "shots"]
    captions = read_published(store, CaptionRow, columns, ids=ids, places=places)
    return {caption["scene_id"]: caption for caption in captions}


def _thumbnails(store: Store, shots: Mapping[str, ShotRow]) -> dict[str, bytes | str | None]:
    """Return the middle keyframe of each shot as a small JPEG; its address if it is missing, None
    if the shot has none."""
    uris = {
        shot_id: shot["keyframes"][len(shot["keyframes"]) // 2]["uri"]
        for shot_id, shot in shots.items()
        if shot["keyframes"]
    }

    def thumbnail(uri: str) -> bytes | str:
        try:
            jpeg = store.read(uri)
        except StorageError:
            return uri
        image = Image.open(io.BytesIO(jpeg)).convert("RGB")
        image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
        small = io.BytesIO()
        image.save(small, "JPEG", quality=72)
        return small.getvalue()

    found = zip(uris, in_parallel(thumbnail, uris.values()), strict=True)
    return {**dict.fromkeys(shots), **dict(found)}
