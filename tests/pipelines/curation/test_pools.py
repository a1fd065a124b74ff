"""Pools follow the cluster, and blocks are enough for actors that join late."""

import pyarrow as pa
import pytest

from pipelines.curation import pools
from pipelines.curation.config import ResourceConfig
from pipelines.curation.ledger.shards import shards_of
from pipelines.curation.spool import ShardSpool

ROW = pa.schema([("name", pa.string())])


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("num_rows", "num_blocks"), [(0, 1), (5, 5), (pools.MAX_BLOCKS, pools.MAX_BLOCKS)]
)
def test_a_few_rows_are_a_block_each(num_rows, num_blocks, monkeypatch):
    monkeypatch.setattr(pools, "MAX_BLOCKS", 8)
    rows = [{"name": str(i)} for i in range(min(num_rows, 8))]
    blocks = pools.blocks_of_rows(rows, ROW)
    assert blocks.num_blocks() == min(num_blocks, 8)
    assert [row["name"] for row in blocks.take_all()] == [row["name"] for row in rows]


@pytest.mark.usefixtures("ray_cluster")
def test_many_rows_share_blocks(monkeypatch):
    monkeypatch.setattr(pools, "MAX_BLOCKS", 8)
    blocks = pools.blocks_of_rows([{"name": str(i)} for i in range(20)], ROW)
    assert blocks.num_blocks() == 7
    assert blocks.count() == 20


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("rows_in_memory", [0, 1000])
def test_the_rows_of_a_block_belong_to_one_shard(rows_in_memory, monkeypatch):
    monkeypatch.setattr(pools, "MAX_BLOCKS", 8)
    monkeypatch.setattr(pools, "ROWS_IN_MEMORY", rows_in_memory)
    spool = ShardSpool()
    for shard, names in zip(shards_of(2), ("abcde", "fghijklmnop"), strict=True):
        spool.put(shard, pa.table({"name": list(names)}))
    blocks = [
        b["name"].to_pylist()
        for b in pools.blocks_of(spool).iter_batches(batch_size=None, batch_format="pyarrow")
    ]
    assert sorted("".join(block) for block in blocks) == [
        "ab",
        "cd",
        "e",
        "fg",
        "hi",
        "jk",
        "lm",
        "no",
        "p",
    ]


def test_a_pool_may_grow_to_one_actor_per_video_whatever_the_cluster_is_now():
    assert pools.max_decoding_actors(ResourceConfig(), 500) == 500
    assert pools.max_decoding_actors(ResourceConfig(analyze_actors=3), 500) == 3
    assert pools.max_decoding_actors(ResourceConfig(analyze_actors=3), 2) == 2
    compute = pools.actor_pool(500, cpus=0.875)["compute"]
    assert (compute.min_size, compute.max_size) == (1, 500)


@pytest.mark.parametrize("cores", [1, 2, 4, 8])
def test_one_decoding_actor_per_core_fits_beside_the_one_that_embeds(cores):
    share = ResourceConfig()
    fitting = int((cores - share.embed_cpus) / share.analyze_cpus)
    assert cores <= fitting <= cores + 1


@pytest.mark.parametrize(
    ("nodes", "fitting"), [([], 2.0), ([0.0], 2.0), ([1.0], 1.0), ([4.0], 2.0)]
)
def test_an_actor_never_wants_more_cpus_than_the_largest_node_has(nodes, fitting, monkeypatch):
    alive = [{"Alive": True, "Resources": {"CPU": cpus}} for cpus in nodes]
    monkeypatch.setattr(pools.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(pools.ray, "nodes", lambda: alive)
    assert pools.fitting_cpus(2.0) == fitting
