"""Finds near-duplicate shots among all shards: which functions run over what, and in which order.

    for each shard      the bands of its shots' fingerprints
    for each band       the shots that share its value, in pairs
    once                groups of shots that pairs connect
    for each shard      the values by which its shots in groups are compared, dealt out by group
    for each deal       the shots that repeat an earlier one

Only the last step looks at shots, and only at those in groups. Of the same footage, the shot that
comes first by address and position is kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.curation.assembly.analyzed_shard import (
    NUMBERS_PER_SHARD,
    AnalyzedShard,
    AssemblyInput,
)
from pipelines.curation.assembly.assemble import shot_prints
from pipelines.curation.assembly.near_duplicates import (
    Numbers,
    ShotPrint,
    bands,
    find_duplicates,
    groups_of,
    middle,
    pairs_in_band,
)
from pipelines.curation.config import FilterConfig
from pipelines.curation.ledger.shards import Shard
from pipelines.curation.shard_tasks import ShardTasks

MAX_DEALS = 16
NO_NUMBERS = np.zeros(0, np.int64)

ShardsWithSources = Callable[[], Iterator[tuple[Shard, pa.Table]]]


class Candidate(NamedTuple):
    """A shot in a group, comparable by group and by place."""

    group: int
    uri: str
    number: int
    shot: ShotPrint


def search_duplicates(tasks: ShardTasks, given: Any, shards: ShardsWithSources) -> list[Any]:
    """Return results of `tasks`: the sorted numbers of the shots that repeat others.

    given: an AssemblyInput, or what `tasks.put` returned for one; shards: gives the listed videos
    of each shard, and is called twice.
    """
    config: FilterConfig = tasks.get(given).config.filters
    if config.duplicate_distance_bits is None:
        return []
    num_bands = config.duplicate_distance_bits + 1
    work = ((given, shard, sources, num_bands) for shard, sources in shards())
    by_shard = list(tasks.each(shard_bands, work, parts=num_bands + 1))
    numbers = [found[0] for found in by_shard]
    pairs = [
        tasks.submit(band_pairs, *numbers, *(found[1 + band] for found in by_shard))
        for band in range(num_bands)
    ]
    groups = tasks.submit(all_groups, *pairs)
    num_deals = max(2, min(MAX_DEALS, len(by_shard)))
    deals = ((given, shard, sources, groups, num_deals) for shard, sources in shards())
    dealt = list(tasks.each(deal_candidates, deals, parts=num_deals))
    return [tasks.submit(compare, config, *deal) for deal in zip(*dealt, strict=True)]


def shard_bands(
    given: AssemblyInput, shard: Shard, sources: pa.Table, num_bands: int
) -> list[NDArray[np.int64] | NDArray[np.uint64]]:
    """Return the numbers [N] of a shard's shots, then each band [N] of their fingerprints."""
    shots = list(AnalyzedShard(given, shard, sources).fingerprints())
    if not shots:
        return [NO_NUMBERS, *[NO_NUMBERS.astype(np.uint64)] * num_bands]
    values = bands([middle(prints) for _, prints in shots], num_bands)  # [N, bands]
    numbers = np.array([number for number, _ in shots], np.int64)
    return [numbers, *(np.ascontiguousarray(column) for column in values.T)]


def band_pairs(*arrays: Any) -> Numbers:
    """Return the pairs of one band; arrays: the numbers of each shard, then its values."""
    half = len(arrays) // 2
    return pairs_in_band(np.concatenate(arrays[:half]), np.concatenate(arrays[half:]))


def all_groups(*pairs: Numbers) -> Numbers:
    """Return the groups of the pairs of all bands."""
    return groups_of(np.unique(np.concatenate(pairs), axis=0))


def deal_candidates(
    given: AssemblyInput, shard: Shard, sources: pa.Table, groups: Numbers, num_deals: int
) -> list[list[Candidate]]:
    """Return the shard's shots in groups that pass the filters, a whole group in one deal."""
    deals: list[list[Candidate]] = [[] for _ in range(num_deals)]
    first = shard.index * NUMBERS_PER_SHARD
    own = slice(*np.searchsorted(groups[:, 0], [first, first + NUMBERS_PER_SHARD]))
    group_of = dict(groups[own].tolist())
    if not group_of:
        return deals
    videos = AnalyzedShard(given, shard, sources)
    for start, video in videos.read(videos.videos_of(group_of)):
        places = [i for i in range(len(video["shots"])) if start + i in group_of]
        number_of = {video["shots"][i]["shot_id"]: start + i for i in places}
        video["shots"] = [video["shots"][i] for i in places]
        for shot in shot_prints(video, given.scores(video), given.config.filters):
            number = number_of[shot.shot_id]
            group = group_of[number]
            deals[group % num_deals].append(Candidate(group, video["uri"], number, shot))
    return deals


def compare(config: FilterConfig, *shards: list[Candidate]) -> Numbers:
    """Return the sorted numbers of the shots that repeat an earlier one of their group."""
    candidates = sorted((c for shard in shards for c in shard), key=lambda c: c[:3])
    repeated = []
    for _, group in itertools.groupby(candidates, key=lambda c: c.group):
        found = list(group)
        duplicates = find_duplicates((c.shot for c in found), config)
        repeated += [c.number for c in found if c.shot.shot_id in duplicates]
    return np.array(sorted(repeated), np.int64)
