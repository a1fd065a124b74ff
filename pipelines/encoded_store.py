"""The encoded dataset on disk: parts that appear whole, then become files of the tables.

A batch of videos becomes a part, a folder of four Parquet files that is renamed into place. The
sources table is the ledger: a video whose captions are the same is never encoded again, unless it
failed. Nothing here holds more than a row group of latents in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fw_model.errors import DataError, StorageError
from fw_model.training.dataset import META_FILE, SCHEMAS, EncodedMeta, read_meta
from pipelines.encoding import SOURCES

TABLE_SCHEMAS = {"sources": SOURCES, **SCHEMAS}
_PARTS = ".parts"
_ROWS_PER_GROUP = 16  # latents are large: a reader should not load hundreds at once


class EncodedStore:
    """The output folder of an encoding run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, meta: EncodedMeta) -> None:
        """Take the folder for rows of `meta`; DataError if it holds rows of another kind."""
        path = self.folder / META_FILE
        if path.is_file():
            found = read_meta(self.folder).encode_hash
            if found != meta.encode_hash:
                raise DataError(
                    f"{self.folder} was encoded with another model, other settings or an older "
                    f"version ({found}, now {meta.encode_hash}); give another output folder or "
                    "remove this one."
                )
        with _disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".tmp")
            temporary.write_text(json.dumps(meta.model_dump(), indent=1) + "\n", encoding="utf-8")
            os.replace(temporary, path)

    def encoded(self) -> dict[str, str]:
        """Return the captions hash of each video that is done; one that failed is not."""
        files = [*self._files("sources"), *self._part_files("sources")]
        rows = [row for file in files for row in _ledger_rows(file)]
        return {video: captions for video, captions, status in rows if status != "failed"}

    def write_part(self, tables: Mapping[str, pa.Table]) -> None:
        """Add the rows of a batch of videos; they appear all together."""
        ids = "\n".join(sorted(tables["sources"]["video_id"].to_pylist()))
        name = hashlib.sha256(ids.encode()).hexdigest()[:24]
        parts = self.folder / _PARTS
        with _disk_errors(self.folder):
            parts.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=".tmp-", dir=parts))
            try:
                for table_name, table in tables.items():
                    pq.write_table(
                        table,
                        partial / f"{table_name}.parquet",
                        row_group_size=_ROWS_PER_GROUP,
                        compression="zstd",
                    )
                shutil.rmtree(parts / name, ignore_errors=True)  # the same videos, encoded anew
                os.replace(partial, parts / name)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise

    def publish(self, current: Mapping[str, str]) -> dict[str, int]:
        """Move all parts into the tables and return how many rows each table has.

        Videos that are not in `current` ({video_id: captions_hash}) are dropped. Doing it again,
        after it was cut short or not, changes nothing.
        """
        with _disk_errors(self.folder):
            for part in self._parts():
                for name in (*SCHEMAS, "sources"):  # the ledger last: it vouches for the others
                    if (part / f"{name}.parquet").is_file():
                        (self.folder / name).mkdir(exist_ok=True)
                        os.replace(
                            part / f"{name}.parquet", self.folder / name / f"{part.name}.parquet"
                        )
            shutil.rmtree(self.folder / _PARTS, ignore_errors=True)
            owners = self._owners(current)
            for file in self._files("sources"):
                self._drop_others(file.name, {v for v, owner in owners.items() if owner == file})
            return {
                name: sum(pq.read_metadata(file).num_rows for file in self._files(name))
                for name in TABLE_SCHEMAS
            }

    def _owners(self, current: Mapping[str, str]) -> dict[str, Path]:
        """Return the one part that each current video is read from.

        A video that failed and was tried again stands in two: what succeeded wins, then the newer.
        """
        ranked = [
            (status != "failed", file.stat().st_mtime_ns, file, video)
            for file in self._files("sources")
            for video, captions, status in _ledger_rows(file)
            if current.get(video) == captions
        ]
        return {video: file for _, _, file, video in sorted(ranked)}

    def _drop_others(self, part: str, videos: set[str]) -> None:
        """Leave only the rows of `videos` in the four files of `part`."""
        sources = self.folder / "sources" / part
        if set(pq.read_table(sources, columns=["video_id"])["video_id"].to_pylist()) == videos:
            return
        if not videos:
            for name in TABLE_SCHEMAS:
                (self.folder / name / part).unlink(missing_ok=True)
            return
        shots = self.folder / "shots" / part
        _filter_file(shots, "video_id", videos)
        kept_shots = set(pq.read_table(shots, columns=["shot_id"])["shot_id"].to_pylist())
        _filter_file(self.folder / "keyframes" / part, "shot_id", kept_shots)
        _filter_file(sources, "video_id", videos)

    def _files(self, name: str) -> list[Path]:
        return sorted((self.folder / name).glob("[!.]*.parquet"))

    def _parts(self) -> list[Path]:
        return sorted((self.folder / _PARTS).glob("[!.]*"))

    def _part_files(self, name: str) -> list[Path]:
        files = [part / f"{name}.parquet" for part in self._parts()]
        return [file for file in files if file.is_file()]


def _ledger_rows(file: Path) -> list[tuple[str, str, str]]:
    """Return id, captions hash and status of the videos in a file of the sources table."""
    table = pq.read_table(file, columns=["video_id", "captions_hash", "status"])
    return list(zip(*(table[c].to_pylist() for c in table.column_names), strict=True))


def _filter_file(file: Path, column: str, kept: set[str]) -> None:
    """Rewrite a Parquet file with the rows whose `column` is in `kept`, a row group at a time."""
    values = pa.array(sorted(kept), pa.string())
    temporary = file.with_name(f".{file.name}-{os.getpid()}.tmp")
    source = pq.ParquetFile(file)
    with pq.ParquetWriter(temporary, source.schema_arrow, compression="zstd") as writer:
        for number in range(source.num_row_groups):
            group = source.read_row_group(number)
            writer.write_table(group.filter(pc.is_in(group[column], value_set=values)))
    os.replace(temporary, file)


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"Cannot write the encoded dataset to {folder}: {error.strerror or error}; free some "
            "space or give another output, and run the same command to continue."
        ) from error
