"""Files that hold more, or less, than one plain stream of frames: what is counted is what is seen.

Frame numbers of the analyzed row must be those under which training reads the same frames.
"""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from PIL import Image

from fw_model.media.video import read_frames
from pipelines.curation.analysis.analyze import opened
from pipelines.curation.analysis.video_stream import StreamSeen, check_stream, iter_frames
from pipelines.curation.config import DecodeConfig
from tests.pipelines.curation.analysis.test_analyze import analyze
from tests.pipelines.curation.footage import FPS, film


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


def write_beside(path, pictures, *, sound_first=False, timecode=False):
    """Write frames of which some wait for later ones (B-frames), and other streams beside them."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=8000) if sound_first else None
        stream = add_video(container, pictures[0], bf="3")
        data = container.add_data_stream("bin_data") if timecode else None
        if sound is not None:
            silence = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            silence.sample_rate = 8000
            silence.pts = 0
            container.mux(sound.encode(silence))
            container.mux(sound.encode(None))
        for packet in packets_of(stream, pictures):
            container.mux(packet)
        if data is not None:
            packet = av.Packet(b"\x00\x00\x00\x01")
            packet.stream, packet.time_base = data, stream.time_base
            packet.pts = packet.dts = 0
            container.mux(packet)


def test_no_frame_is_lost_where_sound_comes_first(tmp_path):
    write_beside(tmp_path / "sound.mp4", film([1, 2], 24), sound_first=True)
    with av.open(str(tmp_path / "sound.mp4")) as container:
        assert container.streams.video[0].index == 1
    row, _ = analyze(tmp_path / "sound.mp4")
    assert (row["status"], row["num_frames"], row["decode_errors"]) == ("kept", 48, 0)


def test_a_stream_of_data_beside_the_frames_is_passed_over(tmp_path):
    write_beside(tmp_path / "camera.ts", film([1, 2], 24), timecode=True)
    with av.open(str(tmp_path / "camera.ts")) as container:
        assert [s.type for s in container.streams] == ["video", "data"]
    row, _ = analyze(tmp_path / "camera.ts")
    assert (row["status"], row["num_frames"], row["decode_errors"]) == ("kept", 48, 0)


def test_frames_that_others_are_predicted_from_are_decoded_exactly(tmp_path):
    """The decoder smooths no other: those differ by little, and only where blocks meet."""
    path = tmp_path / "coarse.mp4"
    pictures = film([1, 2], 24)
    with av.open(str(path), "w") as container:
        stream = add_video(container, pictures[0], bf="2", crf="36")
        for packet in packets_of(stream, pictures):
            container.mux(packet)
    exact = read_frames(path).astype(int)
    with opened(path) as (container, stream):
        check_stream(stream, DecodeConfig())
        frames = list(iter_frames(container, stream, StreamSeen()))
    kinds = [PictureType(frame.pict_type).name for frame in frames]
    offs = [
        np.abs(frame.to_ndarray(format="rgb24").astype(int) - true)
        for frame, true in zip(frames, exact, strict=True)
    ]
    assert {"I", "P", "B"} <= set(kinds)
    assert all(not off.any() for off, kind in zip(offs, kinds, strict=True) if kind in "IP")
    assert any(off.any() for off in offs) and max(off.mean() for off in offs) < 2.0


@pytest.mark.parametrize("name", ["composite_toast_A.mp4", "tos_bridge_10s.mp4"])
def test_at_a_keyframes_size_nobody_sees_that_a_frame_was_not_smoothed(shared_videos, name):
    """45 dB: two grey levels of 255 apart on the worst of frames, where JPEG takes more."""
    with opened(shared_videos / name) as (container, stream):
        check_stream(stream, DecodeConfig())
        rough = [small(frame) for frame in iter_frames(container, stream, StreamSeen())]
    with av.open(str(shared_videos / name)) as container:
        exact = [small(frame) for frame in container.decode(video=0)]
    off = [np.mean((a - b) ** 2) for a, b in zip(rough, exact, strict=True)]
    assert 0 < max(off) < 255**2 / 10**4.5


def small(frame):
    scale = 512 / max(frame.width, frame.height)
    size = {"width": round(frame.width * scale), "height": round(frame.height * scale)}
    return frame.reformat(format="rgb24", **size).to_ndarray().astype(np.float32)
