"""The cut phase of curation: kept shots to clips, where `curation.cut` asks for it.

Clips are content-addressed media, written first; a row of the ledger for each shot follows, those
of a video together. Shots that have a row are not cut again, whatever became of their thresholds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import pyarrow as pa

from fw_model.errors import StorageError
from fw_model.schemas.curated import SHOT_CLIPS
from fw_model.schemas.curated_rows import ShotFileRow
from pipelines.curation.config import CurationConfig, DecodeConfig
from pipelines.curation.ids import shot_file_uri
from pipelines.curation.ledger.ledger import Entry, Ledger, config_hash
from pipelines.curation.ledger.receipts import Provenance, commit
from pipelines.curation.ledger.tables import Part, write_part
from pipelines.curation.shot_files.cut_process import cut_in_child
from pipelines.curation.shot_files.cut_video import CutSpan, ShotFile
from pipelines.storage.arrow_rows import iter_rows
from pipelines.storage.store import Store, local_copy
from pipelines.storage.tempdirs import temporary_folder

# Raise this when the same settings begin to give other clips: they are then cut again.
CUT_VERSION = 2
MAX_ATTEMPTS = 3  # at a clip that the child did not come to, or did not survive
CLIP_COLUMNS = ("clip_uri", "clip_mode", "clip_detail")

PENDING_CUT = pa.schema(
    [
        pa.field("uri", pa.string()),
        pa.field("num_frames", pa.int64()),
        pa.field("rotation", pa.int32()),
        pa.field("shot_ids", pa.list_(pa.string())),
        pa.field("starts", pa.list_(pa.int64())),
        pa.field("ends", pa.list_(pa.int64())),
        pa.field("attempts", pa.list_(pa.int32())),
    ]
)
"""A video, and those of its shots that wait to be cut."""


class PendingCutRow(TypedDict):
    """A row of PENDING_CUT; the lists have one entry per shot."""

    uri: str
    num_frames: int
    rotation: int
    shot_ids: list[str]
    starts: list[int]
    ends: list[int]
    attempts: list[int]


def cut_ledger(store: Store, config: CurationConfig, decoded: str) -> Ledger:
    """Return the ledger of shots cut this way; `decoded` names the settings that their spans
    follow from.
    """
    settings = config_hash(CUT_VERSION, config.cut, decoded)
    return Ledger(store, "cut", settings, SHOT_CLIPS, "shot_id")


class CutPhase:
    """Which kept shots of staged tables have no clip yet, and the tables with their clips."""

    def __init__(self, store: Store, ledger: Ledger, provenance: Provenance) -> None:
        self.store, self.ledger, self.provenance = store, ledger, provenance

    def with_clips(self, parts: Sequence[Part]) -> list[Part]:
        """Return the parts with the clips in the rows of their shots."""
        clips = self.ledger.entries(CLIP_COLUMNS)
        return [
            self._with_clips(part, place, clips) if part.table == "shots" else part
            for place, part in _placed(parts)
        ]

    def pending(self, parts: Sequence[Part]) -> list[dict[str, Any]]:
        """Return the videos with shots to cut, as rows of PENDING_CUT."""
        known = self.ledger.entries(["status"])

        def waits(entry: Entry | None) -> bool:
            if entry is None or entry.values["status"] == "away":
                return True
            is_open = entry.values["status"] == "unfinished"
            return is_open and entry.values["attempts"] < MAX_ATTEMPTS

        pending: list[dict[str, Any]] = []
        videos = [part for part in parts if part.table == "videos"]
        shots = [part for part in parts if part.table == "shots"]
        for video_part, shot_part in zip(videos, shots, strict=True):
            waiting: dict[str, list[Mapping[str, Any]]] = {}
            for shot in self._kept(shot_part):
                entry = known.get(shot["shot_id"])
                if waits(entry):
                    attempts = 1 + (entry.values["attempts"] if entry else 0)
                    waiting.setdefault(shot["video_id"], []).append(shot | {"attempts": attempts})
            columns = ["video_id", "uri", "num_frames", "rotation"]
            for video in self.store.read_table(video_part.key, columns).to_pylist():
                if video["video_id"] in waiting:
                    pending.append(_work(video, waiting[video["video_id"]]))
        return pending

    def _kept(self, part: Part) -> list[dict[str, Any]]:
        columns = ["shot_id", "video_id", "content_start_frame", "content_end_frame", "drop_reason"]
        rows = self.store.read_table(part.key, columns).to_pylist()
        return [row for row in rows if row["drop_reason"] is None]

    def _with_clips(self, part: Part, place: int, clips: Mapping[str, Entry]) -> Part:
        """Stage a part of the shots again, with what became of their clips."""
        rows = (
            row | {name: clips[row["shot_id"]].values[name] for name in CLIP_COLUMNS}
            if row["drop_reason"] is None and row["shot_id"] in clips
            else row
            for row in iter_rows(self.store.read_table(part.key))
        )
        return write_part(self.store, "shots", place, rows, self.provenance.run_id)


def _placed(parts: Sequence[Part]) -> list[tuple[int, Part]]:
    """Number the parts of each table."""
    seen: dict[str, int] = {}
    placed = []
    for part in parts:
        placed.append((seen.get(part.table, 0), part))
        seen[part.table] = seen.get(part.table, 0) + 1
    return placed


def _work(video: Mapping[str, Any], shots: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "uri": video["uri"],
        "num_frames": video["num_frames"],
        "rotation": video["rotation"] or 0,
        "shot_ids": [shot["shot_id"] for shot in shots],
        "starts": [shot["content_start_frame"] for shot in shots],
        "ends": [shot["content_end_frame"] for shot in shots],
        "attempts": [shot["attempts"] for shot in shots],
    }


class CutShots:
    """PENDING_CUT -> RECEIPT, 1:N; the shots of a video are committed together."""

    def __init__(
        self,
        copy: bool,
        limits: DecodeConfig,
        store: Store,
        ledger: Ledger,
        provenance: Provenance,
    ) -> None:
        self._copy, self._limits = copy, limits
        self._store, self._ledger, self._provenance = store, ledger, provenance

    def __call__(self, pending: pa.Table) -> pa.Table:
        return pa.concat_tables(
            [commit(self._ledger, self.cut(row)) for row in pending.to_pylist()]
        )

    def cut(self, video: PendingCutRow) -> list[ShotFileRow]:
        """Cut the shots of a video; return their rows once their files are stored."""
        spans = [
            CutSpan(*values)
            for values in zip(video["shot_ids"], video["starts"], video["ends"], strict=True)
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
        self, path: str, video: PendingCutRow, spans: Sequence[CutSpan], folder: Path
    ) -> list[ShotFile]:
        if not Path(path).is_file():
            raise StorageError(f"There is no file at {video['uri']} any more.")
        return cut_in_child(
            path,
            spans,
            # Players disagree on how to show rotated video: such frames are encoded upright.
            copy=self._copy and not video["rotation"],
            num_frames=video["num_frames"],
            folder=folder,
            memory_limit_mb=self._limits.memory_limit_mb,
            deadline_s=self._limits.deadline_s,
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
            **self._provenance.stamp(),
        }

    def _stored(self, file: Path) -> str:
        with open(file, "rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        uri = shot_file_uri(sha256)
        if not self._store.exists(uri):
            self._store.write_file(uri, file)
        return uri
