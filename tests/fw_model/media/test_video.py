import json
from fractions import Fraction

import numpy as np
import pytest
import torch

from fw_model.errors import FilmWeaverError, MediaError, StorageError
from fw_model.media.video import (
    VideoWriter,
    frames_to_uint8,
    iter_frames,
    probe,
    read_frames,
    resize_frames,
    uint8_to_frames,
    write_video,
)


def _ramp(num_frames=12, height=48, width=64):
    """Grey frames, each brighter than the last: a frame's number can be read off its pixels."""
    levels = np.linspace(20, 230, num_frames).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (num_frames, height, width, 3)).copy()


@pytest.fixture
def ramp_video(tmp_path):
    return write_video(tmp_path / "ramp.mp4", _ramp(), fps=12)


def test_what_is_written_is_read_back(ramp_video):
    assert np.abs(read_frames(ramp_video).astype(int) - _ramp()).max() <= 3


def test_colours_survive_the_way_to_a_file_and_back(tmp_path):
    frames = np.zeros((3, 64, 64, 3), np.uint8)
    frames[:, :, :32], frames[:, :, 32:] = (230, 60, 40), (60, 200, 90)
    path = write_video(tmp_path / "two.mp4", frames, fps=12)
    read = read_frames(path)[1].astype(int)
    assert np.abs(read[32, 10] - (230, 60, 40)).max() <= 4
    assert np.abs(read[32, 50] - (60, 200, 90)).max() <= 4


def test_probe_tells_size_rate_and_length(ramp_video):
    info = probe(ramp_video)
    assert (info.width, info.height, info.fps) == (64, 48, Fraction(12))
    assert (info.num_frames_header, info.codec, info.pix_fmt) == (12, "h264", "yuv420p")
    assert info.duration_s == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("rate", [12, 24.0, Fraction(30000, 1001), 23.976])
def test_frame_rates_are_kept(tmp_path, rate):
    path = write_video(tmp_path / "rate.mp4", _ramp(4), fps=rate)
    assert float(probe(path).fps) == pytest.approx(float(rate), rel=1e-4)


def test_a_span_is_half_open_and_counts_decoded_frames(ramp_video):
    whole = read_frames(ramp_video)
    assert np.array_equal(read_frames(ramp_video, start=3, stop=7), whole[3:7])


def test_a_span_past_the_end_is_refused(ramp_video):
    with pytest.raises(MediaError, match=r"12 frames, but \[8, 20\)"):
        read_frames(ramp_video, start=8, stop=20)


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (5, 5), (7, 2)])
def test_no_span_is_refused(ramp_video, start, stop):
    with pytest.raises(MediaError, match="Invalid frame range"):
        read_frames(ramp_video, start=start, stop=stop)


def test_frames_are_scaled_while_they_are_read(ramp_video):
    frames = list(iter_frames(ramp_video, size=(32, 16)))
    assert len(frames) == 12
    assert frames[0].shape == (16, 32, 3)


def test_odd_sizes_are_padded_by_repeating_the_edge(tmp_path):
    path = write_video(tmp_path / "odd.mp4", _ramp(4, height=47, width=63), fps=12)
    frames = read_frames(path)
    assert frames.shape == (4, 48, 64, 3)
    assert np.abs(frames[:, -1].astype(int) - frames[:, -2]).max() <= 3


def test_a_file_object_reads_like_a_path(ramp_video):
    with ramp_video.open("rb") as file:
        assert np.array_equal(read_frames(file), read_frames(ramp_video))


def test_a_failed_writing_leaves_nothing_behind(tmp_path):
    with pytest.raises(RuntimeError), VideoWriter(tmp_path / "half.mp4", fps=12) as writer:  # noqa: PT012
        writer.write(_ramp(2))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_failed_writing_keeps_the_old_file(ramp_video):
    before = ramp_video.read_bytes()
    frames = [_ramp(1)[0], _ramp(1, height=32)[0]]
    with pytest.raises(MediaError, match="cannot follow"):
        write_video(ramp_video, frames, fps=12)
    assert ramp_video.read_bytes() == before
    assert len(list(ramp_video.parent.iterdir())) == 1


