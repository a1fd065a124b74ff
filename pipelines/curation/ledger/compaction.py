"""Merges the small files of a shard of a ledger, so that the next run reads few large ones, and
divides those of runs with fewer shards.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.curation.ledger.ledger import Ledger, RowT, joined
from pipelines.curation.ledger.shards import Shard, shard_of
from pipelines.storage.parallel import REQUESTS_TOGETHER, in_parallel

MAX_SMALL_FILES = 512  # of a single shard
MAX_SMALL_FILES_PER_SHARD = 16
SMALL_BYTES = 32 * 1024 * 1024
FULL_BYTES = 64 * 1024 * 1024


def compact(ledger: Ledger[RowT], shard: Shard) -> None:
    """Merge the small files of a shard if there are many, into files sorted by id.

    Superseded rows stay. A crash in between leaves rows in two files; readers return them once, and
    the next compaction keeps them once.
    """
    merged, runs = ledger.runs(shard)
    small = [key for key, size_bytes in merged.items() if size_bytes < SMALL_BYTES]
    loose = [key for run in runs for key in ledger.store.keys(run, ".parquet")]
    most = MAX_SMALL_FILES if shard.count == 1 else MAX_SMALL_FILES_PER_SHARD
    if len(small) + len(loose) <= most:
        return
    written = _merge_all(ledger, shard, small + loose)
    ledger.store.delete_many(set(small) - written)
    for run in runs:  # with few requests for all of its files
        ledger.store.delete_folder(run)


def _merge_all(ledger: Ledger[RowT], shard: Shard, small: list[str]) -> set[str]:
    """Write the rows of small files in few large ones; return the keys of these."""
    written: set[str] = set()
    tables: list[pa.Table] = []
    num_bytes = 0
    shrinkage = 1.0  # size of a file divided by the size of its rows in memory
    for i in range(0, len(small), REQUESTS_TOGETHER):
        few = small[i : i + REQUESTS_TOGETHER]
        for table in in_parallel(ledger.store.read_table, few):
            tables.append(table)
            num_bytes += table.nbytes
            if num_bytes * shrinkage >= FULL_BYTES:
                key, size_bytes = _merge(ledger, shard, tables)
                written.add(key)
                shrinkage = size_bytes / num_bytes
                tables, num_bytes = [], 0
        if tables:  # a small table takes more memory than its rows
            tables = [joined(tables).combine_chunks()]
    if tables:
        written.add(_merge(ledger, shard, tables)[0])
    return written


def divide(ledger: Ledger[RowT], key: str, count: int) -> None:
    """Replace a file of a run with fewer shards by one file for each of `count` shards with rows.

    The rows must have the address of their video.
    """
    rows = ledger.store.find_table(key)
    if rows is None:
        return  # an earlier try got this far
    shards = [shard_of(uri, count) for uri in rows["uri"].to_pylist()]
    places: dict[Shard, list[int]] = {}
    for place, shard in enumerate(shards):
        places.setdefault(shard, []).append(place)
    in_parallel(lambda shard: ledger.write_merged(rows.take(places[shard]), shard), places)
    ledger.store.delete(key)


def _merge(ledger: Ledger[RowT], shard: Shard, tables: list[pa.Table]) -> tuple[str, int]:
    """Write rows in one file; return its key and its size in bytes."""
    rows = joined(tables)
    rows = rows.sort_by([(ledger.id_column, "ascending"), ("attempts", "ascending")])
    key, written = ledger.write_merged(_once(rows, ledger.id_column), shard)
    return key, written.size_bytes


def _once(rows: pa.Table, id_column: str) -> pa.Table:
    """Return sorted rows without those that equal the one before in id and attempts."""
    if rows.num_rows < 2:
        return rows
    same = pa.array([True] * (rows.num_rows - 1))
    for name in (id_column, "attempts"):
        column = rows[name].combine_chunks()
        same = pc.and_(same, pc.equal(column[1:], column[:-1]))
    return rows.filter(pa.concat_arrays([pa.array([True]), pc.invert(same)]))
