"""The numbers of a curation: `summary.json`, and what the command prints.

They are counted in the finished tables, not while working, so they agree with the tables.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields

import pyarrow.compute as pc
from pydantic import TypeAdapter

from fw_model.errors import DataError
from pipelines.curation.captioning.entity_consistency import Consistency
from pipelines.curation.captioning.shared_budget import RunRecord
from pipelines.curation.ledger.tables import Part
from pipelines.storage.store import Store

SUMMARY = "summary.json"
CONSISTENCY = [field.name for field in fields(Consistency)]
COUNTED = {
    "videos": ["reason", "duration_s"],
    "shots": ["drop_reason", "start_s", "end_s", "clip_mode"],
    "captions": ["reason", *CONSISTENCY],
}


@dataclass(frozen=True)
class CurationSummary:
    """Totals of the published tables, and what this run contributed to them."""

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
    cost_usd: float = 0.0  # of all runs on this output, including killed ones
    caption_runs: list[RunRecord] = field(default_factory=list)
    entity_consistency: dict[str, int | float | None] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    report: str = "report.html"

    def to_json(self) -> str:
        """Return the summary as JSON text."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_summary(store: Store) -> CurationSummary:
    """Return the summary of a finished output folder; unknown fields of an old one are ignored."""
    return TypeAdapter(CurationSummary).validate_json(store.read(SUMMARY))


@dataclass
class TableCounts:
    """What is counted in the rows of some parts of the tables."""

    rows: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, Counter[str]] = field(
        default_factory=lambda: {table: Counter() for table in COUNTED}
    )
    clips: Counter[str] = field(default_factory=Counter)
    named: Counter[str] = field(default_factory=Counter)
    in_s: float = 0.0
    kept_s: float = 0.0

    def add(self, other: TableCounts) -> None:
        """Add the counts of other parts."""
        self.rows.update(other.rows)
        for table, counter in self.reasons.items():
            counter.update(other.reasons[table])
        self.clips.update(other.clips)
        self.named.update(other.named)
        self.in_s += other.in_s
        self.kept_s += other.kept_s

    def count(self, store: Store, part: Part) -> None:
        """Add the rows of a staged part."""
        self.rows[part.table] += part.num_rows
        if part.table not in COUNTED:
            return
        table = store.read_table(part.key, COUNTED[part.table])
        self.reasons[part.table].update(filter(None, table[COUNTED[part.table][0]].to_pylist()))
        if part.table == "videos":
            self.in_s += pc.sum(table["duration_s"]).as_py() or 0.0
        elif part.table == "shots":
            self.clips.update(filter(None, table["clip_mode"].to_pylist()))
            kept = table.filter(pc.is_null(table["drop_reason"]))
            self.kept_s += pc.sum(pc.subtract(kept["end_s"], kept["start_s"])).as_py() or 0.0
        else:
            self.named.update({name: pc.sum(table[name]).as_py() or 0 for name in CONSISTENCY})

    def summary(self) -> CurationSummary:
        """Return the totals."""
        rows, reasons = self.rows, self.reasons
        lost = {table: counter.total() for table, counter in reasons.items()}
        return CurationSummary(
            videos_in=rows["videos"],
            videos_kept=rows["videos"] - lost["videos"],
            videos_quarantined=lost["videos"],
            shots=rows["shots"],
            scenes=rows["scenes"],
            shots_kept=rows["shots"] - lost["shots"],
            shots_dropped=lost["shots"],
            scenes_captioned=rows["captions"] - lost["captions"],
            scenes_rejected=lost["captions"],
            video_reasons=dict(reasons["videos"].most_common()),
            shot_reasons=dict(reasons["shots"].most_common()),
            caption_reasons=dict(reasons["captions"].most_common()),
            clips=dict(self.clips.most_common()),
            hours_in=self.in_s / 3600,
            hours_kept=self.kept_s / 3600,
            entity_consistency=_consistency(self.named),
        )


def count_tables(store: Store, parts: Iterable[Part]) -> TableCounts:
    """Count the rows of staged parts."""
    counts = TableCounts()
    for part in parts:
        counts.count(store, part)
    return counts


def _consistency(named: Mapping[str, int]) -> dict[str, int | float | None]:
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
