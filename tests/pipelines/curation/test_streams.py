"""Files that hold more, or less, than one plain stream of frames: what is counted is what is seen.

Frame numbers of the analyzed row must be those under which training reads the same frames.
"""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from fw_model.media.video import read_frames
from tests.pipelines.curation.footage import FPS, film
from tests.pipelines.curation.test_analyze import analyze


def add_video(container, picture, *, codec="libx264", **options):
    stream = container.add_stream(codec, rate=FPS, options=options)
    stream.width, stream.height = picture.shape[1], picture.shape[0]
    stream.pix_fmt = "yuv420p"
    stream.gop_size = 12
    return stream


def packets_of(stream, pictures, *, interlaced=False):
    for picture in pictures:
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        if interlaced:
            frame = frame.reformat(format="yuv420p")
        yield from stream.encode(frame)
    yield from stream.encode(None)


def write_with_edit_list(path, pictures, hidden):
    """Write an MP4 whose edit list leaves out the first `hidden` frames, as a trimmed copy has."""
    with av.open(str(path), "w", options={"use_editlist": "1"}) as container:
        stream = add_video(container, pictures[0], bf="0")
        for packet in packets_of(stream, pictures):
            packet.pts = packet.dts = packet.pts - round(hidden / FPS / packet.time_base)
            container.mux(packet)


def keyframe_pictures(row, keyframes):
    for shot in row["shots"]:
        for keyframe in shot["keyframes"]:
            picture = Image.open(io.BytesIO(keyframes[keyframe["sha256"]])).convert("RGB")
            yield keyframe["frame"], np.asarray(picture).astype(int)


@pytest.mark.parametrize("hidden", [0, 5, 14])
def test_frames_that_an_edit_list_leaves_out_are_not_counted(tmp_path, hidden):
    pictures = film([1, 2], 20)
    write_with_edit_list(tmp_path / "trimmed.mp4", pictures, hidden)
    row, keyframes = analyze(tmp_path / "trimmed.mp4")
    shown = read_frames(tmp_path / "trimmed.mp4")
    assert (row["status"], row["num_frames"]) == ("kept", len(shown)) == ("kept", 40 - hidden)
    assert [s["start_frame"] for s in row["shots"]] == [0, 20 - hidden]
    for frame, picture in keyframe_pictures(row, keyframes):
        assert np.abs(picture - shown[frame]).mean() < 8


def test_the_first_of_several_video_streams_is_watched_and_sound_is_passed_over(tmp_path):
    path, pictures, others = tmp_path / "two.mkv", film([1, 2], 15), film([5, 6, 7], 10)
    with av.open(str(path), "w") as container:
        first, second = (add_video(container, p[0]) for p in (pictures, others))
        sound = container.add_stream("aac", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 24000), np.float32), "fltp", "mono")
        silence.rate = 8000
        packets = [*packets_of(first, pictures), *packets_of(second, others)]
        packets += [*sound.encode(silence), *sound.encode(None)]
        for packet in sorted(packets, key=lambda p: float((p.dts or 0) * p.time_base)):
            container.mux(packet)
    row, _ = analyze(path)
    assert (row["status"], row["num_video_streams"], row["num_frames"]) == ("kept", 2, 30)
    assert [s["start_frame"] for s in row["shots"]] == [0, 15]
    assert len(read_frames(path)) == 30


def test_an_interlaced_frame_is_one_frame_of_two_fields(tmp_path):
    path, pictures = tmp_path / "fields.ts", film([1, 2], 20)
    with av.open(str(path), "w") as container:
        stream = add_video(
            container, pictures[0], codec="mpeg2video", flags="+ildct+ilme", field_order="tt"
        )
        for packet in packets_of(stream, pictures, interlaced=True):
            container.mux(packet)
    row, keyframes = analyze(path)
    shown = read_frames(path)
    assert (row["status"], row["num_frames"]) == ("kept", len(shown)) == ("kept", 40)
    assert [s["start_frame"] for s in row["shots"]] == [0, 20]
    for frame, picture in keyframe_pictures(row, keyframes):
        assert np.abs(picture - shown[frame]).mean() < 8


def test_times_of_a_variable_rate_are_those_of_its_frames(tmp_path):
    path, pictures = tmp_path / "uneven.mkv", film([1, 2], 20)
    with av.open(str(path), "w") as container:
        stream = add_video(container, pictures[0], bf="0")
        gaps = np.where(np.arange(40) < 20, 1, 3)
        ticks = np.concatenate([[0], np.cumsum(gaps)[:-1]])
        frames = []
        for picture, tick in zip(pictures, ticks, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = int(tick), Fraction(1, FPS)
            frames.append(frame)
        for frame in [*frames, None]:
            for packet in stream.encode(frame):
                container.mux(packet)
    row, _ = analyze(path)
    assert row["variable_fps"] and row["num_frames"] == 40
    cut = row["shots"][1]
    assert cut["start_frame"] == 20
    assert cut["start_s"] == pytest.approx(20 / FPS, abs=0.002)
    assert row["duration_s"] == pytest.approx((20 + 3 * 20) / FPS, abs=0.3)
