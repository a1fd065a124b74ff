"""Which videos the analyze phase still has to decode or to embed, by what the ledgers hold.

Knows nothing about how they are decoded; the graph is in `pipelines/curate.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from fw_model.schemas.curated import VideoReason
from fw_model.schemas.curated_rows import AnalyzedVideoRow
from pipelines.curation.analysis.operators import PENDING_VIDEO, PendingVideoRow
from pipelines.curation.analysis.video_commits import DECODED
from pipelines.curation.ledger.ledger import Entry, Ledger
from pipelines.curation.ledger.shards import Shard, shards_of
from pipelines.curation.sources import Source, sources_of
from pipelines.curation.spool import ShardSpool, SourceSpool
from pipelines.storage.parallel import REQUESTS_TOGETHER, in_parallel


@dataclass(frozen=True)
class PendingVideos:
    """What is left to do: rows of PENDING_VIDEO to decode, and receipts (DECODED, without their
    videos) of what is decoded but not embedded."""

    to_decode: ShardSpool = field(default_factory=ShardSpool)
    to_embed: ShardSpool = field(default_factory=ShardSpool)


def pending_videos(
    sources: SourceSpool,
    num_shards: int,
    decoded: Ledger[AnalyzedVideoRow],
    analyzed: Ledger[AnalyzedVideoRow],
    retry_quarantined: Sequence[VideoReason | str],
) -> PendingVideos:
    """Compare the listed videos with the ledgers, few shards at a time."""
    pending = PendingVideos()
    retry = set(retry_quarantined)

    def compare(shard: Shard) -> tuple[pa.Table, pa.Table]:
        return pending_of_shard(sources_of(sources.shard(shard)), shard, decoded, analyzed, retry)

    shards = shards_of(num_shards)
    for i in range(0, num_shards, REQUESTS_TOGETHER):
        few = shards[i : i + REQUESTS_TOGETHER]
        for shard, (to_decode, to_embed) in zip(few, in_parallel(compare, few), strict=True):
            pending.to_decode.put(shard, to_decode)
            pending.to_embed.put(shard, to_embed)
    return pending


def pending_of_shard(
    sources: Sequence[Source],
    shard: Shard,
    decoded: Ledger[AnalyzedVideoRow],
    analyzed: Ledger[AnalyzedVideoRow],
    retry: set[VideoReason | str],
) -> tuple[pa.Table, pa.Table]:
    """Return the two tables of `PendingVideos` for one shard."""
    by_id = {source.source_id: source for source in sources}
    decoded_entries = decoded.entries(["status", "reason"], shard, by_id) if by_id else {}
    analyzed_entries = analyzed.entries((), shard, by_id) if by_id else {}
    to_decode: list[PendingVideoRow] = []
    to_embed: list[dict[str, object]] = []
    for source_id in sorted(by_id):
        source, entry = by_id[source_id], decoded_entries.get(source_id)
        if entry is None or _is_tried_again(source, entry, retry):
            to_decode.append(
                {
                    "source_id": source_id,
                    "uri": source.uri,
                    "size_bytes": source.size_bytes,
                    "modified": source.modified,
                    "attempts": 1 + (entry.values["attempts"] if entry else 0),
                    "shard": shard.name,
                }
            )
            continue
        embedded = analyzed_entries.get(source_id)
        if embedded is None or embedded.values["attempts"] < entry.values["attempts"]:
            to_embed.append({"id": source_id, "status": entry.values["status"], "key": entry.key})
    return (
        pa.Table.from_pylist(to_decode, schema=PENDING_VIDEO),
        pa.Table.from_pylist(to_embed, schema=DECODED),
    )


def _is_tried_again(source: Source, entry: Entry, retry: set[VideoReason | str]) -> bool:
    reason = entry.values["reason"]
    return entry.values["status"] == "quarantined" and (
        not retry.isdisjoint({"all", reason}) or source.is_back(reason)
    )
