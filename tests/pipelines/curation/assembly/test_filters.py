import numpy as np
import pytest
from pydantic import ValidationError

from fw_model.schemas.curated import ShotReason
from pipelines.curation.assembly.assemble import assemble_video, shot_prints
from pipelines.curation.assembly.filters import drop_reason
from pipelines.curation.assembly.near_duplicates import (
    ShotPrint,
    bands,
    distance_bits,
    find_duplicates,
    groups_of,
    is_duplicate,
    middle,
    pairs_in_band,
)
from pipelines.curation.config import FilterConfig, SceneConfig

VIDEO = {"width": 640, "height": 360}
GOOD = {
    "start_frame": 0,
    "end_frame": 48,
    "content_start_frame": 0,
    "content_end_frame": 48,
    "start_s": 0.0,
    "end_s": 2.0,
    "motion": 2.0,
    "luma": 120.0,
    "contrast": 40.0,
    "text_area": 0.0,
    "num_faces": None,
    "ocr_area": None,
    "subtitle_area": None,
    "nsfw": None,
    "perception_error": None,
}


def test_a_good_shot_is_kept():
    assert drop_reason(GOOD, VIDEO, FilterConfig()) is None


@pytest.mark.parametrize(
    ("change", "video", "reason"),
    [
        ({"end_s": 0.2}, VIDEO, ShotReason.TOO_SHORT),
        ({"content_end_frame": 6}, VIDEO, ShotReason.TOO_SHORT),
        ({"end_s": 900.0}, VIDEO, ShotReason.TOO_LONG),
        ({"luma": 3.0}, VIDEO, ShotReason.DARK),
        ({"contrast": 1.0}, VIDEO, ShotReason.FLAT),
        ({"motion": 0.0}, VIDEO, ShotReason.STATIC),
        ({"text_area": 0.6}, VIDEO, ShotReason.TEXT_HEAVY),
        ({"aesthetic": 4.2}, VIDEO, ShotReason.UNAESTHETIC),
        ({}, {"width": 16, "height": 360}, ShotReason.TOO_SMALL),
    ],
)
def test_a_bad_shot_is_dropped_with_its_reason(change, video, reason):
    config = FilterConfig(aesthetic_head="head.pth", min_aesthetic=4.5)
    assert drop_reason(GOOD | change, video, config, change.get("aesthetic")) == reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"num_faces": 4}, ShotReason.TOO_MANY_FACES),
        ({"num_faces": 3}, None),
        ({"subtitle_area": 0.06}, ShotReason.SUBTITLED),
        ({"nsfw": 0.9}, ShotReason.NSFW),
        ({"nsfw": 0.1, "perception_error": "nsfw: ValueError"}, ShotReason.PERCEPTION_FAILED),
        ({"text_area": 0.6, "ocr_area": 0.1}, None),  # what was read counts, not the estimate
        ({"text_area": 0.1, "ocr_area": 0.6}, ShotReason.TEXT_HEAVY),
    ],
)
def test_what_was_seen_in_keyframes_drops_a_shot_only_beyond_its_threshold(change, reason):
    config = FilterConfig(max_faces=3, max_subtitle_area=0.05, max_nsfw=0.8)
    assert drop_reason(GOOD | change, VIDEO, config) == reason
    if "ocr_area" not in change:
        assert drop_reason(GOOD | change, VIDEO, FilterConfig()) is None


def test_a_threshold_without_what_measures_it_is_refused():
    with pytest.raises(ValidationError, match="min_aesthetic needs aesthetic_head"):
        FilterConfig(min_aesthetic=4.5)


def test_a_filter_set_to_null_is_off():
    assert drop_reason(GOOD | {"motion": 0.0}, VIDEO, FilterConfig(min_motion=None)) is None


def print_of(shot_id, bits, *, duration_s=2.0, embedding=(1.0, 0.0)):
    marks = (int(bits).to_bytes(32, "big"),)
    return ShotPrint(shot_id, duration_s, marks, np.asarray(embedding, np.float32))


def test_the_same_shot_met_again_is_a_duplicate_and_the_first_is_kept():
    shots = [print_of("a", 0b1111), print_of("b", 0b0111), print_of("c", (1 << 200) - 1)]
    assert find_duplicates(shots, FilterConfig()) == {"b"}


def test_shots_of_other_length_or_other_embedding_are_no_duplicates():
    shots = [
        print_of("a", 7),
        print_of("b", 7, duration_s=3.0),
        print_of("c", 7, embedding=(0.0, 1.0)),
    ]
    assert find_duplicates(shots, FilterConfig()) == set()


def test_every_hash_within_the_distance_is_found_by_its_bands():
    rng = np.random.default_rng(0)
    base = int.from_bytes(rng.bytes(32))
    for _ in range(50):
        flipped = base
        for bit in rng.choice(256, 6, replace=False):
            flipped ^= 1 << int(bit)
        assert distance_bits(base.to_bytes(32), flipped.to_bytes(32)) == 6
        assert find_duplicates([print_of("a", base), print_of("b", flipped)], FilterConfig()) == {
            "b"
        }


