"""Ray-facing callables of curation: thin shells over the pure modules beside them.

Each does its rows, commits them to a ledger and hands on receipts (an id and where its row stands),
so what travels between operators is small whatever the rows hold, and a row that an operator sees
is already safe. Tables have explicit schemas: no type is guessed. None raises for a fault of the
data. torch is imported by the actors that need it only: a decoding actor stays small.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from fw_model.errors import StorageError
from fw_model.schemas.curated import VideoReason
from fw_model.similarity import unit_rows
from pipelines.curation.analysis.analyze import LONG
from pipelines.curation.analysis.decode_process import DecodeSandbox
from pipelines.curation.analysis.parallel_decode import analyze_in_ranges
from pipelines.curation.analysis.shot_tracker import AnalyzeSettings
from pipelines.curation.ids import keyframe_uri, video_id
from pipelines.curation.ledger.ledger import Entry, Ledger
from pipelines.curation.ledger.receipts import RECEIPT, Provenance, commit
from pipelines.storage.store import Store, fetched, file_info

if TYPE_CHECKING:
    from fw_model.loading.config import ModelConfig

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


class AnalyzeVideos:
    """PENDING_VIDEO -> RECEIPT, 1:1, each video committed by itself.

    Owns decoding children. With one, a video too long for it is not committed: its receipt says
    LONG. With several, a video is watched in ranges of time, by all of them.
    """

    def __init__(
        self,
        settings: AnalyzeSettings,
        store: Store,
        ledger: Ledger,
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

    def _receipt(self, pending: Mapping[str, Any]) -> pa.Table:
        # A block whose worker died comes again, whole: what it had committed is not done twice.
        done = self._ledger.committed(pending["source_id"], pending["attempts"])
        if done is None:
            return self._settle(self._analyze(pending))
        receipt = {"id": pending["source_id"], "status": done.values["status"], "key": done.key}
        return pa.Table.from_pylist([receipt], schema=RECEIPT)

    def _settle(self, row: Mapping[str, Any]) -> pa.Table:
        if row["status"] != LONG:
            return commit(self._ledger, [row])
        receipt = {"id": row["source_id"], "status": LONG, "key": None}
        return pa.Table.from_pylist([receipt], schema=RECEIPT)

    def _analyze(self, pending: Mapping[str, Any]) -> dict[str, Any]:
        row = self._decode(pending["uri"], is_there=pending["size_bytes"] >= 0)
        return row | {
            "source_id": pending["source_id"],
            "bytes": pending["size_bytes"],
            "modified": pending["modified"],
            "attempts": pending["attempts"],
            "detector": self._settings.detector.kind,
            **self._provenance.stamp(),
        }

    def _decode(self, uri: str, *, is_there: bool) -> dict[str, Any]:
        with contextlib.ExitStack() as stack:
            try:
                # It may have failed to be listed only.
                if not is_there and not file_info(uri).is_file:
                    raise FileNotFoundError(f"there is no file at {uri}")
                path = stack.enter_context(fetched(uri))
            except (OSError, StorageError) as error:
                return {
                    "uri": uri,
                    "video_id": video_id(uri, ""),
                    "status": "quarantined",
                    "reason": str(VideoReason.SOURCE_UNAVAILABLE),
                    "detail": str(error),
                    "shots": [],
                    "num_shots": 0,
                }
            return self._watch(path, uri)

    def _watch(self, path: str, uri: str) -> dict[str, Any]:
        if len(self._children) > 1:
            return analyze_in_ranges(
                path,
                uri=uri,
                children=self._children,
                settings=self._settings,
                on_keyframe=self._keep_keyframe,
            )
        range_s = self._settings.decode.range_s
        return self._children[0].analyze(
            path,
            uri=uri,
            on_keyframe=self._keep_keyframe,
            longest_s=2 * range_s if range_s is not None else None,
        )

    def _keep_keyframe(self, sha256: str, jpeg: bytes) -> None:
        self._store.write_once(keyframe_uri(sha256), jpeg)


class EmbedShots:
    """RECEIPT of a decoded video -> RECEIPT of the same with embeddings, 1:1, committed together;
    one that says LONG is handed on.

    A shot without a keyframe has no embedding.
    """

    BATCH = 64

    def __init__(
        self,
        model: ModelConfig,
        store: Store,
        decoded: Ledger,
        ledger: Ledger,
        provenance: Provenance,
    ) -> None:
        from fw_model.loading.load import load_embedder

        self._embedder = load_embedder(model)
        self._store = store
        self._decoded = decoded
        self._ledger = ledger
        self._provenance = provenance

    def __call__(self, receipts: pa.Table) -> pa.Table:
        rows = receipts.to_pylist()
        entries = {row["id"]: Entry(row["key"], {}) for row in rows if row["status"] != LONG}
        done = commit(self._ledger, [self._embed(row) for row in self._decoded.read(entries)])
        later = [row for row in rows if row["status"] == LONG]
        return pa.concat_tables([done, pa.Table.from_pylist(later, schema=RECEIPT)])

    def _embed(self, row: dict[str, Any]) -> dict[str, Any]:
        owners = [s for s, shot in enumerate(row["shots"]) for _ in shot["keyframes"]]
        uris = [k["uri"] for shot in row["shots"] for k in shot["keyframes"]]
        rows = [
            self._embed_pictures(uris[i : i + self.BATCH]) for i in range(0, len(uris), self.BATCH)
        ]
        if rows:
            means = mean_by_owner(np.concatenate(rows), owners, len(row["shots"]))
            for shot, mean in zip(row["shots"], means, strict=True):
                shot["embedding"] = mean.tolist() if shot["keyframes"] else None
        return row | self._provenance.stamp()

    def _embed_pictures(self, uris: Sequence[str]) -> NDArray[np.float32]:
        pictures = [
            np.asarray(Image.open(io.BytesIO(self._store.read(uri))).convert("RGB")) for uri in uris
        ]
        return self._embedder.embed_images(pictures).cpu().numpy().astype(np.float32)


def mean_by_owner(
    rows: NDArray[np.float32], owners: Sequence[int], num_owners: int
) -> NDArray[np.float32]:
    """Return the unit mean of the rows [N, E] of each owner: [num_owners, E]."""
    sums = np.zeros((num_owners, rows.shape[1]), np.float32)
    np.add.at(sums, np.asarray(owners), rows)
    return unit_rows(sums)
