"""The numbers of a curation: `summary.json`, and what the command prints.

Everything is counted from the finished tables, not while working, so the numbers are the tables'.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from fw_model.errors import DataError
from pipelines.curation.captioning.entity_consistency import Consistency
from pipelines.curation.ledger.tables import Part
from pipelines.storage.store import Store

SUMMARY = "summary.json"
CONSISTENCY = [field.name for field in fields(Consistency)]


@dataclass(frozen=True)
class CurationSummary:
    """Totals of the published tables, and what this run did for them."""

    videos_in: int
    videos_kept: int
    videos_quarantined: int
    shots: int
    scenes: int
    shots_kept: int = 0
    shots_dropped: int = 0
    scenes_captioned: int = 0
    scenes_rejected: int = 0
    video_reasons: dict[str, int] = field(default_factory=dict)
    shot_reasons: dict[str, int] = field(default_factory=dict)
    caption_reasons: dict[str, int] = field(default_factory=dict)
    clips: dict[str, int] = field(default_factory=dict)  # by mode
    hours_in: float = 0.0
    hours_kept: float = 0.0
    videos_analyzed_now: int = 0
    scenes_captioned_now: int = 0
    cost_usd: float = 0.0  # of all runs on this output, killed ones too
    caption_runs: list[dict[str, Any]] = field(default_factory=list)
    entity_consistency: dict[str, float | None] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    report: str = "report.html"

    def to_json(self) -> str:
        """Return the summary as JSON text."""
        return json.dumps(asdict(self), indent=2) + "\n"


def count_tables(store: Store, parts: Iterable[Part]) -> dict[str, Any]:
    """Count the rows of staged parts; keys are fields of CurationSummary."""
    rows: Counter[str] = Counter()
    reasons: dict[str, Counter[str]] = {t: Counter() for t in ("videos", "shots", "captions")}
    seconds = {"in": 0.0, "kept": 0.0}
    clips: Counter[str] = Counter()
    named: Counter[str] = Counter()
    for part in parts:
        rows[part.table] += part.num_rows
        if part.table == "videos":
            for row in store.read_table(part.key, ["reason", "duration_s"]).to_pylist():
                _count(reasons["videos"], row["reason"])
                seconds["in"] += row["duration_s"] or 0.0
        elif part.table == "shots":
            columns = ["drop_reason", "start_s", "end_s", "clip_mode"]
            for row in store.read_table(part.key, columns).to_pylist():
                _count(reasons["shots"], row["drop_reason"])
                _count(clips, row["clip_mode"])
                seconds["kept"] += row["end_s"] - row["start_s"] if not row["drop_reason"] else 0.0
        elif part.table == "captions":
            for row in store.read_table(part.key, ["reason", *CONSISTENCY]).to_pylist():
                _count(reasons["captions"], row["reason"])
                named.update({name: row[name] or 0 for name in CONSISTENCY})
    quarantined, dropped = reasons["videos"].total(), reasons["shots"].total()
    rejected = reasons["captions"].total()
    return {
        "videos_in": rows["videos"],
        "videos_kept": rows["videos"] - quarantined,
        "videos_quarantined": quarantined,
        "shots": rows["shots"],
        "scenes": rows["scenes"],
        "shots_kept": rows["shots"] - dropped,
        "shots_dropped": dropped,
        "scenes_captioned": rows["captions"] - rejected,
        "scenes_rejected": rejected,
        "video_reasons": dict(reasons["videos"].most_common()),
        "shot_reasons": dict(reasons["shots"].most_common()),
        "caption_reasons": dict(reasons["captions"].most_common()),
        "clips": dict(clips.most_common()),
        "hours_in": seconds["in"] / 3600,
        "hours_kept": seconds["kept"] / 3600,
        "entity_consistency": _consistency(named),
    }


def _consistency(named: Mapping[str, int]) -> dict[str, float | None]:
    """Return the counts of captioning/entity_consistency.py with their shares, None where there is
    nothing to count."""
    references, recurrences = named["references"], named["recurrences"]
    return {
        **{name: named[name] for name in CONSISTENCY},
        "resolved_share": named["references_resolved"] / references if references else None,
        "same_id_share": named["recurrences_same_id"] / recurrences if recurrences else None,
    }


def check_totals(summary: CurationSummary, num_sources: int) -> None:
    """Raise DataError unless every source is accounted for and every scene was captioned."""
    if summary.videos_in != num_sources:
        raise DataError(
            f"{num_sources} videos were listed but {summary.videos_in} rows came out; run the "
            f"same command again to finish the rest."
        )
    answered = summary.scenes_captioned + summary.scenes_rejected
    if answered != summary.scenes:
        raise DataError(
            f"{summary.scenes} scenes were found but {answered} have a caption or a reason; run "
            f"the same command again to finish the rest."
        )


def read_summary(output: str) -> Mapping[str, Any]:
    """Return the summary of a finished output folder."""
    summary: dict[str, Any] = json.loads(Store(output).read(SUMMARY))
    return summary


def _count(counter: Counter[str], reason: str | None) -> None:
    if reason is not None:
        counter[reason] += 1