def test_a_video_without_frames_is_refused(tmp_path):
    with pytest.raises(MediaError, match="No frames"):
        write_video(tmp_path / "none.mp4", [], fps=12)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match="Cannot write"):
        write_video(tmp_path / "file" / "film.mp4", _ramp(2), fps=12)


@pytest.mark.parametrize("content", [b"", b"no video at all", bytes(1000)])
def test_what_is_no_video_is_told_in_one_sentence(tmp_path, content):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=r"broken\.mp4 is not a video"):
        probe(path)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(MediaError, match="There is no file"):
        probe(tmp_path / "absent.mp4")


def test_a_truncated_video_yields_its_whole_frames_then_fails_or_ends(ramp_video):
    data = ramp_video.read_bytes()
    ramp_video.write_bytes(data[: len(data) - 200])
    seen = []
    try:
        seen.extend(iter_frames(ramp_video))
    except MediaError as error:
        assert str(ramp_video) in str(error)  # noqa: PT017
    assert len(seen) <= 12


def test_pixels_and_tensors_are_inverse():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), dtype=np.uint8)
    frames = uint8_to_frames(pixels)
    assert frames.shape == (1, 3, 5, 8, 6)
    assert frames.dtype == torch.float32
    assert np.array_equal(frames_to_uint8(frames), pixels)
    assert np.array_equal(frames_to_uint8(frames[0]), pixels)


def test_black_is_minus_one_and_white_is_one_and_beyond_is_clamped():
    pixels = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1).repeat(3, axis=3)
    assert uint8_to_frames(pixels)[0, 0, :, 0, 0].tolist() == [-1.0, 1.0]
    assert frames_to_uint8(torch.full((1, 3, 1, 1, 1), 1.7)).max() == 255
    assert frames_to_uint8(torch.full((1, 3, 1, 1, 1), -1.7)).max() == 0


@pytest.mark.parametrize("shape", [(2, 3, 1, 4, 4), (1, 4, 1, 4, 4), (4, 4)])
def test_tensors_of_another_shape_are_refused(shape):
    with pytest.raises(MediaError, match="Expected frames"):
        frames_to_uint8(torch.zeros(shape))


def test_frames_are_resized_one_or_many():
    assert resize_frames(_ramp(3), width=20, height=10).shape == (3, 10, 20, 3)
    assert resize_frames(_ramp(3)[0], width=200, height=100).shape == (100, 200, 3)


def test_hostile_real_files_are_probed_or_told(shared_videos):
    told = {}
    for path in sorted(p for p in shared_videos.iterdir() if p.is_file() and p.suffix != ".json"):
        try:
            info = probe(path)
        except FilmWeaverError as error:
            told[path.name] = str(error)
        else:
            told[path.name] = info.has_video
            assert not info.has_video or min(info.width, info.height) > 0, path.name
    assert told["odd_audio_only.mp4"] is False
    assert "not a video" in told["odd_zero_byte.webm"]
    assert told["-video-with-dash-.mp4"] is True


def test_a_turned_video_is_read_upright(shared_videos):
    path = shared_videos / "odd_rot90_frag_bbb.mp4"
    info = probe(path)
    assert (info.rotation, info.width, info.height) == (90, 1080, 1920)
    assert next(iter_frames(path)).shape == (1920, 1080, 3)
    assert next(iter_frames(path, size=(54, 96))).shape == (96, 54, 3)


def test_frame_counts_agree_with_judged_footage(shared_videos):
    truth = json.loads((shared_videos / "GROUND_TRUTH.json").read_text())
    assert truth
    frames = sum(1 for _ in iter_frames(shared_videos / "drv_static_2s.mp4", size=(32, 32)))
    info = probe(shared_videos / "drv_static_2s.mp4")
    assert frames == info.num_frames_header
