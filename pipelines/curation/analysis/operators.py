"""The Ray operators of analysis: thin shells over the pure modules beside them.

Each processes rows, commits them to a ledger and returns receipts (an id and where its row is), so
that little travels between operators and every row that an operator sees is already safe. Tables
have explicit schemas. No operator raises because of bad data. Only the actors that need torch
import it, so a decoding actor stays small.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from fw_model.errors import StorageError
from fw_model.schemas.curated import VideoReason
from fw_model.schemas.curated_rows import AnalyzedVideoRow, DecodedVideoRow
from fw_model.similarity import unit_rows
from pipelines.curation.analysis.analyze import LONG, quarantined_row
from pipelines.curation.analysis.decode_process import DecodeSandbox
from pipelines.curation.analysis.parallel_decode import analyze_in_ranges
from pipelines.curation.analysis.shot_tracker import AnalyzeSettings, OnKeyframe
from pipelines.curation.analysis.video_commits import DECODED, VideoCommit
from pipelines.curation.ledger.ledger import Entry, Ledger
from pipelines.curation.ledger.receipts import RECEIPT, Provenance, commit
from pipelines.curation.ledger.shards import Shard
from pipelines.curation.perception.base import make_perception
from pipelines.curation.perception.keyframes import Seen, examine, record
from pipelines.storage.arrow_rows import iter_rows
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
        pa.field("shard", pa.string()),
    ]
)
"""What is known of a video that waits to be analyzed."""


class PendingVideoRow(TypedDict):
    """A row of PENDING_VIDEO; `size_bytes` is -1 if the file was not found, `shard` the name of its
    shard."""

    source_id: str
    uri: str
    size_bytes: int
    modified: str
    attempts: int
    shard: str | None


class AnalyzeVideos:
    """PENDING_VIDEO -> DECODED, 1:1; commits the videos of a block in order, a few at a time.

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
        videos_per_commit: int = 1,
        seconds_per_commit: float = 0.0,
    ) -> None:
        self._settings = settings
        self._store = store
        self._ledger = ledger
        self._provenance = provenance
        self._videos_per_commit = videos_per_commit
        self._seconds_per_commit = seconds_per_commit
        self._children = [DecodeSandbox(settings) for _ in range(num_children)]

    def __call__(self, pending: pa.Table) -> Iterator[pa.Table]:
        """Yield what was committed, a few videos at a time: a whole block's would fill memory."""
        by_shard: dict[str, list[PendingVideoRow]] = {}
        for row in pending.to_pylist():
            by_shard.setdefault(row["shard"] or "", []).append(row)
        for shard, rows in by_shard.items():
            yield from self._commits(rows, Shard.parse(shard))

    def __del__(self) -> None:
        for child in getattr(self, "_children", []):
            child.close()

    def _commits(self, rows: Sequence[PendingVideoRow], shard: Shard) -> Iterator[pa.Table]:
        """Analyze and commit videos of one shard; yield their receipts."""
        # The whole block of a worker that died is sent again: committed videos are not redone.
        done = self._committed(rows, shard)
        videos = VideoCommit(
            self._ledger,
            shard,
            max_videos=self._videos_per_commit,
            max_s=self._seconds_per_commit,
        )
        for pending in rows:
            if pending["source_id"] in done:
                yield _receipt(pending, done[pending["source_id"]])
                continue
            row = self._analyze(pending, videos.add_keyframe)
            if row["status"] == LONG:
                yield _receipt(pending, Entry("", {"status": LONG}))
                continue
            videos.add(row)
            if videos.is_due:
                yield videos.write()
        yield videos.write()

    def _committed(self, rows: Sequence[PendingVideoRow], shard: Shard) -> dict[str, Entry]:
        """Return what an earlier try of this block has committed.

        A commit is named after its first video and holds the videos that follow, up to the first
        video of the next commit.
        """
        done: dict[str, Entry] = {}
        for row in rows:
            if row["source_id"] in done:
                continue
            found = self._ledger.committed(row["source_id"], row["attempts"], ["status"], shard)
            if not found and not done:
                break
            done |= {entry.values["source_id"]: entry for entry in found}
        attempts = {row["source_id"]: row["attempts"] for row in rows}
        return {i: e for i, e in done.items() if attempts.get(i) == e.values["attempts"]}

    def _analyze(self, pending: PendingVideoRow, on_keyframe: OnKeyframe) -> AnalyzedVideoRow:
        return {
            **self._decode(pending["uri"], on_keyframe, was_found=pending["size_bytes"] >= 0),
            **self._provenance.stamp(),
            "source_id": pending["source_id"],
            "bytes": pending["size_bytes"],
            "modified": pending["modified"],
            "attempts": pending["attempts"],
            "detector": self._settings.detector.kind,
        }

    def _decode(self, uri: str, on_keyframe: OnKeyframe, *, was_found: bool) -> DecodedVideoRow:
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
                    on_keyframe=on_keyframe,
                )
            range_s = self._settings.decode.range_s
            return self._children[0].analyze(
                path,
                uri=uri,
                on_keyframe=on_keyframe,
                longest_s=2 * range_s if range_s is not None else None,
            )


