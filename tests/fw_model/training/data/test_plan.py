"""The plan is a pure function of seed and data, and every sample it names exists."""

from pathlib import Path

import numpy as np
import pytest

from fw_model.cache.context import MODES
from fw_model.errors import DataError
from fw_model.schemas.encoded import TABLES
from fw_model.training.config import ModeWeights, SamplingConfig, StageConfig
from fw_model.training.data.dataset import EncodedDataset
from fw_model.training.data.plan import TrainingPlan
from tests.encoded_films import ALL_MODES, CACHE, small_training, write_encoded


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EncodedDataset:
    return EncodedDataset(write_encoded(tmp_path_factory.mktemp("plan") / "data"))


def test_the_same_seed_gives_the_same_plan_and_another_seed_another(data: EncodedDataset) -> None:
    plans = [TrainingPlan(small_training(seed=seed), CACHE, data) for seed in (5, 5, 6)]
    groups = [[plan.groups(step) for step in range(12)] for plan in plans]
    assert groups[0] == groups[1] != groups[2]
    assert plans[0].hash == plans[1].hash != plans[2].hash


def test_any_number_of_workers_shares_out_the_same_samples(data: EncodedDataset) -> None:
    plan = TrainingPlan(small_training(), CACHE, data)
    for group in plan.groups(7):
        for world_size in (1, 2, 4):
            shared = [row for rank in range(world_size) for row in group.share(rank, world_size)]
            assert shared == list(group.rows)
    with pytest.raises(DataError, match="cannot be split over 3 workers"):
        plan.groups(7)[0].share(0, 3)


def test_sample_numbers_run_through_without_gaps(data: EncodedDataset) -> None:
    plan = TrainingPlan(small_training(), CACHE, data)
    rows = [row for step in range(12) for group in plan.groups(step) for row in group.rows]
    assert [row.sample_index for row in rows] == list(range(12 * 2 * 4))


def test_rows_of_a_group_share_mode_and_shape_and_lie_inside_their_shots(
    data: EncodedDataset,
) -> None:
    plan = TrainingPlan(small_training(), CACHE, data)
    for step in range(plan.num_steps):
        for group in plan.groups(step):
            ((start, num_keyframes),) = {(row.start, len(row.keyframes)) for row in group.rows}
            assert group.mode == MODES[2 * (num_keyframes > 0) + (start > 0)]
            for row in group.rows:
                assert row.stop == row.start + CACHE.chunk_latents
                assert row.stop <= data.num_latents[row.shot]


def test_keyframes_come_from_other_shots_of_the_scene_and_negatives_from_other_videos(
    data: EncodedDataset,
) -> None:
    config = small_training(
        stages=(StageConfig(steps=40, mode_weights=ModeWeights(new_shot=1)),),
        sampling=SamplingConfig(negative_fraction=0.5),
    )
    plan = TrainingPlan(config, CACHE, data)
    negatives = 0
    for step in range(40):
        for group in plan.groups(step):
            for row in group.rows:
                for keyframe, negative in zip(row.keyframes, row.negatives, strict=True):
                    shot = data.keyframe_shots[keyframe]
                    assert shot != row.shot
                    assert (data.videos[shot] == data.videos[row.shot]) != negative
                    negatives += negative
    rows = [row for step in range(40) for group in plan.groups(step) for row in group.rows]
    slots = sum(len(row.keyframes) for row in rows)
    assert 0.4 < negatives / slots < 0.6


def test_stage_one_has_no_shot_cache_and_modes_come_as_often_as_weighted(
    data: EncodedDataset,
) -> None:
    stages = (
        StageConfig(
            name="temporal",
            steps=300,
            mode_weights=ModeWeights(first_shot=0.3, extend_first_shot=0.7),
        ),
        StageConfig(name="all", steps=300, mode_weights=ALL_MODES),
    )
    plan = TrainingPlan(small_training(stages=stages, groups_per_step=1), CACHE, data)
    first = [plan.groups(step)[0].mode for step in range(300)]
    second = [plan.groups(step)[0].mode for step in range(300, 600)]
    assert set(first) == {"first_shot", "extend_first_shot"}
    assert first.count("first_shot") / 300 == pytest.approx(0.3, abs=0.08)
    for mode in MODES:
        assert second.count(mode) / 300 == pytest.approx(0.25, abs=0.08)


def test_the_number_of_keyframes_varies_and_is_most_often_full(data: EncodedDataset) -> None:
    config = small_training(stages=(StageConfig(steps=60, mode_weights=ModeWeights(new_shot=1)),))
    plan = TrainingPlan(config, CACHE, data)
    counts = [len(group.rows[0].keyframes) for step in range(60) for group in plan.groups(step)]
    assert set(counts) == {1, 2}
    assert counts.count(2) > counts.count(1)


def test_a_stage_that_the_data_cannot_serve_says_so(tmp_path: Path) -> None:
    lonely = EncodedDataset(write_encoded(tmp_path / "data", shots_per_video=1))
    config = small_training(stages=(StageConfig(steps=2, mode_weights=ModeWeights(new_shot=1)),))
    with pytest.raises(DataError, match=r"Stage 'all_modes' trains new_shot, but .* has no sample"):
        TrainingPlan(config, CACHE, lonely)


def test_the_dataset_reads_the_same_whatever_file_its_rows_are_in(tmp_path: Path) -> None:
    one = EncodedDataset(write_encoded(tmp_path / "one"))
    two_folder = write_encoded(tmp_path / "two")
    for table in TABLES:  # in the other order
        first, second, spare = (two_folder / table / f"{n}.parquet" for n in ("0", "1", "spare"))
        first.rename(spare)
        second.rename(first)
        spare.rename(second)
    two = EncodedDataset(two_folder)
    assert one.shot_ids == two.shot_ids
    assert one.fingerprint == two.fingerprint
    for shot in range(one.num_shots):
        np.testing.assert_array_equal(one.latents(shot, 0, 2), two.latents(shot, 0, 2))


def test_a_stage_may_train_on_shorter_chunks_than_the_model_makes(data: EncodedDataset) -> None:
    stages = (
        StageConfig(name="pictures", steps=10, chunk_latents=1, mode_weights=ALL_MODES),
        StageConfig(name="motion", steps=10, mode_weights=ALL_MODES),
    )
    plan = TrainingPlan(small_training(stages=stages), CACHE, data)
    lengths = {
        stage: {
            row.stop - row.start
            for step in steps
            for group in plan.groups(step)
            for row in group.rows
        }
        for stage, steps in (("pictures", range(10)), ("motion", range(10, 20)))
    }
    assert lengths == {"pictures": {1}, "motion": {CACHE.chunk_latents}}
