"""The cut phase of curation: kept shots to video files, if `curation.cut` asks for it.

The files are content-addressed and written first; then the rows of a video's shots are committed to
the ledger together. A shot with a row is not cut again, even if filters have changed since.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import pyarrow as pa
import pyarrow.compute as pc

from fw_model.errors import StorageError
from fw_model.media.deinterlace import as_field_order
from fw_model.schemas.curated import SHOT_CLIPS
from fw_model.schemas.curated_rows import (
    CropRow,
    ShotFileColumns,
    ShotFileRow,
    ShotRow,
    VideoRow,
)
from pipelines.curation.analysis.bars import NO_BARS, Bars
from pipelines.curation.config import CurationConfig, DecodeConfig
from pipelines.curation.ids import shot_file_uri
from pipelines.curation.ledger.ledger import Entry, Ledger, config_hash
from pipelines.curation.ledger.receipts import Provenance, commit
from pipelines.curation.ledger.shards import Shard
from pipelines.curation.ledger.tables import Part, by_shard, write_part
from pipelines.curation.shard_tasks import ShardTasks
from pipelines.curation.shot_files.cut_process import cut_in_child
from pipelines.curation.shot_files.spans import CutSpan, ShotFile
from pipelines.curation.spool import ShardSpool
from pipelines.storage.arrow_rows import iter_rows, schema_of
from pipelines.storage.store import Store, local_copy
from pipelines.storage.tempdirs import temporary_folder

# Raise this when the same settings start to give different files: shots are then cut again.
CUT_VERSION = 4
MAX_ATTEMPTS = 3  # for a shot that the child did not reach or that killed it
SPAN_COLUMNS = ("shot_id", "content_start_frame", "content_end_frame", "crop", "field_order")
CLIP_COLUMNS = tuple(ShotFileColumns.__annotations__)


class PendingCut(TypedDict):
    """A video and those of its shots that wait to be cut; the lists have one entry per shot."""

    shard: str
    uri: str
    num_frames: int
    rotation: int
    shot_ids: list[str]
    starts: list[int]
    ends: list[int]
    bars: list[list[int]]  # top, bottom, left and right, in pixels
    field_orders: list[str]  # tff or bff; empty for progressive shots
    attempts: list[int]


PENDING_CUT = schema_of(PendingCut)


def cut_ledger(store: Store, config: CurationConfig, decoded: str) -> Ledger[ShotFileRow]:
    """Return the ledger of shots cut this way; `decoded` is the hash of the settings that decide
    their spans."""
    settings = config_hash(CUT_VERSION, config.cut, decoded)
    return Ledger(store, "cut", settings, SHOT_CLIPS, "shot_id")


@dataclass(frozen=True)
class CutPhase:
    """Finds the kept shots of staged tables that have no file yet, and adds files to the tables."""

    store: Store
    ledger: Ledger[ShotFileRow]
    provenance: Provenance

    def with_files(self, parts: Sequence[Part], tasks: ShardTasks) -> list[Part]:
        """Return the parts with the shot files in the rows of their shots."""
        work = ((self, shard, few) for shard, few in by_shard(parts).items())
        found: list[Part] = []
        for result in tasks.each(add_files, work):
            found += tasks.get(result)
        return found

    def pending(self, parts: Sequence[Part], tasks: ShardTasks) -> ShardSpool:
        """Return the videos with shots to cut, as rows of PENDING_CUT."""
        spool = ShardSpool()
        grouped = by_shard(parts)
        work = ((self, shard, few) for shard, few in grouped.items())
        found = tasks.each(pending_of_shard, work)
        for shard, result in zip(grouped, found, strict=True):
            spool.put(shard, tasks.get(result))
        return spool

    def pending_videos(self, shard: Shard, parts: Sequence[Part]) -> Iterator[PendingCut]:
        """Yield the videos of one shard with shots to cut."""
        shots = {part.place: list(self._kept(part)) for part in parts if part.table == "shots"}
        ids = {shot["shot_id"] for few in shots.values() for shot in few}
        known = self.ledger.entries(["status"], shard, ids) if ids else {}
        columns = ["video_id", "uri", "num_frames", "rotation"]
        for part in parts:
            waiting: dict[str, list[ShotRow]] = {}
            for shot in shots[part.place] if part.table == "videos" else ():
                if _waits(known.get(shot["shot_id"])):
                    waiting.setdefault(shot["video_id"], []).append(shot)
            if waiting:
                for video in iter_rows(self.store.read_table(part.key, columns), VideoRow):
                    if video["video_id"] in waiting:
                        yield _pending_cut(shard, video, waiting[video["video_id"]], known)

    def _kept(self, part: Part) -> Iterator[ShotRow]:
        columns = [*SPAN_COLUMNS, "video_id"]
        kept = pc.field("drop_reason").is_null()
        return iter_rows(self.store.read_table(part.key, columns, filters=kept), ShotRow)

    def part_with_files(self, part: Part, shard: Shard) -> Part:
        """Stage a part of the shots again, with what became of their files."""
        kept = [shot["shot_id"] for shot in self._kept(part)]
        files = self.ledger.entries(CLIP_COLUMNS, shard, kept) if kept else {}
        rows = (
            {**row, **{name: files[row["shot_id"]].values[name] for name in CLIP_COLUMNS}}
            if row["drop_reason"] is None and row["shot_id"] in files
            else row
            for row in iter_rows(self.store.read_table(part.key), ShotRow)
        )
        return write_part(self.store, "shots", part.place, rows, self.provenance.run_id, shard)


def pending_of_shard(phase: CutPhase, shard: Shard, parts: Sequence[Part]) -> pa.Table:
    """Return `pending_videos` as a table of PENDING_CUT."""
    return pa.Table.from_pylist(list(phase.pending_videos(shard, parts)), schema=PENDING_CUT)


def add_files(phase: CutPhase, shard: Shard, parts: Sequence[Part]) -> list[Part]:
    """Return the parts of one shard with the shot files in the rows of their shots."""
    return [phase.part_with_files(p, shard) if p.table == "shots" else p for p in parts]


def _waits(entry: Entry | None) -> bool:
    if entry is None or entry.values["status"] == "away":
        return True
    return entry.values["status"] == "unfinished" and entry.values["attempts"] < MAX_ATTEMPTS


def _pending_cut(
    shard: Shard, video: VideoRow, shots: Sequence[ShotRow], known: Mapping[str, Entry]
) -> PendingCut:
    ids = [shot["shot_id"] for shot in shots]
    return {
        "shard": shard.name,
        "uri": video["uri"],
        "num_frames": video["num_frames"] or 0,
        "rotation": video["rotation"] or 0,
        "shot_ids": ids,
        "starts": [shot["content_start_frame"] for shot in shots],
        "ends": [shot["content_end_frame"] for shot in shots],
        "bars": [_bars(shot["crop"]) for shot in shots],
        "field_orders": [shot["field_order"] or "" for shot in shots],
        "attempts": [1 + (known[i].values["attempts"] if i in known else 0) for i in ids],
    }


def _bars(crop: CropRow | None) -> list[int]:
    bars = NO_BARS if crop is None else Bars(**crop)
    return [bars.top, bars.bottom, bars.left, bars.right]


@dataclass(frozen=True)
class CutShots:
    """PENDING_CUT -> RECEIPT, 1:N; the shots of a video are committed together."""

    copy: bool
    limits: DecodeConfig
    store: Store
    ledger: Ledger[ShotFileRow]
    provenance: Provenance

    def __call__(self, pending: pa.Table) -> pa.Table:
        rows = iter_rows(pending, PendingCut)
        done = [commit(self.ledger, self.cut(row), Shard.parse(row["shard"])) for row in rows]
        return pa.concat_tables(done)

    def cut(self, video: PendingCut) -> list[ShotFileRow]:
        """Cut the shots of a video; return their rows once their files are stored."""
        spans = [
            CutSpan(shot_id, start, end, Bars(*bars), as_field_order(order))
            for shot_id, start, end, bars, order in zip(
                video["shot_ids"],
                video["starts"],
                video["ends"],
                video["bars"],
                video["field_orders"],
                strict=True,
            )
        ]
        with temporary_folder() as folder:
            try:
                with local_copy(video["uri"]) as path:
                    files = self._cut(path, video, spans, folder)
                status = None
            except StorageError as error:
                files = [ShotFile(span.shot_id, "failed", None, str(error)) for span in spans]
                status = "away"
            return [
                self._row(file, status, attempts, folder)
                for file, attempts in zip(files, video["attempts"], strict=True)
            ]

    def _cut(
        self, path: str, video: PendingCut, spans: Sequence[CutSpan], folder: Path
    ) -> list[ShotFile]:
        if not Path(path).is_file():
            raise StorageError(f"There is no file at {video['uri']} any more.")
        return cut_in_child(
            path,
            spans,
            # Players disagree on how to show rotated video: such frames are encoded upright.
            copy=self.copy and not video["rotation"],
            num_frames=video["num_frames"],
            folder=folder,
            memory_limit_mb=self.limits.memory_limit_mb,
            deadline_s=self.limits.deadline_s,
        )

    def _row(self, file: ShotFile, status: str | None, attempts: int, folder: Path) -> ShotFileRow:
        uri = self._stored(folder / file.file) if file.file else None
        return {
            "shot_id": file.shot_id,
            "status": status or ("cut" if uri else file.mode),
            "clip_uri": uri,
            "clip_mode": file.mode if uri else "failed",
            "clip_detail": file.detail,
            "attempts": attempts,
            **self.provenance.stamp(),
        }

    def _stored(self, file: Path) -> str:
        with open(file, "rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        uri = shot_file_uri(sha256)
        self.store.write_file(uri, file)
        return uri
