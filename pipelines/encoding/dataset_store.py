"""The encoded dataset in a folder or a bucket: parts are written once, the meta file lists them.

A batch of videos becomes a part: one Parquet file per table, under a name never used before. The
sources file is written last and says which videos are done; a video is encoded again only if its
captions changed or it failed. The meta file says which parts make up the dataset. It is replaced in
one step, so a reader always sees what was published last, even if a run is killed.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock

from fw_model.errors import DataError
from fw_model.schemas.encoded import META_FILE, SCHEMAS, EncodedMeta, parse_meta
from pipelines.encoding.rows import TABLE_SCHEMAS, PartRows
from pipelines.storage.store import Store, local_copy

_ROWS_PER_GROUP = 16  # latents are large: a reader should not load hundreds at once


class EncodedStore:
    """The output of an encoding run, a folder or a URI."""

    def __init__(self, uri: str | Path) -> None:
        self.store = Store(str(uri))

    def open(self, meta: EncodedMeta) -> None:
        """Prepare the folder for rows of `meta`; DataError if it holds rows of another kind."""
        if not self.store.exists(META_FILE):
            self._write_meta(meta)
            return
        found = self.meta().encode_hash
        if found != meta.encode_hash:
            raise DataError(
                f"{self.store.uri} was encoded with another model, other settings or an older "
                f"version ({found}, now {meta.encode_hash}); give another output folder or "
                "remove this one."
            )

    def meta(self) -> EncodedMeta:
        """Return the content of the meta file; DataError if it cannot be used."""
        return parse_meta(self.store.read(META_FILE), self.store.address(META_FILE))

    def encoded(self) -> dict[str, str]:
        """Return the captions hash of each video that is done; failed ones are not."""
        rows = [row for part in self._parts() for row in self._ledger(part)]
        return {video: captions for video, captions, status in rows if status != "failed"}

    def write_part(self, rows: PartRows) -> None:
        """Add the rows of a batch of videos."""
        part = _new_part_name()
        for name, table in rows.tables().items():
            self.store.write_table(f"{name}/{part}", table, rows_per_group=_ROWS_PER_GROUP)

    def publish(self, current: Mapping[str, str]) -> dict[str, int]:
        """Make the dataset out of all parts and return how many rows each table has.

        Videos that are not in `current` ({video_id: captions_hash}) are dropped. It can be repeated
        at any time, also after an interruption.
        """
        ledgers = {part: self._ledger(part) for part in self._parts()}
        kept: dict[str, set[str]] = {}
        for video, part in _owners(ledgers, current).items():
            kept.setdefault(part, set()).add(video)
        files = {
            part if {video for video, _, _ in ledgers[part]} == videos else self._only(part, videos)
            for part, videos in kept.items()
        }
        self._write_meta(self.meta().model_copy(update={"files": tuple(sorted(files))}))
        for name in reversed(TABLE_SCHEMAS):
            for key in self.store.keys(name, ".parquet"):
                if key.removeprefix(f"{name}/") not in files:
                    self.store.delete(key)
        return {
            name: sum(self.store.num_rows(f"{name}/{file}") for file in files)
            for name in TABLE_SCHEMAS
        }

    def sources(self) -> list[dict[str, str]]:
        """Return address, status and detail of every video of the published dataset."""
        columns = ["uri", "status", "detail"]
        return [
            row
            for file in self.meta().files
            for row in self.store.read_table(f"sources/{file}", columns).to_pylist()
        ]

    def _only(self, part: str, videos: set[str]) -> str:
        """Write a part with only the rows of `videos`, one row group at a time; return its name."""
        shots = self.store.read_table(f"shots/{part}", ["shot_id", "video_id"])
        shot_ids = set(_where(shots, "video_id", videos)["shot_id"].to_pylist())
        wanted = {"shots": ("shot_id", shot_ids), "keyframes": ("shot_id", shot_ids),
                  "texts": None, "sources": ("video_id", videos)}  # fmt: skip
        own = _new_part_name()
        for name in TABLE_SCHEMAS:
            with (
                local_copy(self.store.address(f"{name}/{part}")) as path,
                tempfile.TemporaryDirectory() as scratch,
            ):
                filtered = Path(scratch) / own
                _filter_file(path, filtered, wanted[name])
                self.store.write_file(f"{name}/{own}", filtered)
        return own

    def _parts(self) -> list[str]:
        """Return the names of complete parts, the oldest first."""
        return [k.removeprefix("sources/") for k in self.store.keys("sources", ".parquet")]

    def _ledger(self, part: str) -> list[tuple[str, str, str]]:
        """Return id, captions hash and status of the videos of a part."""
        columns = ["video_id", "captions_hash", "status"]
        table = self.store.read_table(f"sources/{part}", columns)
        return list(zip(*(table[c].to_pylist() for c in columns), strict=True))

    def _write_meta(self, meta: EncodedMeta) -> None:
        self.store.write(META_FILE, _as_bytes(meta))


def local_dataset(uri: str | Path) -> Path:
    """Return a local folder with the published dataset: itself, or a copy of a bucket's.

    Copies are kept in the temporary folder. Parts never change, so only new ones are fetched: one
    process per machine fetches them while the others wait. Old parts stay, because a training run
    may still read them.
    """
    if "://" not in str(uri):
        return Path(uri)
    remote = EncodedStore(uri)
    meta = remote.meta()
    name = hashlib.sha256(str(uri).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / "filmweaver-encoded" / name
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".fetching.lock"):  # released when the process ends, however it does
        for key in (f"{table}/{file}" for table in SCHEMAS for file in meta.files):
            if not (folder / key).is_file():
                with local_copy(remote.store.address(key)) as path:
                    Store(str(folder)).write_file(key, Path(path))
        Store(str(folder)).write(META_FILE, _as_bytes(meta))
    return folder


def _as_bytes(meta: EncodedMeta) -> bytes:
    return json.dumps(meta.model_dump(), indent=1).encode() + b"\n"


def _new_part_name() -> str:
    """Return a name never used before; later ones sort later."""
    return f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.parquet"


def _owners(
    ledgers: Mapping[str, list[tuple[str, str, str]]], current: Mapping[str, str]
) -> dict[str, str]:
    """Return the one part that each current video is read from.

    A video that failed and was tried again is in two parts: a success wins, then the newer part.
    """
    ranked = [
        (status != "failed", part, video)
        for part, rows in ledgers.items()
        for video, captions, status in rows
        if current.get(video) == captions
    ]
    return {video: part for _, part, video in sorted(ranked)}


def _filter_file(source: str, target: Path, wanted: tuple[str, set[str]] | None) -> None:
    """Copy the rows of a Parquet file in which a column has a wanted value (None: all rows)."""
    with (
        pq.ParquetFile(source) as file,
        pq.ParquetWriter(target, file.schema_arrow, compression="zstd") as writer,
    ):
        for number in range(file.num_row_groups):
            group = file.read_row_group(number)
            writer.write_table(_where(group, *wanted) if wanted else group)


def _where(table: pa.Table, column: str, kept: set[str]) -> pa.Table:
    return table.filter(pc.is_in(table[column], value_set=pa.array(sorted(kept), pa.string())))
