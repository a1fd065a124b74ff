"""What version 0.1 wrote still opens: runs, datasets, curated outputs, databases, settings.

The files under v0_1 were written by version 0.1 and are never made again.
"""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient

from cluster.config import load_config
from fw_model.backbones.wan import WanBackbone
from fw_model.errors import ConfigError
from fw_model.loading.record import read_record
from fw_model.schemas.curated_rows import ShotRow
from fw_model.training.config import TrainingConfig
from fw_model.training.data.dataset import EncodedDataset
from fw_model.training.local import train_here
from fw_model.training.metrics import read_metrics
from pipelines.curation.ledger.tables import read_published
from pipelines.curation.report.page import write_report
from pipelines.curation.report.summary import read_summary
from pipelines.encoding.captioned_videos import read_curated
from pipelines.storage.store import Store
from tests.encoded_films import small_model

sys.path.insert(0, str(Path(__file__).parent.parent / "serve"))

from fake_generator import FakeGenerator

from serve.config import ServingConfig
from serve.http.api import create_api
from serve.http.dependencies import FrameSize, open_context
from serve.stores.address import StoreAddress
from serve.work.generators import LoadedGenerator
from serve.work.worker import Worker


@pytest.fixture
def written(tmp_path):
    """A copy of what version 0.1 wrote, to be changed by a test."""
    return Path(shutil.copytree(Path(__file__).parent / "v0_1", tmp_path / "v0_1"))


def test_an_interrupted_training_run_continues_on_the_same_curve(written, tmp_path):
    config = TrainingConfig.model_validate_json((written / "training.json").read_text())
    before = [line["loss"] for line in read_metrics(written / "trained" / "metrics.jsonl")]
    saved_before = (written / "trained" / "checkpoint" / "filmweaver.json").stat().st_mtime_ns
    model = small_model(tmp_path / "model")
    exported = train_here(config, model, written / "encoded", written / "trained")
    after = [line["loss"] for line in read_metrics(written / "trained" / "metrics.jsonl")]
    assert len(before) == 12
    assert after == pytest.approx(before, rel=1e-5)
    assert exported == written / "trained" / "checkpoint"
    assert (exported / "filmweaver.json").stat().st_mtime_ns > saved_before
    assert not (written / "trained" / "model").exists()
    assert not (written / "trained" / "train_state").exists()


def test_an_exported_model_loads(written):
    folder = written / "trained" / "checkpoint"
    record = read_record(folder)
    backbone = WanBackbone.load(folder, record.cache, torch.float32)
    assert backbone.latent_channels == 4


def test_an_encoded_dataset_opens(written):
    data = EncodedDataset(written / "encoded")
    assert data.num_shots == 9
    assert data.latents(0, 0, 1).shape == (4, 1, 4, 4)


def test_a_curated_output_opens_and_can_be_encoded(written):
    store = Store(str(written / "curated"))
    assert len(read_published(store, ShotRow, ["shot_id"])) == 4
    assert read_summary(store).shots_dropped == 1
    write_report(store)
    assert b"Curation report" in store.read("report.html")
    videos = read_curated(written / "curated")
    assert sum(len(video.shots) for video in videos) == 3


def test_a_database_with_a_waiting_job_is_opened_and_the_job_finished(written, monkeypatch):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    config = ServingConfig(data_dir=str(written / "server"))
    context = open_context(config, StoreAddress.of(config), FrameSize(64, 48))
    client = TestClient(create_api(context))
    (story,) = client.get("/v1/stories").json()["stories"]
    film = f"/v1/stories/{story['story_id']}/video.mp4"
    before = client.get(film).content
    loaded = LoadedGenerator(FakeGenerator(), fps=12.0, embedder_id="fake-16")
    worker = Worker(
        "worker", database=context.database, blobs=context.blobs, loaded=loaded, config=config
    )
    assert worker.step()
    assert not worker.step()
    assert len(client.get(film).content) > len(before) > 0
    context.database.close()


@pytest.mark.parametrize(
    ("old", "new"), [("model.codec", "model.vae"), ("evaluation.oracle", "evaluation.toy_judge")]
)
def test_a_setting_that_was_renamed_is_answered_with_its_new_name(old, new, tmp_path):
    section, name = old.split(".")
    file = tmp_path / "old.yaml"
    file.write_text(json.dumps({section: {name: {"kind": "wan"}}}))
    with pytest.raises(ConfigError, match=new):
        load_config("tiny", file)


def test_a_setting_without_effect_is_refused_with_what_to_set_instead(tmp_path):
    file = tmp_path / "old.yaml"
    file.write_text(json.dumps({"model": {"backbone": {"path": None}}}))
    with pytest.raises(ConfigError, match=r"backbone.path never had an effect; remove it"):
        load_config("tiny", file)