def _receipt(pending: PendingVideoRow, entry: Entry) -> pa.Table:
    """Return the receipt of a video that this block does not commit."""
    row = {"id": pending["source_id"], "status": entry.values["status"], "key": entry.key}
    return pa.Table.from_pylist([row], schema=DECODED)


class EmbedShots:
    """DECODED -> RECEIPT of the video with embeddings, 1:1; the videos of a batch that belong to
    one shard are committed together. A LONG receipt is passed on.

    Each keyframe is read once, for its embedding and for what `perception` looks for. A video that
    did not come with its receipt is read. A shot without keyframes gets no embedding.
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
        is_long = pc.equal(receipts["status"], LONG)
        done = [receipts.filter(is_long).select(RECEIPT.names)]
        by_shard: dict[Shard, list[AnalyzedVideoRow]] = {}
        for key, row, jpegs in self._videos(receipts.filter(pc.invert(is_long))):
            by_shard.setdefault(Shard.parse(key), []).append(self._embed(row, jpegs))
        done += [commit(self._ledger, rows, shard) for shard, rows in by_shard.items()]
        return pa.concat_tables(done)

    def _videos(
        self, receipts: pa.Table
    ) -> Iterator[tuple[str, AnalyzedVideoRow, list[bytes] | None]]:
        """Yield the key, the row and, if they came along, the keyframes of each video."""
        came = pc.is_valid(receipts["video"])
        passed = receipts.filter(came)
        rows = pa.Table.from_struct_array(passed["video"]) if passed.num_rows else passed[:0]
        jpegs = passed["jpegs"].to_pylist()
        keys = passed["key"].to_pylist()
        yield from zip(keys, iter_rows(rows, AnalyzedVideoRow), jpegs, strict=True)
        others = receipts.filter(pc.invert(came)).select(RECEIPT.names).to_pylist()
        entries = {row["id"]: Entry(row["key"], {}) for row in others}
        for row in self._decoded.read(entries):
            yield entries[row["source_id"]].key, row, None

    def _embed(self, row: AnalyzedVideoRow, jpegs: Sequence[bytes] | None) -> AnalyzedVideoRow:
        owners = [s for s, shot in enumerate(row["shots"]) for _ in shot["keyframes"]]
        uris = [k["uri"] for shot in row["shots"] for k in shot["keyframes"]]
        rows: list[NDArray[np.float32]] = []
        seen: list[Seen] = []
        for i in range(0, len(uris), self.BATCH):
            few = slice(i, i + self.BATCH)
            pictures = _pictures(jpegs[few] if jpegs else self._store.read_many(uris[few]))
            rows.append(self._embedder.embed_images(pictures).cpu().numpy().astype(np.float32))
            seen += [examine(picture, self._perception) for picture in pictures]
        record(row["shots"], seen)
        if rows:
            means = mean_by_owner(np.concatenate(rows), owners, len(row["shots"]))
            for shot, mean in zip(row["shots"], means, strict=True):
                shot["embedding"] = mean.tolist() if shot["keyframes"] else None
        return {**row, **self._provenance.stamp()}


def _pictures(jpegs: Sequence[bytes]) -> list[NDArray[np.uint8]]:
    return [np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")) for jpeg in jpegs]


def mean_by_owner(
    rows: NDArray[np.float32], owners: Sequence[int], num_owners: int
) -> NDArray[np.float32]:
    """Return the unit mean [num_owners, E] of the rows [N, E] of each owner."""
    sums = np.zeros((num_owners, rows.shape[1]), np.float32)
    np.add.at(sums, np.asarray(owners), rows)
    return unit_rows(sums)
