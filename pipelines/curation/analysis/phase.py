"""Which videos the analyze phase still has to decode or to embed, by what the ledgers hold.

Knows nothing about how they are decoded; the graph is in `pipelines/curate.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fw_model.schemas.curated import VideoReason
from fw_model.schemas.curated_rows import AnalyzedVideoRow
from pipelines.curation.analysis.operators import PendingVideoRow
from pipelines.curation.ledger.ledger import Entry, Ledger
from pipelines.curation.sources import Source


def pending_videos(
    sources: Iterable[Source],
    decoded: Ledger[AnalyzedVideoRow],
    analyzed: Ledger[AnalyzedVideoRow],
    retry_quarantined: Sequence[VideoReason | str],
) -> tuple[list[PendingVideoRow], dict[str, Entry]]:
    """Return rows of PENDING_VIDEO to decode, and entries that are decoded but not embedded."""
    decoded_entries = decoded.entries(["status", "reason"])
    analyzed_entries = analyzed.entries(())
    retry = set(retry_quarantined)
    pending: list[PendingVideoRow] = []
    not_embedded: dict[str, Entry] = {}
    for source in sources:
        entry = decoded_entries.get(source.source_id)
        if entry is None or _is_tried_again(source, entry, retry):
            pending.append(
                {
                    "source_id": source.source_id,
                    "uri": source.uri,
                    "size_bytes": source.size_bytes,
                    "modified": source.modified,
                    "attempts": 1 + (entry.values["attempts"] if entry else 0),
                }
            )
        elif (
            source.source_id not in analyzed_entries
            or analyzed_entries[source.source_id].values["attempts"] < entry.values["attempts"]
        ):
            not_embedded[source.source_id] = entry
    return pending, not_embedded


def _is_tried_again(source: Source, entry: Entry, retry: set[VideoReason | str]) -> bool:
    reason = entry.values["reason"]
    return entry.values["status"] == "quarantined" and (
        not retry.isdisjoint({"all", reason}) or source.is_back(reason)
    )
