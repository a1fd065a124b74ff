"""Ray Train, Ray Data and DeepSpeed together train what one plain process trains."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from fw_model.errors import DataError
from fw_model.training.data.batch import Batch
from fw_model.training.data.dataset import EncodedDataset
from fw_model.training.data.plan import TrainingPlan
from fw_model.training.local import train_here
from fw_model.training.loop import LocalFeed
from fw_model.training.metrics import read_metrics
from pipelines.train import run_train
from pipelines.training.checkpoints import resume_step
from pipelines.training.feed import FEED, FeedRow, RayDataFeed, pack, unpack
from pipelines.training.job import TrainJob
from tests.encoded_films import CACHE, small_model, small_training, write_encoded


class Rows:
    """A shard that gives (step, rank) rows with the batches of `feed`."""

    def __init__(self, rows: list[tuple[int, int]], feed: LocalFeed) -> None:
        self._rows, self._feed = rows, feed

    def iter_batches(self, **_: object) -> Iterator[dict[str, list[object]]]:
        for step, rank in self._rows:
            data = pack(self._feed.read(step))
            yield {"step": [step], "rank": [rank], "batches": [data]}


@pytest.fixture
def feed(tmp_path: Path) -> LocalFeed:
    data = EncodedDataset(write_encoded(tmp_path / "data"))
    plan = TrainingPlan(small_training(), CACHE, data)
    return LocalFeed(data, plan, 1, 2, 2, CACHE.history_latents)


def numbers(groups: list[list[Batch]]) -> list[list[int]]:
    return [[int(g) for batch in batches for g in batch.sample_indices] for batches in groups]


def test_a_feed_row_names_the_columns_of_its_schema() -> None:
    assert set(FeedRow.__annotations__) == set(FEED.names)


def test_batches_survive_the_way_through_ray_data(feed: LocalFeed) -> None:
    groups = feed.read(7)
    again = unpack(pack(groups))
    assert numbers(again) == numbers(groups) == [[58, 59], [62, 63]]
    for batch, same in zip(chain(*groups), chain(*again), strict=True):
        for name, value in vars(batch).items():
            assert (value == getattr(same, name)).all(), name


def test_rows_of_an_older_checkpoint_are_skipped_and_wrong_rows_are_refused(
    feed: LocalFeed,
) -> None:
    rows = [(step, 1) for step in range(3, 12)]
    stream = RayDataFeed(Rows(rows, feed), rank=1, num_steps=12)
    assert [numbers(g) for g in stream.steps(5)] == [numbers(feed.read(s)) for s in range(5, 12)]
    swapped = RayDataFeed(Rows([(5, 1), (6, 0)], feed), rank=1, num_steps=12)
    with pytest.raises(DataError, match="step 6, worker 0, instead of step 6"):
        list(swapped.steps(5))
    short = RayDataFeed(Rows([(5, 1)], feed), rank=1, num_steps=12)
    with pytest.raises(DataError, match="ended at step 6 of 12"):
        list(short.steps(5))


@pytest.mark.slow
def test_two_ray_workers_under_zero_2_give_the_curve_of_one_process(
    ray_cluster: None, tmp_path: Path
) -> None:
    dataset, model = write_encoded(tmp_path / "data"), small_model(tmp_path / "model")
    train_here(small_training(), model, dataset, tmp_path / "plain")
    config = small_training(engine="deepspeed", num_workers=2, cpus_per_worker=0.5)
    folder = run_train(config, model, dataset, tmp_path / "ray")
    plain, sharded = (
        [line["loss"] for line in read_metrics(tmp_path / name / "metrics.jsonl")]
        for name in ("plain", "ray")
    )
    assert sharded == pytest.approx(plain, rel=1e-4)
    assert (folder / "filmweaver.json").is_file()
    assert resume_step(TrainJob(config, model, str(dataset), tmp_path / "ray")) == config.num_steps
    run_train(config, model, dataset, tmp_path / "ray")  # finished: nothing is trained again
    assert len(read_metrics(tmp_path / "ray" / "metrics.jsonl")) == config.num_steps
