"""Files as the world makes them: containers, clocks, B-frames and fields that go their own ways.

Each film has three shots of 12 frames. Its shot files must hold the frames that the rows name.
"""

import io
import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from fw_model.media.video import packet_times
from pipelines.curation.shot_files.cut_video import cut_video
from pipelines.curation.shot_files.spans import CutSpan
from pipelines.encoding.shot_frames import FrameFormat, ShotSpan, VideoSpans, decode_shots
from tests.pipelines.curation.analysis.test_analyze import analyze
from tests.pipelines.curation.footage import film, scenery

LENGTH = 12
SHOTS = 3
GROUPS = {"g": "12", "keyint_min": "12", "sc_threshold": "0"}
X264 = GROUPS | {"x264-params": "open-gop=0:bframes=2:b-adapt=0:threads=1"}
X265 = {"x265-params": "keyint=12:min-keyint=12:scenecut=0:open-gop=0:bframes=2:log-level=none"}
SVT = {"preset": "12", "svtav1-params": "keyint=12:lookahead=0"}
KINDS = {  # file name: codec, its options, frames per second, how its shots are cut
    "h264.mp4": ("libx264", X264, 24, "copy"),
    "h264.mkv": ("libx264", X264, Fraction(24000, 1001), "copy"),
    "h264.ts": ("libx264", X264, 50, "copy"),
    "h264.avi": ("libx264", X264, 25, "transcode"),
    "h264.mov": ("libx264", X264, 60, "copy"),
    "hevc.mp4": ("libx265", X265, 30, "copy"),
    "hevc.mkv": ("libx265", X265, 30, "copy"),
    "hevc.ts": ("libx265", X265, Fraction(30000, 1001), "copy"),
    "vp9.webm": ("libvpx-vp9", {"g": "12", "deadline": "realtime", "b": "900k"}, 24, "copy"),
    "vp9.mkv": ("libvpx-vp9", {"g": "12", "deadline": "realtime", "b": "900k"}, 30, "copy"),
    "av1.mkv": ("libsvtav1", SVT, 24, "transcode"),
    "mpeg2.mpg": ("mpeg2video", GROUPS | {"bf": "2", "b": "4M"}, 25, "transcode"),
    "mpeg2.ts": ("mpeg2video", GROUPS | {"bf": "2", "b": "4M"}, 25, "transcode"),
    "mpeg4.avi": ("mpeg4", GROUPS | {"bf": "0", "b": "2M"}, Fraction(24000, 1001), "copy"),
    "mpeg4b.avi": ("mpeg4", GROUPS | {"bf": "2", "b": "2M"}, 25, "transcode"),
}


