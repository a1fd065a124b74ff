"""The finalize phase of curation: staged tables to published tables, counts and a report.

Each shard is finished by itself; the driver only adds up and publishes. Knows nothing about how
rows are made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fw_model.schemas.curated_rows import CaptionRow
from pipelines.curation.captioning.shared_budget import recorded_runs, spent_before
from pipelines.curation.ledger.ledger import Ledger
from pipelines.curation.ledger.shards import Shard
from pipelines.curation.ledger.tables import Part, by_shard, check_unique, publish, write_part
from pipelines.curation.report.page import write_report
from pipelines.curation.report.summary import (
    SUMMARY,
    CurationSummary,
    TableCounts,
    check_totals,
    count_tables,
)
from pipelines.curation.shard_tasks import ShardTasks
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
    tasks: ShardTasks,
) -> CurationSummary:
    """Check the tables, publish them, count them and write the report; `about` describes the run in
    the manifest."""
    work = (
        (store, shard, few, captioned, this_run.run_id) for shard, few in by_shard(parts).items()
    )
    staged: list[Part] = []
    counts = TableCounts()
    for result in tasks.each(finish_shard, work):
        few, counted = tasks.get(result)
        staged += few
        counts.add(counted)
    summary = replace(
        counts.summary(),
        cost_usd=spent_before(store),
        caption_runs=recorded_runs(store),
        videos_analyzed_now=this_run.num_analyzed,
        scenes_captioned_now=this_run.num_captioned,
        seconds=this_run.seconds,
    )
    check_totals(summary, this_run.num_sources)
    publish(store, staged, this_run.run_id, about)
    store.write(SUMMARY, summary.to_json().encode())
    write_report(store)
    return summary


def finish_shard(
    store: Store, shard: Shard, parts: Sequence[Part], captioned: Ledger[CaptionRow], run_id: str
) -> tuple[list[Part], TableCounts]:
    """Stage the captions of a shard's scenes, check its tables and count their rows."""
    scenes = [part for part in parts if part.table == "scenes"]
    ids = [store.read_table(part.key, ["scene_id"])["scene_id"].to_pylist() for part in scenes]
    wanted = {scene_id for some in ids for scene_id in some}
    entries = captioned.entries((), shard, wanted) if wanted else {}
    captions = []
    for part, some in zip(scenes, ids, strict=True):
        rows = captioned.read({i: entries[i] for i in some if i in entries})
        captions.append(write_part(store, "captions", part.place, rows, run_id, shard))
    staged = [*parts, *captions]
    check_unique(store, staged)
    return staged, count_tables(store, staged)
