"""The sets of hard cases beside the project, ../shared/cases: files, edits and bars."""

import io
import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.cut_accuracy import Score, score_cuts
from pipelines.curation.assembly.filters import drop_reason
from pipelines.curation.config import FilterConfig
from tests.conftest import PROJECT
from tests.pipelines.curation.analysis.test_analyze import analyze

CASES = Path(os.environ.get("FILMWEAVER_TEST_CASES", str(PROJECT.parent / "shared" / "cases")))
FIELDS = {"interlaced_cut_on_field.mp4": "tff", "telecine_23.mp4": "tff"}
"""Of the edits: the files whose fields were taken one after the other."""
COLOURS = {"red": (1, 0, 0), "blue": (0, 0, 1)}


def truth_of(name):
    path = CASES / name / "GROUND_TRUTH.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


FILES = truth_of("files")


@pytest.mark.parametrize("name", FILES or [pytest.param("", marks=pytest.mark.skip("no cases"))])
def test_a_file_gives_its_shots_and_times(name):
    truth = FILES[name]
    row, keyframes = analyze(CASES / "files" / name)
    if truth.get("quarantined"):
        assert row["status"] == "quarantined" and row["reason"] and row["detail"]
        return
    shots = row["shots"]
    assert (row["status"], row["num_frames"]) == ("kept", truth["frames"])
    assert [s["start_frame"] for s in shots[1:]] == pytest.approx(truth["cuts"], abs=1)
    for earlier, later in itertools.pairwise(shots):
        assert (earlier["end_frame"], earlier["end_s"]) == (later["start_frame"], later["start_s"])
    assert all(s["start_s"] < s["end_s"] for s in shots)
    assert shots[-1]["end_s"] - shots[0]["start_s"] == pytest.approx(row["duration_s"])
    times = [k["time_s"] for s in shots for k in s["keyframes"]]
    assert times == sorted(times)
    if "start_s" in truth:
        assert [s["start_s"] for s in shots] == pytest.approx(truth["start_s"], abs=0.002)
    else:
        assert row["duration_s"] == pytest.approx(truth["frames"] / row["fps"], abs=0.001)
    assert shots[-1]["end_s"] >= truth.get("end_min", 0.0)
    assert row["field_order"] == "progressive"  # the interlaced stream holds whole pictures
    for shot, colour in zip(shots, truth.get("colours", ()), strict=False):
        jpeg = keyframes[shot["keyframes"][0]["sha256"]]
        mean = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).mean((0, 1))
        assert np.argmax(mean) == np.argmax(COLOURS[colour])


@pytest.mark.parametrize(
    ("name", "luma"), [("black_noise.mp4", 5.1), ("black_noise_full_range.mp4", 5.4)]
)
def test_noise_on_black_is_dark_in_either_range(name, luma):
    if not (CASES / "files" / name).exists():
        pytest.skip("no cases")
    row, _ = analyze(CASES / "files" / name)
    (shot,) = row["shots"]
    assert shot["luma"] == pytest.approx(luma, abs=0.1)
    assert drop_reason(shot, row, FilterConfig()) == "dark"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["edits", "bars"])
def test_cuts_of_a_set_are_found(name):
    truth = truth_of(name)
    if not truth:
        pytest.skip("no cases")
    total = Score()
    by_file = {}
    for file, expected in truth.items():
        row, _ = analyze(CASES / name / file)
        assert (row["status"], row["num_frames"]) == ("kept", expected["frames"])
        assert row["field_order"] == FIELDS.get(file, "progressive"), file
        cuts = [shot["start_frame"] for shot in row["shots"][1:]]
        openings = [s["transition_in"] for s in row["shots"]]
        spans = [(t["start_frame"], t["end_frame"]) for t in openings if t["kind"] == "gradual"]
        score = score_cuts(cuts, spans, expected)
        by_file[file] = str(score)
        total += score
    assert total.f1 >= 0.95, f"{total.f1:.3f}, {total}: {by_file}"
    assert total.gradual_found >= 0.8 * total.gradual, by_file