@pytest.mark.parametrize("limit", [0, 3, 6, 15])
def test_candidates_hold_every_duplicate_and_few_others(limit):
    config = FilterConfig(duplicate_distance_bits=limit)
    rng = np.random.default_rng(limit)
    bits = [int.from_bytes(rng.bytes(32)) for _ in range(300)]
    for place in range(0, 300, 5):  # now and then another take: a few bits differ
        far = limit + 1 if place % 10 else limit
        changed = bits[rng.integers(300)]
        for bit in rng.choice(256, far, replace=False):
            changed ^= 1 << int(bit)
        bits.append(changed)
    shots = [print_of(str(n), value) for n, value in enumerate(bits)]
    values = bands([middle(shot.fingerprints) for shot in shots], limit + 1)
    numbers = np.arange(len(shots)) + 1000
    pairs = np.concatenate([pairs_in_band(numbers, column) for column in values.T])
    groups: dict[int, list[ShotPrint]] = {}
    for number, group in groups_of(pairs).tolist():
        groups.setdefault(group, []).append(shots[number - 1000])
    compared = [shot for group in groups.values() for shot in group]
    duplicates = set().union(*(find_duplicates(group, config) for group in groups.values()))
    assert duplicates == find_duplicates(shots, config) == by_comparing_all(shots, config)
    assert len(duplicates) >= 20 and len(compared) < 0.8 * len(shots)


def by_comparing_all(shots, config):
    kept, duplicates = [], set()
    for shot in shots:
        if any(is_duplicate(shot, other, config) for other in kept):
            duplicates.add(shot.shot_id)
        else:
            kept.append(shot)
    return duplicates


def test_pairs_join_groups_that_have_no_band_in_common():
    pairs = pairs_in_band(np.array([5, 1, 9, 4]), np.array([7, 3, 7, 3], np.uint64))
    assert sorted(map(sorted, pairs.tolist())) == [[1, 4], [5, 9]]
    chain = np.array([[5, 9], [2, 5], [1, 4]])
    assert groups_of(chain).tolist() == [[1, 1], [2, 2], [4, 1], [5, 2], [9, 2]]
    assert groups_of(np.zeros((0, 2), np.int64)).tolist() == []


def test_black_bars_do_not_make_candidates_of_all_shots(monkeypatch):
    rng = np.random.default_rng(1)
    bars = (1 << 208) - (1 << 48)  # the picture; nothing above and below it
    shots = [print_of(str(n), int.from_bytes(rng.bytes(32)) & bars) for n in range(300)]
    compared = []
    monkeypatch.setattr(
        "pipelines.curation.assembly.near_duplicates.is_duplicate",
        lambda *pair: compared.append(pair) or False,
    )
    assert find_duplicates(shots, FilterConfig()) == set()
    assert len(compared) < 300 * 299 / 2 / 20


def test_every_shot_stays_in_the_table_and_only_kept_ones_are_in_scenes():
    extra = {"transition_in": None, "fingerprint": [], "colours": None, "keyframes": []}
    shots = [
        GOOD | extra | {"shot_id": "s0", "index": 0, "embedding": [1.0, 0.0]},
        GOOD | extra | {"shot_id": "s1", "index": 1, "embedding": [1.0, 0.0], "luma": 1.0},
        GOOD | extra | {"shot_id": "s2", "index": 2, "embedding": [1.0, 0.0]},
        GOOD | extra | {"shot_id": "s3", "index": 3, "embedding": [0.0, 1.0]},
    ]
    columns = dict.fromkeys(
        ["source_id", "bytes", "modified", "content_sha256", "container", "codec", "pixel_format",
         "rotation", "sample_aspect_ratio", "fps", "variable_fps", "duration_s", "num_frames",
         "num_video_streams", "decode_errors", "reason", "detail", "attempts", "analyze_s",
         "num_shots", "detector", "config_hash", "code_version", "run_id", "created_at"]
    )  # fmt: skip
    video = columns | VIDEO | {"video_id": "v", "uri": "f", "status": "kept", "shots": shots}
    video["run_id"] = "analysis"
    rows = assemble_video(
        video,
        scores={"s0": 5.5},
        duplicates={"s3"},
        filters=FilterConfig(),
        scenes=SceneConfig(min_shots=2, colour_weight=0.0),
        stamp=lambda scene_id: {"run_id": f"run of {scene_id}"},
    )
    assert [row["aesthetic"] for row in rows.shots] == [5.5, None, None, None]
    assert [row["run_id"] for row in rows.scenes] == [f"run of {rows.scenes[0]['scene_id']}"]
    assert {row["run_id"] for row in rows.shots} == {"analysis"}
    assert [row["drop_reason"] for row in rows.shots] == [None, "dark", None, "duplicate"]
    assert [row["shot_ids"] for row in rows.scenes] == [["s0", "s2"]]
    assert {row["scene_id"] for row in rows.shots} == {rows.scenes[0]["scene_id"], None}


def test_a_print_holds_nothing_but_its_own_embedding():
    rows = np.ones((1000, 8), np.float32)
    shot = GOOD | {"shot_id": "s", "fingerprint": [b"0" * 32], "embedding": rows[7]}
    (found,) = shot_prints(VIDEO | {"shots": [shot]}, {}, FilterConfig())
    assert not np.shares_memory(found.embedding, rows)
