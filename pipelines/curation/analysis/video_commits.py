"""Decoded videos that wait to be committed together, with their keyframes.

Few large objects cost far fewer requests than many small ones. The keyframes are written first, in
one pack, then the rows in one file, so whatever a committed row refers to is there. Knows nothing
about decoding or Ray.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import pyarrow as pa

from fw_model.schemas.curated import ANALYZED_VIDEOS
from fw_model.schemas.curated_rows import AnalyzedVideoRow, KeyframeRow
from pipelines.curation.ledger.ledger import Ledger
from pipelines.curation.ledger.packs import PackWriter
from pipelines.curation.ledger.receipts import RECEIPT
from pipelines.curation.ledger.shards import Shard

MAX_PASSED_BYTES = 8 * 1024 * 1024
"""Keyframes of a video that take more are not passed on in memory."""

DECODED = pa.schema(
    [
        *RECEIPT,
        pa.field("video", pa.struct(list(ANALYZED_VIDEOS))),
        pa.field("jpegs", pa.list_(pa.large_binary())),
    ]
)
"""A receipt with the committed row and its keyframes in order, so that the next operator need not
read them; null where they were not at hand."""


class VideoCommit:
    """Videos of one shard that are committed together: few at a time, or those of some seconds."""

    def __init__(
        self, ledger: Ledger[AnalyzedVideoRow], shard: Shard, *, max_videos: int, max_s: float
    ) -> None:
        self._ledger = ledger
        self._shard = shard
        self._max_videos = max_videos
        self._max_s = max_s
        self._pack = PackWriter(ledger.store)
        self._rows: list[AnalyzedVideoRow] = []
        self._started = time.monotonic()

    def add_keyframe(self, sha256: str, jpeg: bytes) -> None:
        """Keep a keyframe of a video that is being decoded."""
        self._pack.add(sha256, jpeg)

    def add(self, row: AnalyzedVideoRow) -> None:
        """Add a video whose keyframes were added."""
        self._rows.append(row)

    @property
    def is_due(self) -> bool:
        """Whether the videos should be committed now."""
        is_late = time.monotonic() - self._started >= self._max_s
        return len(self._rows) >= self._max_videos or (is_late and bool(self._rows))

    def write(self) -> pa.Table:
        """Commit the videos, if there are any, and return a table of DECODED."""
        rows, self._rows = self._rows, []
        jpegs = [self._jpegs(row) for row in rows]
        keys = self._pack.close(list(dict.fromkeys(k["sha256"] for k in _keyframes(rows))))
        self._started = time.monotonic()
        if not rows:
            return DECODED.empty_table()
        for keyframe in _keyframes(rows):
            keyframe["uri"] = keys[keyframe["sha256"]]
        key = self._ledger.commit(rows, self._shard, named_after=0)
        found = [
            {
                "id": row["source_id"],
                "status": row["status"],
                "key": key,
                "video": row,
                "jpegs": few,
            }
            for row, few in zip(rows, jpegs, strict=True)
        ]
        return pa.Table.from_pylist(found, schema=DECODED)

    def _jpegs(self, row: AnalyzedVideoRow) -> list[bytes] | None:
        """Return the keyframes of a video, None if they are many or partly written already."""
        found = [self._pack.waiting(keyframe["sha256"]) for keyframe in _keyframes([row])]
        whole = [jpeg for jpeg in found if jpeg is not None]
        is_small = sum(map(len, whole)) <= MAX_PASSED_BYTES
        return whole if is_small and len(whole) == len(found) else None


def _keyframes(rows: Sequence[AnalyzedVideoRow]) -> Iterator[KeyframeRow]:
    for row in rows:
        for shot in row["shots"]:
            yield from shot["keyframes"]
