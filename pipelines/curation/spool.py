"""Tables on the local disk, one per shard: what would be too much for memory, while a run lasts.

Knows nothing about what the rows mean, except that a source has an address.
"""

from __future__ import annotations

import weakref
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.curation.ledger.shards import HASH_BITS, Shard, hash_of
from pipelines.storage.tempdirs import temporary_folder

PARTITION_BITS = 8
ROWS_AT_ONCE = 65_536


class ShardSpool:
    """Tables by shard. The files are removed with the object, also if the process is killed."""

    def __init__(self) -> None:
        stack = ExitStack()
        self._folder = stack.enter_context(temporary_folder())
        self.num_rows: dict[Shard, int] = {}
        weakref.finalize(self, stack.close)

    def __len__(self) -> int:
        return sum(self.num_rows.values())

    def put(self, shard: Shard, table: pa.Table) -> None:
        """Keep the rows of a shard; nothing is kept of an empty table."""
        if table.num_rows:
            with pa.OSFile(str(self._file(shard)), "w") as file, _writer(file, table) as writer:
                writer.write_table(table)
            self.num_rows[shard] = table.num_rows

    def tables(self) -> Iterator[tuple[Shard, pa.Table]]:
        """Yield the shards that have rows, in order, with their rows."""
        for shard in sorted(self.num_rows):
            with pa.OSFile(str(self._file(shard))) as file:
                yield shard, pa.ipc.open_stream(file).read_all()

    def only(self, column: str, values: Collection[str]) -> ShardSpool:
        """Return another spool with the rows that have one of these values."""
        found = ShardSpool()
        for shard, table in self.tables():
            found.put(shard, table.filter(pc.is_in(table[column], pa.array(list(values)))))
        return found

    def count_in_lists(self, column: str) -> int:
        """Return how many entries the lists of a column have together."""
        return sum(pc.sum(pc.list_value_length(t[column])).as_py() for _, t in self.tables())

    def _file(self, shard: Shard) -> Path:
        return self._folder / f"{shard.index:05d}"


class SourceSpool:
    """The listed videos, each once, by hash of their addresses.

    They are spread over a fixed number of files, because the number of shards follows from the
    number of videos.
    """

    SCHEMA = pa.schema(
        [("uri", pa.string()), ("size_bytes", pa.int64()), ("modified", pa.string())]
    )

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._folder = self._stack.enter_context(temporary_folder())
        self._waiting: list[pa.Table] = []
        self._writers: dict[int, pa.RecordBatchWriter] = {}
        self._num_rows: dict[int, int] = {}
        weakref.finalize(self, self._stack.close)

    def __len__(self) -> int:
        return sum(self._num_rows.values())

    def add(self, videos: pa.Table) -> None:
        """Add rows of SCHEMA, before `close`."""
        self._waiting.append(videos)
        if sum(table.num_rows for table in self._waiting) >= ROWS_AT_ONCE:
            self._spread()

    def close(self) -> None:
        """End adding; of rows with the same address, only the first stays."""
        self._spread()
        for number, writer in self._writers.items():
            writer.close()
            table = self._read(number)
            firsts = table.append_column("place", pa.array(range(table.num_rows))).group_by(
                "uri", use_threads=False
            )
            places = firsts.aggregate([("place", "min")])["place_min"]
            table = table.take(places).sort_by("uri")
            with pa.OSFile(str(self._file(number)), "w") as file, _writer(file, table) as target:
                target.write_table(table)
            self._num_rows[number] = table.num_rows
        self._writers = {}

    def shard(self, shard: Shard) -> pa.Table:
        """Return the videos of a shard, after `close`."""
        count = 1 << PARTITION_BITS
        if shard.count <= count:
            each = count // shard.count
            numbers = range(shard.index * each, (shard.index + 1) * each)
            return self._concatenated([n for n in numbers if n in self._num_rows])
        table = self._concatenated([n for n in [shard.within(count).index] if n in self._num_rows])
        hashes = _hashes(table["uri"])
        return table.filter(pa.array(hashes * shard.count >> HASH_BITS == shard.index))

    def some_found(self, least: int = 1000) -> list[str]:
        """Return the addresses of at least that many videos whose files were found, if there are
        as many, after `close`."""
        found: list[str] = []
        for number in sorted(self._num_rows):
            table = self._read(number)
            found += table.filter(pc.greater_equal(table["size_bytes"], 0))["uri"].to_pylist()
            if len(found) >= least:
                break
        return found

    def _concatenated(self, numbers: list[int]) -> pa.Table:
        return pa.concat_tables([self.SCHEMA.empty_table(), *map(self._read, numbers)])

    def _spread(self) -> None:
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting).combine_chunks()
        self._waiting = []
        numbers = (_hashes(table["uri"]) >> (HASH_BITS - PARTITION_BITS)).astype(np.int64)
        table = table.take(pa.array(np.argsort(numbers, kind="stable")))
        ends = np.cumsum(np.bincount(numbers, minlength=1 << PARTITION_BITS))
        for number, end in enumerate(ends.tolist()):
            start = int(ends[number - 1]) if number else 0
            if end > start:
                self._writer(number).write_table(table.slice(start, end - start))

    def _writer(self, number: int) -> pa.RecordBatchWriter:
        if number not in self._writers:
            self._writers[number] = pa.ipc.new_stream(str(self._file(number)), self.SCHEMA)
        return self._writers[number]

    def _read(self, number: int) -> pa.Table:
        with pa.OSFile(str(self._file(number))) as file:
            return pa.ipc.open_stream(file).read_all()

    def _file(self, number: int) -> Path:
        return self._folder / f"{number:05d}"


def _writer(file: pa.NativeFile, table: pa.Table) -> pa.RecordBatchWriter:
    return pa.ipc.new_stream(file, table.schema)


def _hashes(uris: pa.ChunkedArray) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.fromiter(map(hash_of, uris.to_pylist()), np.uint64, len(uris))
