"""Ranges of bytes: what a key names, and how few requests read them."""

import hashlib

import pytest

from pipelines.curation.ledger import packs
from pipelines.curation.ledger.packs import PackWriter
from pipelines.storage import byte_ranges
from pipelines.storage.byte_ranges import ByteRange, read_ranges
from pipelines.storage.store import Store


@pytest.mark.parametrize("key", ["a/b.jpg", "a/b.pack#0,7", "odd#name.bin#12,3"])
def test_a_key_is_that_of_the_range_it_names(key):
    assert ByteRange.parse(key).key == key


def test_ranges_that_are_near_are_read_together_and_far_ones_apart(monkeypatch):
    monkeypatch.setattr(byte_ranges, "MAX_GAP_BYTES", 5)
    monkeypatch.setattr(byte_ranges, "MAX_READ_BYTES", 40)
    data = bytes(range(200))
    reads = []

    def read_at(length, offset):
        reads.append((offset, length))
        return data[offset : offset + length]

    wanted = [(50, 10), (0, 10), (12, 8), (62, 20), (90, 5), (0, 10), (84, 30)]
    found = read_ranges([ByteRange("f", *span) for span in wanted], len(data), read_at)
    assert found == [data[offset : offset + length] for offset, length in wanted]
    assert reads == [(0, 20), (50, 32), (84, 30)]
    assert read_ranges([ByteRange("f")], len(data), read_at) == [data]


def pictures(number, size):
    found = [bytes([n]) * size for n in range(number)]
    return {hashlib.sha256(data).hexdigest(): data for data in found}


def test_a_pack_holds_the_wanted_pictures_and_no_others(tmp_path):
    store, found = Store(str(tmp_path)), pictures(5, 100)
    pack = PackWriter(store)
    for sha256, data in found.items():
        pack.add(sha256, data)
    wanted = list(found)[1:4]
    keys = pack.close(wanted)
    (file,) = store.keys("media")
    assert len(store.read(file)) == 300
    assert store.read_many([keys[name] for name in wanted]) == [found[name] for name in wanted]
    assert pack.close([]) == {} and store.keys("media") == [file]


def test_a_large_pack_is_written_before_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(packs, "MAX_PACK_BYTES", 250)
    store, found = Store(str(tmp_path)), pictures(7, 100)
    pack = PackWriter(store)
    for sha256, data in [*found.items(), *found.items()]:
        pack.add(sha256, data)
    assert len(store.keys("media")) == 2
    assert [pack.waiting(name) is None for name in found] == [True] * 6 + [False]
    keys = pack.close(list(found))
    assert store.read_many(list(keys.values())) == list(found.values())
    assert len(store.keys("media")) == 3