def write(path, pictures, codec, options, rate, *, muxer=None, move=lambda number: 0):
    """Write a film; `move` gives by how many ticks of 1/90000 s the packets of a shot are late."""
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        packets = []
        for picture in pictures:
            packets += stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24"))
        for number, packet in enumerate([*packets, *stream.encode(None)]):
            late = Fraction(move(number // LENGTH), 90_000)
            shift = round(late / packet.time_base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            container.mux(packet)
    return path


def luma(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray").astype(int) for frame in container.decode(video=0)]


def times(path):
    with av.open(str(path)) as container:
        return [float(frame.time) for frame in container.decode(video=0)]


def check_shots(row, rate, *, gaps_s=(0.0, 0.0)):
    """Shots of 12 frames tile the film; `gaps_s` is what is missing between them."""
    shots = row["shots"]
    assert (row["status"], row["num_frames"]) == ("kept", SHOTS * LENGTH)
    assert [s["start_frame"] for s in shots] == [0, 12, 24]
    for earlier, later in itertools.pairwise(shots):
        assert earlier["end_s"] == later["start_s"]
    lengths = [s["end_s"] - s["start_s"] for s in shots]
    expected = [LENGTH / rate + gap for gap in (*gaps_s, 0.0)]
    assert lengths == pytest.approx(expected, abs=0.003)
    assert row["duration_s"] == pytest.approx(sum(expected), abs=0.003)


def check_files(path, row, folder, *, rate, mode):
    """Each shot's file, copied or encoded, holds the frames of its row at their own times."""
    shown = luma(path)
    spans = [CutSpan(str(s["index"]), s["start_frame"], s["end_frame"]) for s in row["shots"]]
    for copy in (True, False):
        found = {
            file.shot_id: file
            for file in cut_video(path, spans, copy=copy, num_frames=36, folder=folder)
        }
        for span in spans:
            file = found[span.shot_id]
            assert file.mode == (mode if copy else "transcode"), file
            own = luma(folder / file.file)
            wanted = shown[span.start_frame : span.end_frame]
            worst = max(np.abs(a - b).mean() for a, b in zip(own, wanted, strict=True))
            assert worst < (4.0 if file.mode == "transcode" else 1e-9)
            expected = [number / rate for number in range(LENGTH)]
            assert times(folder / file.file) == pytest.approx(expected, abs=0.003)


@pytest.mark.parametrize("name", KINDS)
def test_shots_and_their_files_are_those_of_the_film(tmp_path, name):
    codec, options, rate, mode = KINDS[name]
    path = write(tmp_path / name, film([1, 2, 3], LENGTH), codec, options, rate)
    row, _ = analyze(path)
    check_shots(row, rate)
    check_files(path, row, tmp_path, rate=rate, mode=mode)


def test_a_copy_of_hevc_has_the_tag_that_apple_plays(tmp_path):
    path = write(tmp_path / "film.mkv", film([1, 2, 3], LENGTH), "libx265", X265, 24)
    (file,) = cut_video(path, [CutSpan("s", 12, 24)], copy=True, num_frames=36, folder=tmp_path)
    with av.open(str(tmp_path / file.file)) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"


WRAP = 2**33
CLOCKS = {  # how late each shot's packets are in a transport stream, and the gaps that are real
    "starts late": (lambda shot: 90_000 * 40_000, (0.0, 0.0)),
    "wraps": (lambda shot: WRAP - 45_000, (0.0, 0.0)),
    "restarts": (lambda shot: -shot * 12 * 3600, (0.0, 0.0)),
    "goes back by hours": (lambda shot: 90_000 * 9_000 * (2 - shot), (0.0, 0.0)),
    "jumps ahead by hours": (lambda shot: 90_000 * 9_000 * shot, (0.0, 0.0)),
    "loses two seconds": (lambda shot: 180_000 * (shot > 0), (2.0, 0.0)),
}


@pytest.mark.parametrize("name", CLOCKS)
def test_the_clock_of_a_transport_stream_runs_on(tmp_path, name):
    move, gaps_s = CLOCKS[name]
    options = GROUPS | {"bf": "0"}
    parts = []
    for number, seed in enumerate((1, 2, 3)):  # a file each: a muxer does not let times go back
        part = tmp_path / f"{number}.ts"
        late = move(number) + number * LENGTH * 3600
        write(part, film([seed], LENGTH), "libx264", options, 25, move=lambda _, late=late: late)
        parts.append(part.read_bytes())
    path = tmp_path / "film.ts"
    path.write_bytes(b"".join(parts))
    row, _ = analyze(path)
    check_shots(row, 25, gaps_s=gaps_s)
    if not any(gaps_s):
        expected = [row["shots"][0]["start_s"] + number / 25 for number in range(36)]
        assert packet_times(path) == pytest.approx(expected, abs=0.003)


def interlaced(pictures, order):
    """Weave the pictures of 2F moments into F frames of two fields."""
    second = 1 if order == "tff" else 0
    frames = pictures[::2].copy()
    frames[:, second::2] = pictures[1::2, second::2]
    return frames


def moving(num_frames):
    """Return three shots [F, H, W, 3] of places that a camera pans over, 3 pixels a frame."""
    places = [scenery(seed, size=(192 + 3 * num_frames, 128)) for seed in (1, 2, 3)]
    return np.stack([place[:, 3 * n : 3 * n + 192] for place in places for n in range(num_frames)])


@pytest.mark.parametrize("is_flagged", [True, False])
@pytest.mark.parametrize("order", ["tff", "bff"])
def test_fields_are_found_by_the_picture_and_removed(tmp_path, order, is_flagged):
    pictures = moving(48)
    flags = {"flags": "+ildct+ilme", "field_order": "tt" if order == "tff" else "bb"}
    options = {"g": "12", "bf": "0", "b": "8M"} | (flags if is_flagged else {})
    path = write(tmp_path / "f.ts", interlaced(pictures, order), "mpeg2video", options, 25)
    row, keyframes = analyze(path)
    assert (row["field_order"], row["num_frames"]) == (order, 72)
    assert row["interlaced_share"] > 0.9
    assert row["interlaced_flag_share"] == (1.0 if is_flagged else 0.0)
    assert [(s["start_frame"], s["field_order"]) for s in row["shots"]] == [
        (0, order), (24, order), (48, order)
    ]  # fmt: skip
    jpegs = [keyframes[k["sha256"]] for s in row["shots"] for k in s["keyframes"]]
    assert all(comb(np.asarray(Image.open(io.BytesIO(jpeg)).convert("L"))) < 5 for jpeg in jpegs)
    assert comb(luma(path)[2]) > 8
    span = CutSpan("s", 24, 48, field_order=order)
    (file,) = cut_video(path, [span], copy=False, num_frames=72, folder=tmp_path)
    frames = luma(tmp_path / file.file)
    assert len(frames) == 24 and max(comb(frame) for frame in frames) < 5
    check_encoded(path, order)


def comb(picture):
    """Return how much rows differ from the rows around them."""
    levels = picture.astype(int)
    return np.abs(2 * levels[1:-1] - levels[:-2] - levels[2:]).mean()


def check_encoded(path, order):
    shot = ShotSpan("s", "c", 0, 24, 48, "text", (30,), field_order=order)
    form = FrameFormat(192, 128, 25.0, 100, 1)
    (decoded,) = decode_shots(VideoSpans("v", str(path), 25.0, (shot,), "h"), form)
    assert len(decoded.frames) == 24
    assert max(comb(frame.mean(-1)) for frame in decoded.frames) < 5


def test_whole_pictures_flagged_as_interlaced_stay_as_they_are(tmp_path):
    options = {"g": "12", "bf": "0", "b": "8M", "flags": "+ildct+ilme", "field_order": "tt"}
    path = write(tmp_path / "f.ts", moving(24), "mpeg2video", options, 25)
    row, _ = analyze(path)
    assert (row["field_order"], row["interlaced_share"]) == ("progressive", 0.0)
    assert row["interlaced_flag_share"] == 1.0
    assert [s["field_order"] for s in row["shots"]] == [None] * 3


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p", "yuv420p10le"])
def test_the_same_dark_picture_is_as_dark_in_every_range_and_depth(tmp_path, pix_fmt):
    path = tmp_path / "dark.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, pix_fmt
        if pix_fmt.startswith("yuvj"):
            stream.codec_context.color_range = 2
        for _ in range(12):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 8, np.uint8), format="rgb24")
            container.mux(stream.encode(frame.reformat(format=pix_fmt)))
        container.mux(stream.encode(None))
    row, _ = analyze(Path(path))
    assert row["shots"][0]["luma"] == pytest.approx(8.0, abs=1.5)
