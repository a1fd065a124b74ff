"""What an encoding run reports: counts by status and table, and the first failures."""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from fw_model.errors import DataError
from pipelines.encoding.dataset_store import EncodedStore

logger = logging.getLogger(__name__)

FAILURES_SHOWN = 5


@dataclass(frozen=True)
class EncodeSummary:
    """The counts of a published dataset. videos = encoded + empty + failed."""

    videos: int
    tried_now: int
    encoded: int
    failed: int
    empty: int
    shots: int
    keyframes: int
    texts: int
    failures: tuple[str, ...]
    """Address and reason of the first few that failed."""


def summarize(store: EncodedStore, counts: dict[str, int], tried_now: int) -> EncodeSummary:
    """Count the videos by status; `counts` are the rows of each table."""
    rows = store.sources()
    statuses = Counter(row["status"] for row in rows)
    failures = sorted(f"{row['uri']}: {row['detail']}" for row in rows if row["status"] == "failed")
    return EncodeSummary(
        videos=len(rows),
        tried_now=tried_now,
        encoded=statuses["encoded"],
        failed=statuses["failed"],
        empty=statuses["empty"],
        shots=counts["shots"],
        keyframes=counts["keyframes"],
        texts=counts["texts"],
        failures=tuple(failures[:FAILURES_SHOWN]),
    )


def report(store: EncodedStore, summary: EncodeSummary, curated: str | Path) -> None:
    """Write summary.json and log the first failures; DataError if there is no shot at all."""
    store.store.write("summary.json", json.dumps(asdict(summary), indent=1).encode() + b"\n")
    store.store.delete_folder(".unpacked")  # what training unpacked from the earlier tables
    for failure in summary.failures:
        logger.warning("encode: failed: %s", failure)
    if summary.failed > len(summary.failures):
        logger.warning("encode: %d more failed", summary.failed - len(summary.failures))
    if summary.shots == 0:
        first = f" (first: {summary.failures[0]})" if summary.failures else ""
        raise DataError(
            f"None of the {summary.videos} videos of {curated} gave a shot: {summary.empty} are "
            f"empty, {summary.failed} failed{first}; all reasons are in the detail column of "
            f"{store.store.address('sources')}. The same command tries them again."
        )
