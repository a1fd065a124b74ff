"""The whole of curation on a small Ray: exactly once, resumed, and true to its totals."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from fw_model.errors import CheckpointError, ConfigError
from fw_model.loading.config import ModelConfig, PartConfig
from fw_model.schemas.curated import CURATED_TABLES
from pipelines.curation.config import (
    CaptionerConfig,
    CurationConfig,
    DetectorConfig,
    FilterConfig,
    KeyframeConfig,
    PerceptionConfig,
)
from pipelines.storage.store import Store
from tests.fw_model.evaluation.judge_files import saved, v1_state
from tests.pipelines.curation.footage import write_film

MODEL = ModelConfig(
    device="cpu",
    embedder=PartConfig(kind="tests.pipelines.curation.fake_embedder:FakeEmbedder"),
)


def curate(source, output, **settings):
    from pipelines.curate import run_curation

    config = CurationConfig(source=str(source), output=str(output), **settings)
    return run_curation(config, MODEL)


def table(output, name):
    return pq.read_table(output / name).to_pylist()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    write_film(folder / "a.mp4", [1, 2, 1])
    write_film(folder / "b.mp4", [3])
    write_film(folder / "copy_of_b.mp4", [3])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def curated(source, tmp_path_factory, ray_cluster):
    output = tmp_path_factory.mktemp("curated")
    return output, curate(source, output)


def test_totals_add_up_and_agree_with_the_tables(curated):
    output, summary = curated
    assert (summary.videos_in, summary.videos_kept, summary.videos_quarantined) == (5, 3, 2)
    assert summary.video_reasons == {"unreadable": 2}
    assert summary.shot_reasons["duplicate"] == 2
    assert summary.shots == summary.shots_kept + summary.shots_dropped == 5
    assert json.loads((output / "summary.json").read_text())["shots"] == len(table(output, "shots"))
    assert len(table(output, "scenes")) == summary.scenes == len(table(output, "captions"))


def test_tables_have_the_schemas_they_promise_and_unique_rows(curated):
    output, _ = curated
    for name, (schema, column) in CURATED_TABLES.items():
        rows = pq.read_table(output / name)
        assert rows.schema.names == schema.names
        ids = rows[column].to_pylist()
        assert len(ids) == len(set(ids))


def test_every_shot_is_in_the_table_and_a_repeated_one_is_dropped_as_duplicate(curated):
    output, _ = curated
    shots = sorted(table(output, "shots"), key=lambda s: (s["uri"], s["index"]))
    named = [(Path(s["uri"]).name, s["start_frame"], s["drop_reason"]) for s in shots]
    assert named == [
        ("a.mp4", 0, None),
        ("a.mp4", 18, None),
        ("a.mp4", 36, "duplicate"),
        ("b.mp4", 0, None),
        ("copy_of_b.mp4", 0, "duplicate"),
    ]
    store = Store(str(output))
    for keyframe in (keyframe for shot in shots for keyframe in shot["keyframes"]):
        assert hashlib.sha256(store.read(keyframe["uri"])).hexdigest() == keyframe["sha256"]


def test_captioned_scenes_hold_what_encoding_needs(curated):
    output, _ = curated
    for row in table(output, "captions"):
        assert row["status"] == "captioned"
        for shot in row["shots"]:
            assert Path(shot["uri"]).is_file() and shot["text"]
            assert shot["start_frame"] < shot["end_frame"]
            assert all(
                shot["start_frame"] <= f < shot["end_frame"] for f in shot["keyframe_frames"]
            )


def test_the_report_stands_alone(curated):
    output, _ = curated
    page = (output / "report.html").read_text()
    assert "data:image/jpeg;base64," in page
    assert "unreadable" in page and "duplicate" in page
    assert "src='http" not in page and 'src="http' not in page


def test_a_second_run_does_nothing_and_changes_nothing(curated, source):
    output, first = curated
    again = curate(source, output)
    assert (again.videos_analyzed_now, again.scenes_captioned_now) == (0, 0)
    assert (again.shots, again.scenes) == (first.shots, first.scenes)


def test_a_scene_names_the_run_that_first_made_it_this_way(curated, source):
    output, _ = curated

    def made(name):
        return {(row["config_hash"], row["run_id"]) for row in table(output, name)}

    def manifest():
        return json.loads((output / "manifest.json").read_text())

    def files():
        return {(f["key"], f["sha256"]) for f in manifest()["files"]}

    before, scenes, shots = files(), made("scenes"), made("shots")
    curate(source, output)
    assert files() == before
    curate(source, output, filters=FilterConfig(min_luma=1.0))
    ((config_hash, run_id),) = made("scenes")
    assert run_id == manifest()["run_id"]
    assert config_hash not in {found for found, _ in scenes}
    assert made("shots") == shots
    curate(source, output)


def test_a_changed_filter_decodes_nothing_again(curated, source):
    output, first = curated
    again = curate(source, output, filters=FilterConfig(duplicate_distance_bits=None))
    assert again.videos_analyzed_now == 0
    assert (again.shots, again.shots_dropped) == (first.shots, 0)
    back = curate(source, output)
    assert (back.shots_dropped, back.scenes_captioned_now) == (first.shots_dropped, 0)


def test_shots_are_scored_from_their_embeddings_and_dropped_below_a_threshold(
    curated, source, tmp_path
):
    output, first = curated
    width = len(table(output, "shots")[0]["embedding"])
    head = saved(v1_state(width), tmp_path / "head.safetensors")
    scored = curate(source, output, filters=FilterConfig(aesthetic_head=str(head)))
    assert (scored.videos_analyzed_now, scored.shots_dropped) == (0, first.shots_dropped)
    shots = table(output, "shots")
    weight = v1_state(width)["weight"][0].numpy()
    for shot in shots:
        assert shot["aesthetic"] == pytest.approx(5 + float(weight @ shot["embedding"]), abs=1e-4)
    middle = sorted({shot["aesthetic"] for shot in shots})[1]
    filters = FilterConfig(aesthetic_head=str(head), min_aesthetic=middle)
    curate(source, output, filters=filters)
    dropped = {s["shot_id"] for s in table(output, "shots") if s["drop_reason"] == "unaesthetic"}
    assert dropped == {s["shot_id"] for s in shots if s["aesthetic"] < middle} != set()
    back = curate(source, output)
    assert back.shots_dropped == first.shots_dropped
    assert {shot["aesthetic"] for shot in table(output, "shots")} == {None}


def test_an_aesthetic_head_for_another_clip_is_refused_and_the_tables_stay(
    curated, source, tmp_path
):
    output, first = curated
    head = saved(v1_state(7), tmp_path / "head.pth")
    with pytest.raises(CheckpointError, match="reads embeddings of width 7"):
        curate(source, output, filters=FilterConfig(aesthetic_head=str(head)))
    assert len(table(output, "shots")) == first.shots


def test_perception_decodes_nothing_again_and_its_thresholds_only_select(curated, source):
    output, first = curated
    fakes = "tests.pipelines.curation.fake_perceivers"
    on = PerceptionConfig(faces=f"{fakes}:Faces", text=f"{fakes}:Text", nsfw=f"{fakes}:Broken")
    words_first = {row["scene_id"]: row["shots"][0]["text"] for row in table(output, "captions")}
    # What was read counts as text, not the estimate: it covers half of every keyframe.
    seen = curate(source, output, perception=on, filters=FilterConfig(max_text_area=None))
    assert (seen.videos_analyzed_now, seen.shots_dropped) == (0, first.shots_dropped)
    shots = table(output, "shots")
    for shot in shots:
        assert shot["num_faces"] == max(len(k["faces"]) for k in shot["keyframes"]) > 0
        assert shot["subtitle_area"] == shot["ocr_area"] == pytest.approx(0.5)
        assert shot["perception_error"] == "nsfw: RuntimeError: poisoned"
    for row in table(output, "captions"):
        words = row["shots"][0]["text"]
        assert words.startswith(words_first[row["scene_id"]])
        assert 'visible. On-screen text: "FIN".' in words

    few = FilterConfig(max_text_area=None, max_faces=0)
    dropped = curate(source, output, perception=on, filters=few)
    assert dropped.shot_reasons == {"too_many_faces": first.shots}
    strict = FilterConfig(max_text_area=None, max_nsfw=0.9)
    assert curate(source, output, perception=on, filters=strict).shot_reasons == {
        "perception_failed": first.shots
    }
    assert len(list((output / "ledger" / "analyzed").iterdir())) == 2

    back = curate(source, output)
    assert (back.videos_analyzed_now, back.scenes_captioned_now) == (0, 0)
    assert {shot["num_faces"] for shot in table(output, "shots")} == {None}


def test_a_quarantined_video_is_tried_again_only_when_asked(curated, source):
    output, _ = curated
    assert curate(source, output, retry_quarantined=["timeout"]).videos_analyzed_now == 0
    again = curate(source, output, retry_quarantined=["unreadable"])
    assert (again.videos_analyzed_now, again.videos_in, again.videos_quarantined) == (2, 5, 2)
    attempts = {v["attempts"] for v in table(output, "videos") if v["status"] == "quarantined"}
    assert attempts == {2}


@pytest.fixture
def one_film(tmp_path, ray_cluster):
    (tmp_path / "films").mkdir()
    write_film(tmp_path / "films" / "a.mp4", [1])
    return tmp_path / "films"


def test_a_scene_without_words_for_a_passing_reason_is_asked_again(one_film, tmp_path):
    away = CaptionerConfig(
        kind="openai",
        base_url="http://127.0.0.1:9/v1",
        max_attempts=1,
        usd_per_million_output_tokens=1.0,
    )
    runs = [
        curate(one_film, tmp_path / "out", captioner=away.model_copy(update={"budget_usd": budget}))
        for budget in (0.0, None)
    ]
    assert [run.caption_reasons for run in runs] == [
        {"budget_exhausted": 1},
        {"endpoint_exhausted": 1},
    ]
    assert [row["attempts"] for row in table(tmp_path / "out", "captions")] == [2]


def test_a_sidecar_that_came_later_or_changed_is_read(one_film, tmp_path):
    def told(prompt):
        if prompt:
            shots = [{"start_frame": 0, "end_frame": 18, "prompt": prompt}]
            (one_film / "a.json").write_text(json.dumps({"shots": shots}))
        summary = curate(one_film, tmp_path / "out", captioner=CaptionerConfig(kind="sidecar"))
        (row,) = table(tmp_path / "out", "captions")
        return summary.scenes_captioned_now, row["reason"], [s["text"] for s in row["shots"]]

    assert told(None) == (1, "no_sidecar", [])
    assert told("a bear walks in") == (1, None, ["a bear walks in"])
    assert told(None) == (0, None, ["a bear walks in"])
    assert told("a bear sits down") == (1, None, ["a bear sits down"])


def test_a_detector_that_cannot_work_ends_the_run_before_it_begins(tmp_path):
    with pytest.raises(ConfigError, match="treshold"):
        curate(tmp_path, tmp_path / "out", detector=DetectorConfig(options={"treshold": 3}))
    assert not (tmp_path / "out").exists()


def test_only_reasons_there_are_can_be_retried():
    assert CurationConfig(retry_quarantined=["all", "timeout"])
    with pytest.raises(ValidationError, match="unreadible"):
        CurationConfig(retry_quarantined=["unreadible"])


@pytest.mark.slow
def test_a_run_that_was_killed_is_finished_without_a_row_twice(tmp_path, ray_cluster):
    source, output = tmp_path / "films", tmp_path / "out"
    source.mkdir()
    for i in range(8):
        write_film(source / f"film_{i}.mp4", [i, i + 20], 40)
    script = Path(__file__).with_name("curate_once.py")
    project = str(Path(__file__).resolve().parents[3])
    environment = os.environ | {"PYTHONPATH": project, "RAY_ADDRESS": ""}
    child = subprocess.Popen(
        [sys.executable, str(script), str(source), str(output)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    until = time.monotonic() + 240
    while time.monotonic() < until and child.poll() is None:
        if len(list(output.glob("ledger/decoded/*/*.parquet"))) >= 3:
            break
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    done = len(list(output.glob("ledger/decoded/*/*.parquet")))
    assert done >= 3
    summary = curate(source, output)
    assert summary.videos_analyzed_now <= 8 - 3
    assert (summary.videos_in, summary.videos_kept) == (8, 8)
    assert sorted(Path(v["uri"]).name for v in table(output, "videos")) == [
        f"film_{i}.mp4" for i in range(8)
    ]


@pytest.mark.slow
def test_real_footage_ends_with_true_reasons_and_its_cuts_found(
    shared_videos, tmp_path, ray_cluster
):
    summary = curate(shared_videos, tmp_path, keyframes=KeyframeConfig(max_side_px=128))
    assert summary.videos_in == summary.videos_kept + summary.videos_quarantined
    reasons = {Path(v["uri"]).name: v["reason"] for v in table(tmp_path, "videos") if v["reason"]}
    assert reasons == {
        "odd_audio_only.mp4": "no_video_stream",
        "odd_frag_init_only.mp4": "no_frames",
        "odd_moov_no_data.mp4": "truncated",
        "odd_zero_byte.webm": "unreadable",
    }
    truth = json.loads((shared_videos / "GROUND_TRUTH.json").read_text())
    starts: dict[str, list[int]] = {}
    for shot in table(tmp_path, "shots"):
        if shot["start_frame"]:
            starts.setdefault(Path(shot["uri"]).name, []).append(shot["start_frame"])
    right = wrong = missed = 0
    for name, told in truth.items():
        if name.startswith("_"):
            continue
        left = list(told["cuts"])
        for start in sorted(starts.get(name, [])):
            if any(a <= start <= b for a, b in [*told["gradual"], *told.get("ambiguous", [])]):
                continue
            near = [cut for cut in left if abs(cut - start) <= 1]
            right, wrong = right + bool(near), wrong + (not near)
            for cut in near[:1]:
                left.remove(cut)
        missed += len(left)
    assert 2 * right / (2 * right + wrong + missed) >= 0.92
