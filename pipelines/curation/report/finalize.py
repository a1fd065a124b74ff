"""The finalize phase of curation: staged tables to published tables, counts and a report.

Runs in the driver. Knows nothing about how rows are made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fw_model.schemas.curated_rows import CaptionRow
from pipelines.curation.captioning.shared_budget import recorded_runs, spent_before
from pipelines.curation.ledger.ledger import Ledger
from pipelines.curation.ledger.tables import Part, check_unique, publish, write_part
from pipelines.curation.report.page import write_report
from pipelines.curation.report.summary import SUMMARY, CurationSummary, check_totals, count_tables
from pipelines.storage.store import Store


@dataclass(frozen=True)
class ThisRun:
    """What the summary says about this run alone."""

    run_id: str
    num_sources: int
    num_analyzed: int
    num_captioned: int
    seconds: dict[str, float]


def finalize(
    store: Store,
    parts: Sequence[Part],
    captioned: Ledger[CaptionRow],
    about: Mapping[str, object],
    this_run: ThisRun,
) -> CurationSummary:
    """Check the tables, publish them, count them and write the report; `about` describes the run in
    the manifest."""
    entries = captioned.entries(())
    for place, part in enumerate([p for p in parts if p.table == "scenes"]):
        ids = store.read_table(part.key, ["scene_id"])["scene_id"].to_pylist()
        rows = captioned.read({i: entries[i] for i in ids if i in entries})
        parts = [*parts, write_part(store, "captions", place, rows, this_run.run_id)]
    check_unique(store, parts)
    summary = replace(
        count_tables(store, parts),
        cost_usd=spent_before(store),
        caption_runs=recorded_runs(store),
        videos_analyzed_now=this_run.num_analyzed,
        scenes_captioned_now=this_run.num_captioned,
        seconds=this_run.seconds,
    )
    check_totals(summary, this_run.num_sources)
    publish(store, parts, this_run.run_id, about)
    store.write(SUMMARY, summary.to_json().encode())
    write_report(store)
    return summary
