"""Long videos in time ranges: the same row as if they were analyzed whole."""

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.curation import pools
from pipelines.curation.analysis.analyze import LONG, analyze_file
from pipelines.curation.analysis.decode_process import DecodeSandbox
from pipelines.curation.analysis.parallel_decode import analyze_in_ranges
from pipelines.curation.analysis.shot_tracker import AnalyzeSettings
from pipelines.curation.analysis.time_ranges import analyze_range, merge_ranges, split_video
from pipelines.curation.config import DecodeConfig, DetectorConfig, KeyframeConfig, ResourceConfig
from tests.pipelines.curation.analysis.test_video_stream import write_with_edit_list
from tests.pipelines.curation.footage import FPS, shot
from tests.pipelines.curation.test_curate import curate

RANGE_S = 40.0
SHOT_FRAMES = [70, 410, 55, 300, 9, 333, 260, 40, 520, 181]


def settings(*, detector="learned", **decode):
    return AnalyzeSettings(
        DecodeConfig(range_s=RANGE_S, **decode),
        DetectorConfig(kind=detector),
        KeyframeConfig(),
        "d",
    )


def long_film():
    """Return three minutes: hard cuts and one dissolve of a second."""
    shots = [shot(seed, number) for seed, number in enumerate(SHOT_FRAMES)]
    weights = np.linspace(0, 1, FPS)[:, None, None, None]
    blend = shots[5][-1] * (1 - weights) + shots[6][0] * weights
    return np.concatenate([*shots[:6], blend.astype(np.uint8), *shots[6:]])


@pytest.fixture(scope="module")
def long_video(tmp_path_factory):
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.gop_size = 50  # with B frames, and cuts inside a group
        for picture in long_film():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def whole(long_video):
    row = analyze_file(
        long_video, uri="u", settings=settings(), on_keyframe=lambda sha256, jpeg: None
    )
    assert row["status"] == "kept" and row["num_shots"] >= 9
    return row


def in_ranges(path, **kind):
    stored = {}
    children = [DecodeSandbox(settings(**kind)) for _ in range(2)]
    try:
        row = analyze_in_ranges(
            str(path),
            uri="u",
            children=children,
            settings=settings(**kind),
            on_keyframe=stored.__setitem__,
        )
    finally:
        for child in children:
            child.close()
    return row, stored


def test_ranges_cover_every_frame_once_and_begin_where_decoding_can(long_video, whole):
    split = split_video(long_video, uri="u", settings=settings())
    ranges = split.ranges
    assert split.row["status"] == "split" and len(ranges) >= 4
    assert [i for part in ranges for i in part.own] == list(range(whole["num_frames"]))
    assert all(set(part.own) <= set(part.decoded) for part in ranges)
    assert [part.is_last for part in ranges] == [False] * (len(ranges) - 1) + [True]


def test_ranges_merge_into_the_row_of_the_whole_video(long_video, whole):
    row, stored = in_ranges(long_video)
    assert row["status"] == "kept"
    for name in set(whole) - {"shots", "analyze_s"}:
        assert row[name] == whole[name], name
    ranges = split_video(long_video, uri="u", settings=settings()).ranges
    assert len(row["shots"]) == len(whole["shots"])
    num_within = 0
    for found, expected in zip(row["shots"], whole["shots"], strict=True):
        pictures = ("keyframes", "fingerprint", "colours", "text_area")
        within = any(
            part.own.start <= expected["start_frame"] and expected["end_frame"] <= part.own.stop
            for part in ranges
        )
        num_within += within
        for name in set(expected) - (set() if within else set(pictures)):
            assert found[name] == expected[name], (expected["index"], name)
        frames = [keyframe["frame"] for keyframe in found["keyframes"]]
        assert frames == sorted(frames)
        assert len(frames) == len(expected["keyframes"])
        assert all(expected["start_frame"] <= f < expected["end_frame"] for f in frames)
        assert {keyframe["sha256"] for keyframe in found["keyframes"]} <= set(stored)
    assert 4 <= num_within < len(row["shots"])  # some shots cross a border


