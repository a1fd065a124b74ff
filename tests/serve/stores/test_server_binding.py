"""What a database is served with, and who is turned away from it."""

import shutil

import fake_generator
import pytest

from fw_model.errors import ConfigError
from fw_model.generation.request import GenerationConfig
from fw_model.loading.config import ModelConfig
from serve.config import ServingConfig
from serve.stores import server_binding
from serve.stores.address import StoreAddress
from serve.work.generators import load_generator, load_story_generator


@pytest.fixture(autouse=True)
def _no_other_database(monkeypatch):
    monkeypatch.delenv("DATABASE_URL", raising=False)


def open_and_close(**settings):
    database, _ = StoreAddress.of(ServingConfig(**settings)).open()
    database.close()


def test_a_database_keeps_to_its_first_blobs_until_told_otherwise(tmp_path):
    data_dir, other = str(tmp_path / "serve"), str(tmp_path / "other")
    open_and_close(data_dir=data_dir)
    with pytest.raises(ConfigError, match="rebind") as error:
        open_and_close(data_dir=data_dir, blobs_uri=other)
    assert "'blobs'" in str(error.value)
    assert other in str(error.value)
    open_and_close(data_dir=data_dir, blobs_uri=other, rebind=True)
    open_and_close(data_dir=data_dir, blobs_uri=other)
    with pytest.raises(ConfigError, match="rebind"):
        open_and_close(data_dir=data_dir)


def test_a_data_folder_may_be_moved_as_a_whole(tmp_path):
    open_and_close(data_dir=str(tmp_path / "old"))
    shutil.move(tmp_path / "old", tmp_path / "new")
    open_and_close(data_dir=str(tmp_path / "new"))


def test_a_relative_place_of_blobs_is_that_of_the_starting_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    address = StoreAddress.of(ServingConfig(data_dir="serve", blobs_uri="shared/blobs"))
    assert address.blobs_uri == str(tmp_path / "shared" / "blobs")


def test_a_process_opens_the_database_of_who_started_the_server(tmp_path, monkeypatch):
    address = StoreAddress.of(ServingConfig(data_dir=str(tmp_path)))
    monkeypatch.setenv("DATABASE_URL", "postgresql://production/stories")
    database, _ = address.open()
    assert database.is_sqlite
    database.close()


def test_another_model_is_turned_away_unless_accepted(context, config, monkeypatch):
    def load(weights, **changes):
        monkeypatch.setattr("serve.work.generators.model_fingerprint", lambda _model: weights)
        chosen = config.model_copy(update={"generator": "fake_generator:load", **changes})
        return load_generator(context.database, chosen, ModelConfig(), GenerationConfig())

    assert isinstance(load("aaaa").generator, fake_generator.FakeGenerator)
    load("aaaa")
    with pytest.raises(ConfigError, match=r"aaaa.*bbbb.*rebind"):
        load("bbbb")
    load("bbbb", rebind=True)
    load("bbbb")


def test_a_generator_says_which_frames_it_can_draw(context, config, tiny_model, monkeypatch):
    monkeypatch.setattr("fw_model.loading.load.load_model", lambda _config: tiny_model)
    load_generator(context.database, config, ModelConfig(), GenerationConfig())
    with context.database.reading() as session:
        assert server_binding.read(session, server_binding.FRAME_MULTIPLE) == "8"
    assert load_story_generator(ModelConfig(), GenerationConfig()).frame_multiple == 8
