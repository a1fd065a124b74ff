import io
import itertools
import os
import signal
import struct
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from fw_model.errors import CapacityError, ConfigError, StorageError
from fw_model.media.video import read_frames, write_video
from fw_model.schemas.curated import VideoReason
from pipelines.curation.analysis.analyze import analyze_file
from pipelines.curation.analysis.decode_process import DecodeSandbox
from pipelines.curation.analysis.keyframes import Candidate, KeyframeSelector
from pipelines.curation.analysis.shot_tracker import AnalyzeSettings
from pipelines.curation.config import DecodeConfig, DetectorConfig, KeyframeConfig
from tests.pipelines.curation.footage import FPS, shot, write_film


class HangingDetector:
    """Hangs at its first frame, as a decoder may."""

    max_delay = 0

    def __init__(self, *, fps):
        self.fps = fps

    def update(self, frame):
        signal.pause()

    def finish(self):
        return []


class CrashingDetector(HangingDetector):
    """Dies at its first frame, as native code may."""

    def update(self, frame):
        os.kill(os.getpid(), signal.SIGSEGV)


class KilledDetector(HangingDetector):
    """Is killed at its first frame as often as the number in a file says."""

    def __init__(self, *, fps, tally):
        super().__init__(fps=fps)
        self.tally = Path(tally)

    def update(self, frame):
        left = int(self.tally.read_text())
        if left:
            self.tally.write_text(str(left - 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return []


class PuzzledDetector(HangingDetector):
    """Raises at its first frame, as any code may."""

    def update(self, frame):
        raise ZeroDivisionError("no frame is like this")


class GreedyDetector(HangingDetector):
    """Asks for more memory than there may be."""

    def update(self, frame):
        np.ones(1 << 40, np.uint8)


def settings(*, detector="learned", **decode):
    return AnalyzeSettings(
        DecodeConfig(**decode), DetectorConfig(kind=detector), KeyframeConfig(), "d"
    )


def analyze(path, *, using=None):
    """Analyze in this process; return the row and the keyframes."""
    keyframes = {}
    row = analyze_file(
        path,
        uri=str(path),
        settings=using or settings(),
        on_keyframe=keyframes.__setitem__,
    )
    return row, keyframes


def test_shots_follow_one_another_and_have_keyframes_inside(tmp_path):
    row, keyframes = analyze(write_film(tmp_path / "film.mp4", [1, 2, 3], 20))
    spans = [(s["start_frame"], s["end_frame"]) for s in row["shots"]]
    assert (row["status"], row["num_frames"], spans) == (
        "kept",
        60,
        [(0, 20), (20, 40), (40, 60)],
    )
    for found in row["shots"]:
        frames = [k["frame"] for k in found["keyframes"]]
        assert len(frames) == 3
        assert all(found["start_frame"] <= f < found["end_frame"] for f in frames)
        assert all(k["sha256"] in keyframes for k in found["keyframes"])
    assert row["shots"][1]["start_s"] == pytest.approx(20 / FPS)
    assert row["duration_s"] == pytest.approx(60 / FPS)


def test_the_same_file_gives_the_same_row(tmp_path):
    path = write_film(tmp_path / "film.mp4", [1, 2])
    first, second = (analyze(path)[0] for _ in range(2))
    assert first | {"analyze_s": 0} == second | {"analyze_s": 0}


def _audio_only(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        frame.rate = 8000
        for packet in itertools.chain(stream.encode(frame), stream.encode()):
            container.mux(packet)


def _truncated(path):
    whole = path.with_name("whole.mp4")
    rng = np.random.default_rng(0)
    write_video(whole, rng.integers(0, 255, (60, 64, 96, 3), np.uint8), fps=FPS)
    data = whole.read_bytes()
    path.write_bytes(data[: len(data) // 2])


HOSTILE = {
    "no bytes": (lambda p: p.write_bytes(b""), VideoReason.UNREADABLE),
    "text": (lambda p: p.write_text("this is no video\n" * 100), VideoReason.UNREADABLE),
    "sound alone": (_audio_only, VideoReason.NO_VIDEO_STREAM),
    "half a file": (_truncated, VideoReason.TRUNCATED),
    "no file": (lambda p: None, VideoReason.SOURCE_UNAVAILABLE),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_no_video_is_quarantined_with_its_reason(tmp_path, name):
    path = tmp_path / "film.mp4"
    make, reason = HOSTILE[name]
    make(path)
    row, _ = analyze(path)
    assert (row["status"], row["reason"], row["shots"]) == ("quarantined", str(reason), [])


def test_damaged_packets_are_counted_and_too_many_quarantine(tmp_path):
    path = tmp_path / "film.mp4"
    rng = np.random.default_rng(0)
    write_video(path, rng.integers(0, 255, (60, 64, 96, 3), np.uint8), fps=FPS)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 400
    for position in range(start, start + 120_000, 97):
        data[position % len(data) if position < len(data) - 4000 else start] ^= 0xFF
    path.write_bytes(data)
    row, _ = analyze(path, using=settings(max_error_ratio=0.0))
    assert row["status"] == "quarantined"
    assert row["reason"] in {VideoReason.DECODE_ERRORS, VideoReason.UNREADABLE}


def test_a_frame_larger_than_allowed_is_not_decoded(tmp_path):
    path = write_film(tmp_path / "film.mp4", [1])
    row, _ = analyze(path, using=settings(max_pixels=64 * 64))
    assert (row["status"], row["reason"]) == ("quarantined", "too_large")


def test_one_tiny_frame_is_a_video_with_one_shot(tmp_path):
    path = tmp_path / "film.mp4"
    write_video(path, np.full((1, 2, 2, 3), 90, np.uint8), fps=1)
    row, _ = analyze(path)
    assert (row["status"], row["num_frames"], len(row["shots"])) == ("kept", 1, 1)


@pytest.mark.parametrize(
    ("detector", "decode", "reason"),
    [
        ("HangingDetector", {"stall_s": 1.0}, VideoReason.TIMEOUT),
        ("CrashingDetector", {}, VideoReason.DECODER_CRASH),
        ("GreedyDetector", {}, VideoReason.OUT_OF_MEMORY),
        ("PuzzledDetector", {}, VideoReason.ANALYSIS_ERROR),
    ],
)
def test_a_child_that_fails_costs_one_video(tmp_path, detector, decode, reason):
    path = write_film(tmp_path / "film.mp4", [1, 2])
    kind = f"tests.pipelines.curation.analysis.test_analyze:{detector}"
    sandbox = DecodeSandbox(settings(detector=kind, **decode))
    try:
        row = sandbox.analyze(str(path), uri="u", on_keyframe=lambda sha256, jpeg: None)
        assert (row["status"], row["reason"]) == ("quarantined", str(reason))
    finally:
        sandbox.close()


@pytest.mark.parametrize(("kills", "status"), [(1, "kept"), (2, "quarantined")])
def test_a_child_that_was_killed_gets_a_second_attempt(tmp_path, kills, status):
    path = write_film(tmp_path / "film.mp4", [1, 2])
    tally = tmp_path / "tally"
    tally.write_text(str(kills))
    kind = "tests.pipelines.curation.analysis.test_analyze:KilledDetector"
    detector = DetectorConfig(kind=kind, options={"tally": str(tally)})
    sandbox = DecodeSandbox(AnalyzeSettings(DecodeConfig(), detector, KeyframeConfig(), "d"))
    try:
        row = sandbox.analyze(str(path), uri="u", on_keyframe=lambda sha256, jpeg: None)
    finally:
        sandbox.close()
    assert row["status"] == status
    assert row.get("reason") == (None if status == "kept" else str(VideoReason.OUT_OF_MEMORY))


def test_the_rest_of_one_videos_messages_is_not_taken_for_the_next_ones(tmp_path):
    paths = [write_film(tmp_path / f"film_{i}.mp4", [i, i + 1]) for i in range(2)]
    sandbox = DecodeSandbox(settings())

    def refuse(sha256, jpeg):
        raise StorageError("the bucket is full")

    try:
        with pytest.raises(StorageError):
            sandbox.analyze(str(paths[0]), uri="first", on_keyframe=refuse)
        row = sandbox.analyze(str(paths[1]), uri="second", on_keyframe=lambda sha256, jpeg: None)
    finally:
        sandbox.close()
    assert row["uri"] == "second"


def test_a_child_that_does_not_come_up_is_no_fault_of_a_video(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    sandbox = DecodeSandbox(settings())
    with pytest.raises(CapacityError, match="3 attempts"):
        sandbox.analyze(str(tmp_path / "film.mp4"), uri="u", on_keyframe=lambda sha256, jpeg: None)


def test_what_is_wrong_with_the_settings_is_not_blamed_on_the_video(tmp_path):
    path = write_film(tmp_path / "film.mp4", [1])
    sandbox = DecodeSandbox(settings(detector="nope"))
    try:
        with pytest.raises(ConfigError, match="'nope'"):
            sandbox.analyze(str(path), uri="u", on_keyframe=lambda sha256, jpeg: None)
    finally:
        sandbox.close()


def test_a_child_serves_one_video_after_another(tmp_path):
    paths = [write_film(tmp_path / f"film_{i}.mp4", [i, i + 1]) for i in range(2)]
    sandbox = DecodeSandbox(settings())
    try:
        kept: dict[str, bytes] = {}
        rows = [sandbox.analyze(str(p), uri=str(p), on_keyframe=kept.__setitem__) for p in paths]
    finally:
        sandbox.close()
    assert rows[0]["shots"] == analyze(paths[0])[0]["shots"]
    assert all(k["sha256"] in kept for row in rows for s in row["shots"] for k in s["keyframes"])


def test_a_long_shot_keeps_few_candidates_and_spreads_its_keyframes():
    selector = KeyframeSelector(per_shot=3, every_frames=1, max_delay=10)
    picture = shot(1, 1)[0]
    for frame in range(5000):
        if selector.wants(frame):
            selector.offer(Candidate(frame, frame / FPS, lambda bars: picture))
    assert len(selector._candidates) < 50
    chosen, _ = selector.select(start_frame=0, end_frame=5000, next_frame=5000)
    assert [round(c.frame / 5000, 1) for c in chosen] == [0.2, 0.5, 0.8]


# Of a track header: what is right and down on the screen, in 16.16 (in 2.30 the last column).
MATRICES = {
    0: (1, 0, 0, 0, 1, 0, 0, 0, 1),
    90: (0, 1, 0, -1, 0, 0, 0, 0, 1),  # clockwise, as a phone that is held upright writes it
    180: (-1, 0, 0, 0, -1, 0, 0, 0, 1),
    270: (0, -1, 0, 1, 0, 0, 0, 0, 1),
}


def turned(path, degrees):
    """Write into a video's header by how much it is to be turned, clockwise."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    units = (1 << 16, 1 << 16, 1 << 30) * 3
    values = [value * unit for value, unit in zip(MATRICES[degrees], units, strict=True)]
    data[start : start + 36] = struct.pack(">9i", *values)
    path.write_bytes(data)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotated_video_gives_upright_keyframes(tmp_path, degrees):
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:32, :48, 0] = picture[:32, 48:, 1] = picture[32:, :48, 2] = 220  # and one is black
    path = write_video(tmp_path / "film.mp4", np.stack([picture] * 24), fps=FPS)
    turned(path, degrees)
    row, keyframes = analyze(path)
    upright = np.rot90(picture, -degrees // 90)  # clockwise
    (jpeg, *_) = keyframes.values()
    seen = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)
    assert seen.shape == upright.shape
    assert np.abs(seen - upright).mean() < 12
    read = read_frames(path, stop=1)[0].astype(int)
    assert np.abs(read - upright).mean() < 12  # and encoding sees the same
    assert row["rotation"] % 360 == -degrees % 360  # FFmpeg counts counter-clockwise


@pytest.mark.parametrize(
    "pixels", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p10le", "rgb24", "pal8", "gray", "nv12"]
)
def test_keyframes_of_any_pixel_format_look_as_if_rendered_at_once(pixels):
    from pipelines.curation.analysis.frame_sampling import Thumbnailer

    colours = np.zeros((90, 160, 3), np.uint8)
    colours[:, :80], colours[40:, 80:] = (200, 40, 90), (20, 180, 60)
    frame = av.VideoFrame.from_ndarray(colours, format="rgb24")
    if pixels == "pal8":
        indices = np.repeat((np.arange(90) // 45)[:, None], 160, axis=1).astype(np.uint8)
        palette = np.zeros((256, 4), np.uint8)
        palette[:2] = (255, 200, 40, 90), (255, 20, 180, 60)
        frame = av.VideoFrame.from_ndarray((indices, palette), format="pal8")
    elif pixels != "rgb24":
        frame = frame.reformat(format=pixels)
    thumbnailer = Thumbnailer(80)
    small = thumbnailer.scaled(frame, sample_aspect_ratio=1.0)
    whole = frame.reformat(width=80, height=45, format="rgb24", interpolation="BILINEAR")
    difference = np.abs(thumbnailer.rendered(small) - whole.to_ndarray().astype(int))
    assert difference.mean() < 2.0
