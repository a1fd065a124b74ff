"""Clips: exactly the frames of their spans, copied only where that is exact."""

import hashlib
import io
import time
from fractions import Fraction

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from fw_model.media.video import probe, read_frames
from pipelines.curation.child_process import ChildProcess
from pipelines.curation.config import CurationConfig
from pipelines.curation.ledger.receipts import Provenance
from pipelines.curation.shot_files.cut_process import collect, cut_in_child
from pipelines.curation.shot_files.cut_video import cut_video
from pipelines.curation.shot_files.phase import CutShots, cut_ledger
from pipelines.curation.shot_files.spans import CutSpan, ShotFile
from pipelines.storage.store import Store
from tests.pipelines.curation.footage import film
from tests.pipelines.curation.test_curate import curate


def encode(path, frames, *, options=None, codec="libx264", format="yuv420p", times=None):
    """Write frames [F, H, W, 3] with an encoder's own settings; `times` in 1/1000 s."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=12, options=options or {})
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.pix_fmt = format
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def cut(path, folder, spans, *, copy, num_frames):
    folder.mkdir(exist_ok=True)
    named = [CutSpan(f"s{i}", *span) for i, span in enumerate(spans)]
    found = cut_video(path, named, copy=copy, num_frames=num_frames, folder=folder)
    files = {file.shot_id: file for file in found}
    return [files[span.shot_id] for span in named]


def times_of(path):
    with av.open(str(path)) as container:
        return [float(frame.time) for frame in container.decode(video=0)]


GROUPS = {"g": "12", "keyint_min": "12", "sc_threshold": "0"}
"""A keyframe every 12 frames and nowhere else; frames that need later ones among them."""


@pytest.fixture
def three_shots(tmp_path):
    return encode(tmp_path / "film.mp4", film([1, 2, 3], 12), options=GROUPS | {"bf": "2"})


@pytest.mark.parametrize("copy", [True, False])
def test_a_clip_is_the_frames_of_its_span(three_shots, tmp_path, copy):
    spans = [(0, 12), (12, 20), (24, 36)]
    clips = cut(three_shots, tmp_path / "clips", spans, copy=copy, num_frames=36)
    for clip, (start, end) in zip(clips, spans, strict=True):
        frames = read_frames(tmp_path / "clips" / clip.file).astype(int)
        source = read_frames(three_shots, start=start, stop=end).astype(int)
        assert frames.shape == source.shape
        assert np.abs(frames - source).mean() < (3.0 if clip.mode == "transcode" else 1e-9)
        assert times_of(tmp_path / "clips" / clip.file) == pytest.approx(
            [i / 12 for i in range(end - start)], abs=1e-3
        )


def test_a_cut_between_keyframes_is_encoded_and_says_why(three_shots, tmp_path):
    spans = [(0, 12), (12, 24), (25, 36)]
    clips = cut(three_shots, tmp_path / "clips", spans, copy=True, num_frames=36)
    assert [clip.mode for clip in clips] == ["copy", "copy", "transcode"]
    assert [clip.detail for clip in clips] == [None, None, "frame 25 is not a keyframe"]


def test_a_cut_that_a_later_frame_is_needed_for_is_encoded(tmp_path):
    options = GROUPS | {"bf": "3", "b_strategy": "0"}
    path = encode(tmp_path / "film.mp4", film([1], 12), options=options)
    clips = cut(path, tmp_path / "clips", [(0, 3)], copy=True, num_frames=12)
    assert (clips[0].mode, clips[0].detail) == (
        "transcode",
        "frames before 3 depend on later ones",
    )
    assert len(read_frames(tmp_path / "clips" / clips[0].file)) == 3


@pytest.mark.parametrize("num_frames", [11, 13])
def test_nothing_is_copied_where_packets_do_not_tell_the_frames(tmp_path, num_frames):
    path = encode(tmp_path / "film.mp4", film([1], 12), options=GROUPS)
    clips = cut(path, tmp_path / "clips", [(0, 6)], copy=True, num_frames=num_frames)
    assert clips[0].mode == "transcode"
    assert clips[0].detail == f"12 packets gave {num_frames} frames"


def test_a_codec_that_mp4_does_not_hold_is_encoded(tmp_path):
    path = encode(tmp_path / "film.avi", film([1], 12), codec="mjpeg", format="yuvj420p")
    clips = cut(path, tmp_path / "clips", [(2, 6)], copy=True, num_frames=12)
    assert (clips[0].mode, clips[0].detail) == ("transcode", "packets of mjpeg are not copied")
    frames = read_frames(tmp_path / "clips" / clips[0].file).astype(int)
    assert np.abs(frames - read_frames(path, start=2, stop=6)).mean() < 4.0
    info = probe(tmp_path / "clips" / clips[0].file)
    assert (info.codec, info.pix_fmt, info.container) == (
        "h264",
        "yuv420p",
        "mov,mp4,m4a,3gp,3g2,mj2",
    )


def test_an_encoded_clip_keeps_uneven_times(tmp_path):
    times = [0, 40, 120, 160, 260, 300, 340, 440]
    path = encode(tmp_path / "film.mkv", film([1], 8), times=times)
    clips = cut(path, tmp_path / "clips", [(2, 7)], copy=False, num_frames=8)
    expected = [(t - times[2]) / 1000 for t in times[2:7]]
    assert times_of(tmp_path / "clips" / clips[0].file) == pytest.approx(expected, abs=2e-3)


def test_odd_sizes_are_padded(tmp_path):
    frames = film([1], 6)[:, :63, :95]
    path = encode(tmp_path / "film.mkv", frames, format="yuv444p")
    clips = cut(path, tmp_path / "clips", [(0, 6)], copy=False, num_frames=6)
    assert read_frames(tmp_path / "clips" / clips[0].file).shape == (6, 64, 96, 3)


def test_a_video_that_lost_its_end_fails_the_shots_that_lay_there(tmp_path):
    path = encode(tmp_path / "film.mp4", film([1], 12), options=GROUPS)
    clips = cut(path, tmp_path / "clips", [(0, 6), (6, 14)], copy=False, num_frames=14)
    assert [clip.mode for clip in clips] == ["transcode", "failed"]
    assert clips[1].detail == "the video has 6 of the 8 frames of [6, 14)"
    assert [f.name for f in (tmp_path / "clips").iterdir()] == ["s0.mp4"]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    assert [c.mode for c in cut(broken, tmp_path / "c", [(0, 6)], copy=True, num_frames=6)] == [
        "failed"
    ]


def test_the_same_cut_twice_is_the_same_bytes(three_shots, tmp_path):
    for name in ("one", "two"):
        cut(three_shots, tmp_path / name, [(0, 12), (13, 20)], copy=True, num_frames=36)
    for clip in ("s0.mp4", "s1.mp4"):
        assert (tmp_path / "one" / clip).read_bytes() == (tmp_path / "two" / clip).read_bytes()


def shots_of(output):
    rows = pq.read_table(output / "shots").to_pylist()
    return sorted(rows, key=lambda row: (row["uri"], row["index"]))


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    encode(folder / "a.mp4", film([1, 2], 18), options=GROUPS | {"g": "18", "keyint_min": "18"})
    encode(folder / "b.mp4", film([3, 4], 15), options=GROUPS)
    encode(folder / "b_again.mp4", film([3], 15), options=GROUPS)
    return folder


def test_kept_shots_get_clips_once_and_rows_say_how(films, tmp_path, ray_cluster):
    summary = curate(films, tmp_path, cut="copy")
    shots = shots_of(tmp_path)
    assert [(s["clip_mode"], s["clip_detail"]) for s in shots] == [
        ("copy", None),
        ("copy", None),
        ("transcode", "frames before 15 depend on later ones"),
        ("transcode", "frame 15 is not a keyframe"),
        (None, None),  # a duplicate
    ]
    assert summary.clips == {"copy": 2, "transcode": 2}
    for shot in shots[:4]:
        file = tmp_path / shot["clip_uri"]
        start, end = shot["content_start_frame"], shot["content_end_frame"]
        assert hashlib.sha256(file.read_bytes()).hexdigest() == file.stem
        difference = read_frames(file).astype(int) - read_frames(shot["uri"], start=start, stop=end)
        assert np.abs(difference).mean() < 3.0
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("media/*/*.mp4")}
    rows = {path.name for path in tmp_path.glob("ledger/cut/*/*.parquet")}
    assert curate(films, tmp_path).clips == {}
    assert curate(films, tmp_path, cut="copy").clips == summary.clips
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("media/*/*.mp4")} == files
    assert {path.name for path in tmp_path.glob("ledger/cut/*/*.parquet")} == rows


def test_a_video_that_is_away_when_it_is_cut_is_cut_by_the_next_run(tmp_path):
    store = Store(str(tmp_path / "out"))
    config = CurationConfig(cut="transcode")
    ledger = cut_ledger(store, config, "decoded")
    cutter = CutShots(False, config.decode, store, ledger, Provenance("c", "v", "r"))
    video = tmp_path / "film.mp4"
    work = {"uri": str(video), "num_frames": 12, "rotation": 0}
    work |= {"shot_ids": ["s"], "starts": [0], "ends": [12], "attempts": [1]}
    work |= {"bars": [[8, 8, 0, 0]], "field_orders": [""]}
    (row,) = cutter.cut(work)
    assert (row["status"], row["clip_mode"], row["clip_uri"]) == ("away", "failed", None)
    assert "film.mp4" in row["clip_detail"]
    encode(video, film([1], 12))
    (row,) = cutter.cut(work | {"attempts": [2]})
    assert (row["status"], row["clip_mode"], row["attempts"]) == ("cut", "transcode", 2)
    with av.open(io.BytesIO(store.read(row["clip_uri"]))) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (96, 64 - 16)  # without the bars


def test_a_cut_that_is_not_done_in_time_fails_its_clips(tmp_path):
    clips = cut_in_child(
        str(tmp_path / "none.mp4"),
        [CutSpan("s", 0, 2)],
        copy=False,
        num_frames=2,
        folder=tmp_path,
        memory_limit_mb=4096,
        deadline_s=1e-6,
    )
    assert clips == [ShotFile("s", "unfinished", None, "not done after 1e-06 s")]


def finish_one_then_hang(send):
    """Stand in for a child's task: settles the first shot, and never the second."""
    send(ShotFile("a", "transcode", "a.mp4"))
    time.sleep(60)


def test_files_that_were_done_when_time_ran_out_count():
    child = ChildProcess(__name__, memory_limit_mb=4096, deadline_s=3)
    files = collect(child, finish_one_then_hang, [CutSpan("a", 0, 2), CutSpan("b", 2, 4)])
    assert files == [
        ShotFile("a", "transcode", "a.mp4"),
        ShotFile("b", "unfinished", None, "not done after 3 s"),
    ]
