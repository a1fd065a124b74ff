"""Reading an encoded dataset as memory-mapped arrays.

`filmweaver encode` writes Parquet, but training needs random access to single latents. So each
table is unpacked once to an uncompressed Arrow file, which every process on the machine maps. Knows
nothing about Ray. C channels, F latents, h x w latent cells, T text tokens, D text width, E
embedding width.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fw_model.errors import DataError
from fw_model.files.atomic import atomic_file
from fw_model.schemas.encoded import SCHEMAS, read_meta, text_id

Float16s = NDArray[np.float16]
Float32s = NDArray[np.float32]
Ints = NDArray[np.int64]


class EncodedDataset:
    """Shots, keyframes and texts by row number, in an order that depends only on content."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.meta = read_meta(self.folder)
        shots = self._open("shots", "video_id", "index", "shot_id")
        if shots.num_rows == 0:
            raise DataError(f"{self.folder} holds no encoded shot; run `filmweaver encode` first.")
        keyframes = self._open("keyframes", "shot_id", "frame", "keyframe_id")
        texts = self._open("texts", "text_id")
        self._shot_blobs, self._keyframe_blobs, self._text_blobs = shots, keyframes, texts

        self.shot_ids: list[str] = shots.strings("shot_id")
        self.videos = _codes(shots.strings("video_id"))  # [N]
        self.scenes = _codes(shots.strings("scene_id"))  # [N]
        self.shot_index = shots.integers("index")  # [N]
        self.num_latents = shots.integers("num_latents")  # [N]
        rows_of_text = {key: row for row, key in enumerate(texts.strings("text_id"))}
        self.empty_text = _lookup(rows_of_text, [text_id("")], "text")[0]
        self.shot_texts = _lookup(rows_of_text, shots.strings("text_id"), "text")  # [N]

        rows_of_shot = {key: row for row, key in enumerate(self.shot_ids)}
        self.keyframe_ids: list[str] = keyframes.strings("keyframe_id")
        self.keyframe_shots = _lookup(rows_of_shot, keyframes.strings("shot_id"), "shot")  # [M]
        self.keyframe_embeddings = keyframes.vectors("embedding", self.meta.embedding_width)
        self.text_embeddings = texts.vectors("clip_embedding", self.meta.embedding_width)
        self.texts: list[str] = texts.strings("text")
        self.fingerprint = self._fingerprint()

    def _open(self, table: str, *order: str) -> _MappedTable:
        return _MappedTable(self.folder, table, self.meta.files, order)

    @property
    def num_shots(self) -> int:
        return len(self.shot_ids)

    def latents(self, shot: int, start: int, stop: int) -> Float16s:
        """Return latents [start, stop) of `shot`: [C, stop - start, h, w]."""
        channels, rows, columns = self.meta.latent_shape
        shape = (channels, int(self.num_latents[shot]), rows, columns)
        return self._shot_blobs.array("latents", shot, shape)[:, start:stop]

    def keyframe_latents(self, keyframe: int) -> Float16s:
        """Return the latent of a keyframe, encoded alone: [C, 1, h, w]."""
        channels, rows, columns = self.meta.latent_shape
        return self._keyframe_blobs.array("latents", keyframe, (channels, 1, rows, columns))

    def text_tokens(self, text: int) -> Float16s:
        """Return the token embeddings of a text, without padding: [T, D]."""
        return self._text_blobs.array("embedding", text, (-1, self.meta.text_width))

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(self.meta.encode_hash.encode())
        for ids in (self.shot_ids, self.keyframe_ids):
            digest.update("\n".join(ids).encode() + b"\0")
        return digest.hexdigest()[:16]