def test_a_range_that_fails_quarantines_the_video_and_says_where(long_video):
    detector = "tests.pipelines.curation.analysis.test_analyze:PuzzledDetector"
    row, _ = in_ranges(long_video, detector=detector)
    assert (row["status"], row["reason"]) == ("quarantined", "analysis_error")
    assert row["detail"].startswith("frames ") and "no frame is like this" in row["detail"]


def test_a_file_whose_frames_do_not_match_its_packets_is_analyzed_whole(long_video, tmp_path):
    """Packets of one group are gone: their frames never come."""
    data = bytearray(long_video.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(600)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(data)
    plain = settings()
    expected = analyze_file(broken, uri="u", settings=plain, on_keyframe=lambda sha256, jpeg: None)
    row, _ = in_ranges(broken)
    for name in set(expected) - {"analyze_s"}:
        assert row[name] == expected[name], name


def test_a_file_that_is_no_video_has_the_same_reason_in_ranges(tmp_path):
    path = tmp_path / "text.mp4"
    path.write_text("no video")
    row, _ = in_ranges(path)
    assert (row["status"], row["reason"]) == ("quarantined", "unreadable")


def test_a_long_video_is_not_decoded_by_one_child(long_video):
    row = analyze_file(
        long_video,
        uri="u",
        settings=settings(),
        on_keyframe=lambda sha256, jpeg: pytest.fail("it was decoded"),
        longest_s=100.0,
    )
    assert row["status"] == LONG


def test_frames_of_a_range_that_does_not_follow_are_refused(long_video):
    split = split_video(long_video, uri="u", settings=settings())
    parts = [
        analyze_range(
            long_video, row=split.row, part=part, settings=settings(), on_keyframe=lambda *_: None
        )
        for part in (split.ranges[0], split.ranges[2])
    ]
    with pytest.raises(ValueError, match="does not follow"):
        merge_ranges(split, parts, settings())


@pytest.mark.slow
def test_curation_analyzes_long_videos_in_ranges(long_video, whole, tmp_path, ray_cluster):
    source = tmp_path / "films"
    source.mkdir()
    (source / "long.mp4").symlink_to(long_video)
    (source / "text.mp4").write_text("no video")
    summary = curate(source, tmp_path / "out", decode=DecodeConfig(range_s=RANGE_S))
    assert (summary.videos_in, summary.videos_kept) == (2, 1)
    shots = pq.read_table(tmp_path / "out" / "shots").to_pylist()
    assert sorted((s["start_frame"], s["end_frame"]) for s in shots) == [
        (s["start_frame"], s["end_frame"]) for s in whole["shots"]
    ]
    again = curate(source, tmp_path / "out", decode=DecodeConfig(range_s=RANGE_S))
    assert again.videos_analyzed_now == 0


@pytest.mark.parametrize(
    ("nodes", "children"), [([1, 1, 1], 2), ([2, 2], 2), ([3, 1], 3), ([16, 4], 4), ([], 2)]
)
def test_the_actor_of_a_long_video_fits_on_one_node_beside_the_one_that_embeds(
    nodes, children, monkeypatch
):
    alive = [{"Alive": True, "Resources": {"CPU": float(cpus)}} for cpus in nodes]
    dead = {"Alive": False, "Resources": {"CPU": 64.0}}
    monkeypatch.setattr(pools.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(pools.ray, "nodes", lambda: [*alive, dead])
    share = ResourceConfig()
    assert pools.children_per_long_video(share) == children
    assert pools.decoding_cpus(share, children) + share.embed_cpus <= max([1, *nodes])


@pytest.mark.parametrize("hidden", [5, 14, 40])
def test_ranges_of_a_trimmed_copy_hold_the_frames_that_are_shown(tmp_path, hidden):
    path = tmp_path / "trimmed.mp4"
    write_with_edit_list(path, long_film(), hidden)
    whole = analyze_file(path, uri="u", settings=settings(), on_keyframe=lambda sha, jpeg: None)
    assert len(split_video(path, uri="u", settings=settings()).ranges) >= 4
    row, _ = in_ranges(path)
    assert (row["status"], row["num_frames"]) == ("kept", len(long_film()) - hidden)
    spans = [[(s["start_frame"], s["start_s"]) for s in r["shots"]] for r in (row, whole)]
    assert spans[0] == spans[1]
