"""Blobs, schema and films at rest."""

import errno
import io
import os
import time

import av
import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from fake_generator import FakeGenerator
from sqlalchemy import create_engine, text

from fw_model.errors import ConfigError, StorageError
from serve.stores.blobs import BlobStore
from serve.stores.database import Database
from serve.stores.tables import Base
from serve.work.cleanup import clean_up
from serve.work.films import FilmCache, encode_fragment, join_fragments


def pictures(num_frames, seed=0, size=(16, 24)):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (num_frames, size[0] // 8, size[1] // 8, 3), dtype=np.uint8)
    return small.repeat(8, axis=1).repeat(8, axis=2)


def decode(source):
    with av.open(source) as container:
        stream = container.streams.video[0]
        frames = [(f.pts * stream.time_base, f.to_ndarray(format="rgb24"))
                  for f in container.decode(stream)]  # fmt: skip
    return [float(at) for at, _ in frames], np.stack([frame for _, frame in frames])


def test_the_migrations_make_what_the_tables_say(migrated):
    engine = create_engine(f"sqlite:///{migrated}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()


def test_a_second_process_finds_the_schema_as_it_is(tmp_path):
    url = f"sqlite:///{tmp_path / 'a.db'}"
    for _ in range(2):
        database = Database(url)
        database.migrate()
        database.close()


def test_a_committed_row_survives_a_power_cut(context):
    with context.database.reading() as session:
        pragma = {
            name: session.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragma == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


@pytest.mark.parametrize("url", ["mysql://host/name", "nonsense"])
def test_a_database_of_another_kind_is_refused(url):
    with pytest.raises(ConfigError, match="DATABASE_URL"):
        Database(url)


def test_a_blob_is_found_under_its_hash_and_told_when_damaged(tmp_path):
    blobs = BlobStore(str(tmp_path))
    stored = blobs.put(b"a bear", "text/plain")
    assert blobs.put(b"a bear", "text/plain") == stored
    assert blobs.get(stored.key) == b"a bear"
    [path] = [p for p in tmp_path.rglob("*") if p.is_file()]
    path.write_bytes(b"a boar")
    with pytest.raises(StorageError, match="damaged"):
        blobs.get(stored.key)
    blobs.delete(stored.key)
    with pytest.raises(StorageError, match="Cannot read"):
        blobs.get(stored.key)


def test_a_full_disk_leaves_no_half_blob(tmp_path, monkeypatch):
    blobs = BlobStore(str(tmp_path))

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="the disk is full"):
        blobs.put(b"a bear", "text/plain")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_blobs_may_lie_behind_a_uri(tmp_path):
    blobs = BlobStore(tmp_path.as_uri())
    stored = blobs.put(b"a bear", "text/plain")
    assert blobs.get(stored.key) == b"a bear"
    assert blobs.list_older(2**40) == [stored.key]
    with pytest.raises(ConfigError, match="blobs_uri"):
        BlobStore("nowhere://bucket")


def test_a_worker_outlives_storage_that_it_cannot_list(context, make_worker, tmp_path):
    context.blobs._root = str(tmp_path / "file")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="Cannot list"):
        context.blobs.list_older(2**40)
    make_worker()._clean_up_when_due()


def test_only_old_blobs_that_nothing_names_are_swept(client, story, add_shot, context, work_off):
    add_shot("a bear walks", 2)
    work_off()
    orphan = context.blobs.put(b"an orphan", "text/plain")
    context.database.clock.now = time.time() + 3600
    assert clean_up(context.database, context.blobs, idempotency_s=1) == 0, "all are young"
    context.database.clock.now = time.time() + 2 * 24 * 3600
    assert clean_up(context.database, context.blobs, idempotency_s=1) == 1
    with pytest.raises(StorageError):
        context.blobs.get(orphan.key)
    assert client.get(story["video_url"]).status_code == 200
    client.delete(f"/v1/stories/{story['story_id']}")
    assert clean_up(context.database, context.blobs, idempotency_s=1) > 4
    assert context.blobs.list_older(2**40) == []


def test_equal_frames_give_equal_fragments():
    frames = pictures(9)
    assert encode_fragment(frames, fps=12, crf=16) == encode_fragment(frames, fps=12, crf=16)


def test_joined_fragments_play_every_frame_at_its_time(tmp_path):
    parts = [pictures(9, 1), pictures(12, 2), pictures(12, 3)]
    fragments = [encode_fragment(part, fps=12, crf=10) for part in parts]
    join_fragments(fragments, tmp_path / "film.mp4")
    times, frames = decode(str(tmp_path / "film.mp4"))
    assert times == pytest.approx([number / 12 for number in range(33)])
    alone = np.concatenate([decode(io.BytesIO(fragment))[1] for fragment in fragments])
    assert np.array_equal(frames, alone), "joining re-encodes nothing"


def test_the_film_cache_drops_the_oldest_films_first(tmp_path):
    blobs = BlobStore(str(tmp_path / "blobs"))
    keys = [
        blobs.put(encode_fragment(pictures(9, seed), fps=12, crf=16), "video/mp4").key
        for seed in range(3)
    ]
    cache = FilmCache(tmp_path / "films", blobs, max_bytes=1)
    first = cache.film(keys[:1])
    assert cache.film(keys[:1]) == first
    second = cache.film(keys)
    assert second.exists()
    assert not first.exists()


def test_a_film_that_does_not_fit_on_the_disk_is_not_left_half(tmp_path, monkeypatch):
    blobs = BlobStore(str(tmp_path / "blobs"))
    key = blobs.put(encode_fragment(pictures(9), fps=12, crf=16), "video/mp4").key

    def full(_source, _target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="the disk is full"):
        FilmCache(tmp_path / "films", blobs, max_bytes=2**30).film([key])
    assert list((tmp_path / "films").iterdir()) == []


def test_the_same_request_is_drawn_alike_by_two_generators(client, add_shot, work_off, make_worker):
    generator = FakeGenerator()
    add_shot("a bear walks", 2)
    work_off(make_worker(generator=generator))
    for request in generator.requests:
        one, two = (FakeGenerator().generate_chunk(request) for _ in range(2))
        assert np.array_equal(one.frames, two.frames)