class _MappedTable:
    """One table, sorted by `order`; it stays on disk and is mapped."""

    def __init__(self, folder: Path, name: str, files: Sequence[str], order: Sequence[str]) -> None:
        self._where = folder / name
        self._table = _map_table(folder, name, files)
        keys = [(column, "ascending") for column in order]
        index_table = self._table.select(list(order))
        positions = pc.sort_indices(index_table, sort_keys=keys).to_numpy()
        self._rows: Ints = positions.astype(np.int64)
        self._blobs: dict[str, list[pa.Array]] = {}

    @property
    def num_rows(self) -> int:
        return len(self._rows)

    def strings(self, column: str) -> list[str]:
        values = self._table[column].to_pylist()
        return [values[row] for row in self._rows]

    def integers(self, column: str) -> Ints:
        values: Ints = self._table[column].to_numpy().astype(np.int64)
        return values[self._rows]

    def vectors(self, column: str, width: int) -> Float32s:
        flat = self._table[column].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        if flat.size != width * self.num_rows:
            raise DataError(
                f"{self._where}: {column} holds {flat.size} numbers for {self.num_rows} rows of "
                f"width {width}; encode the dataset again."
            )
        values: Float32s = flat.reshape(-1, width)[self._rows].astype(np.float32)
        return values

    def array(self, column: str, row: int, shape: tuple[int, ...]) -> Float16s:
        """Return one cell of a binary column as float16 `shape`, without copying it."""
        chunks = self._blobs.setdefault(column, self._table[column].chunks)
        position = int(self._rows[row])
        for chunk in chunks:
            if position < len(chunk):
                break
            position -= len(chunk)
        values = np.frombuffer(chunk[position].as_buffer(), dtype=np.float16)
        try:
            return values.reshape(shape)
        except ValueError as error:
            raise DataError(
                f"{self._where}: row {row} has {values.size} numbers in {column}, which do not fit "
                f"{shape}; encode the dataset again."
            ) from error


def _map_table(folder: Path, name: str, names: Sequence[str]) -> pa.Table:
    """Map the unpacked form of a table; unpack its Parquet files first if they are new."""
    files = [folder / name / file for file in sorted(names)]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise DataError(f"{missing[0]} is missing; run `filmweaver encode` again.")
    stamp = hashlib.sha256()
    for file in files:
        stat = file.stat()
        stamp.update(f"{file.resolve()}:{stat.st_size}:{stat.st_mtime_ns}\n".encode())
    unpacked_name = f"{name}-{stamp.hexdigest()[:16]}.arrow"
    for cache in (folder / ".unpacked", Path(tempfile.gettempdir()) / "filmweaver-unpacked"):
        unpacked = cache / unpacked_name
        if not unpacked.is_file():
            try:
                _unpack(files, unpacked, SCHEMAS[name])
            except PermissionError:
                continue  # the dataset is on read-only storage: use the machine's own disk
            except (pa.ArrowException, OSError, ValueError) as error:
                if getattr(error, "errno", None) is not None:
                    raise  # the disk failed, not the file
                raise DataError(
                    f"{folder / name} cannot be read ({error}); encode the dataset again."
                ) from error
        return pa.ipc.open_file(pa.memory_map(str(unpacked))).read_all()
    raise DataError(
        f"Cannot write to {folder} or to {tempfile.gettempdir()}; make one of them writable."
    )


def _unpack(files: Sequence[Path], target: Path, schema: pa.Schema) -> None:
    """Write all rows of `files` to one uncompressed Arrow file."""
    with atomic_file(target) as unpacked, pa.ipc.new_file(unpacked, schema) as writer:
        for file in files:
            source = pq.ParquetFile(file)
            _check_columns(file, source.schema_arrow.names, schema)
            for batch in source.iter_batches(batch_size=64, columns=schema.names):
                writer.write_batch(batch.select(schema.names).cast(schema))


def _check_columns(file: Path, names: Sequence[str], schema: pa.Schema) -> None:
    missing = [name for name in schema.names if name not in names]
    if missing:
        raise DataError(f"{file} has no column {missing[0]}; encode the dataset again.")


def _codes(names: Sequence[str]) -> Ints:
    return np.unique(np.asarray(names, dtype=object).astype(str), return_inverse=True)[1]


def _lookup(rows: dict[str, int], keys: Sequence[str], what: str) -> Ints:
    missing = [key for key in keys if key not in rows]
    if missing:
        raise DataError(
            f"{len(missing)} {what} rows are missing in the encoded dataset (first: {missing[0]}); "
            "run `filmweaver encode` again to complete it."
        )
    return np.array([rows[key] for key in keys], dtype=np.int64)
