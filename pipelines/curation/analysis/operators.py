"""The Ray operators of analysis: thin shells over the pure modules beside them.

Each processes rows, commits them to a ledger and returns receipts (an id and where its row is), so
that little travels between operators and every row that an operator sees is already safe. Tables
have explicit schemas. No operator raises because of bad data. Only the actors that need torch
import it, so a decoding actor stays small.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from fw_model.errors import StorageError
from fw_model.schemas.curated import VideoReason
from fw_model.schemas.curated_rows import AnalyzedVideoRow, DecodedVideoRow
from fw_model.similarity import unit_rows
from pipelines.curation.analysis.analyze import LONG, quarantined_row
from pipelines.curation.analysis.decode_process import DecodeSandbox
from pipelines.curation.analysis.parallel_decode import analyze_in_ranges
from pipelines.curation.analysis.shot_tracker import AnalyzeSettings
from pipelines.curation.ids import keyframe_uri
from pipelines.curation.ledger.ledger import Entry, Ledger
from pipelines.curation.ledger.receipts import RECEIPT, Provenance, commit
from pipelines.curation.perception.base import make_perception
from pipelines.curation.perception.keyframes import Seen, examine, record
from pipelines.storage.store import Store, fetched, file_info

if TYPE_CHECKING:
    from fw_model.loading.config import ModelConfig
    from pipelines.curation.config import PerceptionConfig

PENDING_VIDEO = pa.schema(
    [
        pa.field("source_id", pa.string()),
        pa.field("uri", pa.string()),
        pa.field("size_bytes", pa.int64()),
        pa.field("modified", pa.string()),
        pa.field("attempts", pa.int32()),
    ]
)
"""What is known of a video that waits to be analyzed."""


class PendingVideoRow(TypedDict):
    """A row of PENDING_VIDEO; `size_bytes` is -1 if the file was not found."""

    source_id: str
    uri: str
    size_bytes: int
    modified: str
    attempts: int


class AnalyzeVideos:
    """PENDING_VIDEO -> RECEIPT, 1:1; each video is committed by itself.

    Owns decoding children. With one child, a video that is too long for it is not committed: its
    receipt says LONG. With several, a video is analyzed in time ranges by all of them.
    """

    def __init__(
        self,
        settings: AnalyzeSettings,
        store: Store,
        ledger: Ledger[AnalyzedVideoRow],
        provenance: Provenance,
        *,
        num_children: int = 1,
    ) -> None:
        self._settings = settings
        self._store = store
        self._ledger = ledger
        self._provenance = provenance
        self._children = [DecodeSandbox(settings) for _ in range(num_children)]

    def __call__(self, pending: pa.Table) -> pa.Table:
        return pa.concat_tables([self._receipt(row) for row in pending.to_pylist()])

    def __del__(self) -> None:
        for child in getattr(self, "_children", []):
            child.close()

    def _receipt(self, pending: PendingVideoRow) -> pa.Table:
        # The whole block of a worker that died is sent again: committed videos are not redone.
        done = self._ledger.committed(pending["source_id"], pending["attempts"])
        if done is not None:
            receipt = {"id": pending["source_id"], "status": done.values["status"], "key": done.key}
            return pa.Table.from_pylist([receipt], schema=RECEIPT)
        row = self._analyze(pending)
        if row["status"] != LONG:
            return commit(self._ledger, [row])
        receipt = {"id": row["source_id"], "status": LONG, "key": None}
        return pa.Table.from_pylist([receipt], schema=RECEIPT)

    def _analyze(self, pending: PendingVideoRow) -> AnalyzedVideoRow:
        return {
            **self._decode(pending["uri"], was_found=pending["size_bytes"] >= 0),
            **self._provenance.stamp(),
            "source_id": pending["source_id"],
            "bytes": pending["size_bytes"],
            "modified": pending["modified"],
            "attempts": pending["attempts"],
            "detector": self._settings.detector.kind,
        }

    def _decode(self, uri: str, *, was_found: bool) -> DecodedVideoRow:
        with contextlib.ExitStack() as stack:
            try:
                # Listing may have failed where opening works.
                if not was_found and not file_info(uri).is_file:
                    raise FileNotFoundError(f"there is no file at {uri}")
                path = stack.enter_context(fetched(uri))
            except (OSError, StorageError) as error:
                return quarantined_row(uri, VideoReason.SOURCE_UNAVAILABLE, str(error))
            if len(self._children) > 1:
                return analyze_in_ranges(
                    path,
                    uri=uri,
                    children=self._children,
                    settings=self._settings,
                    on_keyframe=self._store_keyframe,
                )
            range_s = self._settings.decode.range_s
            return self._children[0].analyze(
                path,
                uri=uri,
                on_keyframe=self._store_keyframe,
                longest_s=2 * range_s if range_s is not None else None,
            )

    def _store_keyframe(self, sha256: str, jpeg: bytes) -> None:
        self._store.write_once(keyframe_uri(sha256), jpeg)


class EmbedShots:
    """RECEIPT of a decoded video -> RECEIPT of the video with embeddings, 1:1; a batch is committed
    together. A LONG receipt is passed on.

    Each keyframe is read once, for its embedding and for what `perception` looks for. A shot
    without keyframes gets no embedding.
    """

    BATCH = 64

    def __init__(
        self,
        model: ModelConfig,
        store: Store,
        decoded: Ledger[AnalyzedVideoRow],
        ledger: Ledger[AnalyzedVideoRow],
        provenance: Provenance,
        perception: PerceptionConfig,
    ) -> None:
        from fw_model.loading.load import load_embedder

        self._embedder = load_embedder(model)
        self._perception = make_perception(perception)
        self._store = store
        self._decoded = decoded
        self._ledger = ledger
        self._provenance = provenance

    def __call__(self, receipts: pa.Table) -> pa.Table:
        rows = receipts.to_pylist()
        entries = {row["id"]: Entry(row["key"], {}) for row in rows if row["status"] != LONG}
        decoded = self._decoded.read(entries)
        done = commit(self._ledger, [self._embed(row) for row in decoded])
        long = [row for row in rows if row["status"] == LONG]
        return pa.concat_tables([done, pa.Table.from_pylist(long, schema=RECEIPT)])

    def _embed(self, row: AnalyzedVideoRow) -> AnalyzedVideoRow:
        owners = [s for s, shot in enumerate(row["shots"]) for _ in shot["keyframes"]]
        uris = [k["uri"] for shot in row["shots"] for k in shot["keyframes"]]
        rows: list[NDArray[np.float32]] = []
        seen: list[Seen] = []
        for i in range(0, len(uris), self.BATCH):
            pictures = self._pictures(uris[i : i + self.BATCH])
            rows.append(self._embedder.embed_images(pictures).cpu().numpy().astype(np.float32))
            seen += [examine(picture, self._perception) for picture in pictures]
        record(row["shots"], seen)
        if rows:
            means = mean_by_owner(np.concatenate(rows), owners, len(row["shots"]))
            for shot, mean in zip(row["shots"], means, strict=True):
                shot["embedding"] = mean.tolist() if shot["keyframes"] else None
        return {**row, **self._provenance.stamp()}

    def _pictures(self, uris: Sequence[str]) -> list[NDArray[np.uint8]]:
        return [
            np.asarray(Image.open(io.BytesIO(self._store.read(uri))).convert("RGB")) for uri in uris
        ]


def mean_by_owner(
    rows: NDArray[np.float32], owners: Sequence[int], num_owners: int
) -> NDArray[np.float32]:
    """Return the unit mean [num_owners, E] of the rows [N, E] of each owner."""
    sums = np.zeros((num_owners, rows.shape[1]), np.float32)
    np.add.at(sums, np.asarray(owners), rows)
    return unit_rows(sums)
