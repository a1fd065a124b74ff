import av
import numpy as np
import pytest

from fw_model.media.video import write_video
from pipelines.curation.analysis.analyze import analyze_file
from pipelines.curation.analysis.bars import NO_BARS, Bars, crop, find_bars, shared_bars
from pipelines.curation.analysis.shot_tracker import AnalyzeSettings
from pipelines.curation.config import DecodeConfig, DetectorConfig, KeyframeConfig
from tests.pipelines.curation.footage import FPS, shot

BARS = Bars(top=20, bottom=24, left=0, right=0)


def padded(frames, bars, level=0):
    """Put RGB frames [F, H, W, 3] between bars."""
    sides = ((0, 0), (bars.top, bars.bottom), (bars.left, bars.right), (0, 0))
    return np.pad(frames, sides, constant_values=level)


def frame_of(picture, pixels="yuv420p"):
    return av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels, threads=1)


def analyze(path, **keyframes):
    settings = AnalyzeSettings(DecodeConfig(), DetectorConfig(), KeyframeConfig(**keyframes), "h")
    return analyze_file(path, uri=str(path), settings=settings, on_keyframe=lambda *_: None)


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p10le", "rgb24", "nv12", "gray"])
@pytest.mark.parametrize("bars", [BARS, Bars(left=30, right=30), Bars(10, 12, 16, 18), NO_BARS])
def test_bars_are_found_to_the_pixel(bars, pixels):
    picture = padded(np.full((1, 100, 160, 3), 120, np.uint8), bars)[0]
    assert find_bars(frame_of(picture, pixels)) == bars


def test_a_black_frame_says_nothing_of_bars():
    black = frame_of(np.zeros((90, 160, 3), np.uint8))
    assert find_bars(black) is None
    assert shared_bars([None, BARS, None], width=160, height=144) == BARS
    assert shared_bars([None], width=160, height=144) == NO_BARS


def test_frames_share_the_thinnest_bars_in_even_numbers():
    found = [Bars(21, 24), Bars(top=40, bottom=24, left=6)]
    assert shared_bars(found, width=160, height=144) == Bars(22, 24)


def test_a_crop_that_leaves_no_picture_is_none():
    assert shared_bars([Bars(top=70, bottom=70)], width=160, height=144) == NO_BARS


def test_a_scaled_picture_is_cropped_inside_its_bars():
    picture = padded(np.full((1, 100, 160, 3), 200, np.uint8), BARS)[0][::2, ::2]
    cropped = crop(picture, BARS, width=160, height=144)
    assert cropped.shape == (50, 80, 3)
    assert cropped.min() == 200


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """The same two shots without bars and between them."""
    folder = tmp_path_factory.mktemp("bars")
    frames = np.concatenate([shot(1, 30), shot(2, 30)])
    write_video(folder / "plain.mp4", frames, fps=FPS)
    write_video(folder / "barred.mp4", padded(frames, BARS), fps=FPS)
    return folder


def test_bars_are_cropped_off_keyframes_and_measurements(films):
    plain, barred = analyze(films / "plain.mp4"), analyze(films / "barred.mp4")
    for own, other in zip(plain["shots"], barred["shots"], strict=True):
        assert own["crop"] is None
        assert other["crop"] == {"top": 20, "bottom": 24, "left": 0, "right": 0}
        sizes = {(k["width"], k["height"]) for k in other["keyframes"]}
        assert sizes == {(k["width"], k["height"]) for k in own["keyframes"]}
        assert other["luma"] == pytest.approx(own["luma"], rel=0.05)
        assert other["contrast"] == pytest.approx(own["contrast"], rel=0.1)


def test_cropping_can_be_switched_off(films):
    row = analyze(films / "barred.mp4", crop_bars=False)
    assert [shot["crop"] for shot in row["shots"]] == [None, None]
    height = padded(shot(1, 1), BARS).shape[1]
    assert {k["height"] for s in row["shots"] for k in s["keyframes"]} == {height}
