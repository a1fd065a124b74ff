"""Encoding: spans to latents at the model's size and rate, committed once, resumed, cleaned."""

import json
import shutil
import tempfile
import wave
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import av
import numpy as np
import pytest
import torch
from pyarrow import fs

from fw_model.errors import DataError, MediaError
from fw_model.loading.config import ModelConfig, PartConfig
from fw_model.loading.folders import TINY
from fw_model.media.video import VideoInfo, iter_frames, packet_times, write_video
from pipelines.curation.analysis.bars import Bars
from pipelines.curation.analysis.video_stream import StreamSeen, first_video
from pipelines.curation.analysis.video_stream import iter_frames as curated_frames
from pipelines.encode import run_encode
from pipelines.encoding.captioned_videos import read_curated, spans_of_scenes
from pipelines.encoding.config import EncodeConfig
from pipelines.encoding.dataset_store import EncodedStore
from pipelines.encoding.encode_video import VideoEncoder, text_rows
from pipelines.encoding.models import Models, encoded_meta
from pipelines.encoding.operators import pending_row, video_of
from pipelines.encoding.shot_frames import (
    FrameFormat,
    VideoSpans,
    _covering_size,
    decode_shots,
    upright_crop,
)
from pipelines.storage import store as storage
from pipelines.storage.filesystems import filesystem
from tests.pipelines.curation.shot_files.test_cut import encode as encode_timed
from tests.pipelines.training.stand_ins import (
    FORM,
    MODELS,
    LengthText,
    MeanEmbedder,
    MeanVae,
    encode_into,
    encode_part,
    failed,
    spans,
)


def encode_video(
    video: VideoSpans, form: FrameFormat, models: Models = MODELS, *, vae_batch: int
) -> tuple[Any, ...]:
    encoder = VideoEncoder(models, form, vae_batch=vae_batch)
    return encoder.encode_video(video, decode_shots(video, form))


BARS = Bars(top=20, bottom=12, left=0, right=8)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_crop_turns_with_the_frame(rotation: int) -> None:
    stored = np.zeros((100, 200), np.uint8)
    stored[20:88, 0:192] = 1  # what BARS leave
    upright = np.rot90(stored, -rotation // 90)  # clockwise
    info = VideoInfo(True, width=upright.shape[1], height=upright.shape[0], rotation=rotation)
    crop = upright_crop(BARS, info)
    height, width = upright.shape
    rows = slice(round(crop.top * height), round((1 - crop.bottom) * height))
    columns = slice(round(crop.left * width), round((1 - crop.right) * width))
    assert upright[rows, columns].all()
    assert upright.sum() == upright[rows, columns].size


def test_black_bars_are_left_out_of_encoded_frames(tmp_path: Path) -> None:
    frames = np.full((24, 48, 64, 3), 200, np.uint8)
    sides = ((0, 0), (24, 24), (0, 0), (0, 0))
    path = write_video(tmp_path / "barred.mp4", np.pad(frames, sides), fps=24)
    whole = spans(path, (0, 12), (12, 24))
    bars = Bars(top=24, bottom=24)
    first, second = whole.shots
    shared = replace(second, start=6)  # its first frames are the first shot's, too
    mixed = replace(whole, shots=(replace(first, bars=bars), shared))
    cropped, uncropped = decode_shots(mixed, FORM)
    assert np.min(cropped.frames) > 150
    (expected,) = decode_shots(replace(whole, shots=(shared,)), FORM)
    difference = np.asarray(uncropped.frames).astype(int) - np.asarray(expected.frames)
    assert np.abs(difference).mean() < 3


def test_frames_are_cropped_at_the_centre_and_taken_at_the_models_rate(film: Path) -> None:
    shots = list(decode_shots(spans(film, (0, 20), (24, 48)), FORM))
    assert [len(shot.frames) for shot in shots] == [10, 12]  # 24 fps to 12: every second frame
    levels = [float(frame.mean()) for frame in shots[1].frames]
    assert levels == pytest.approx([5 * (24 + 2 * k) for k in range(12)], abs=4)
    assert all(frame.shape == (16, 16, 3) for shot in shots for frame in shot.frames)
    assert [[n for n, _ in shot.keyframes] for shot in shots] == [[1], [25]]


def test_a_slower_source_repeats_frames(film: Path) -> None:
    slow = VideoSpans("v", str(film), 6.0, spans(film, (0, 8)).shots, "c1")
    (shot,) = decode_shots(slow, FORM)
    levels = [round(float(frame.mean()) / 5) for frame in shot.frames]
    assert len(levels) == 16 and sorted(levels) == levels and set(levels) <= set(range(9))


def test_a_damaged_packet_costs_its_frame_and_not_the_video(film: Path, tmp_path: Path) -> None:
    with av.open(str(film)) as container:
        (found,) = [p for i, p in enumerate(container.demux(video=0)) if i == 30]
        position, size = found.pos, found.size
    data = bytearray(film.read_bytes())
    data[position + 4 : position + size] = bytes([255]) * (size - 4)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    with av.open(str(path)) as container:
        stream, seen = first_video(container), StreamSeen()
        counted = [f.to_ndarray(format="rgb24") for f in curated_frames(container, stream, seen)]
    assert seen.decode_errors > 0
    encoded = list(iter_frames(path, skip_damaged=True))
    assert np.array_equal(encoded, counted)  # a number means the same frame to both
    with pytest.raises(MediaError):
        list(iter_frames(path))
    row, shots, _ = encode_video(spans(path, (0, len(counted))), FORM, vae_batch=1)
    assert (row["status"], len(shots)) == ("encoded", 1)


def test_frames_that_do_not_follow_evenly_are_taken_by_their_times(tmp_path: Path) -> None:
    # Half a second at 24 a second, then two at 4: by numbers, the second part would fly by.
    times_ms = [*(round(1000 * k / 24) for k in range(12)), *(500 + 250 * k for k in range(8))]
    frames = np.stack([np.full((32, 32, 3), 10 * k, np.uint8) for k in range(20)])
    path = encode_timed(tmp_path / "uneven.mp4", frames, times=times_ms)
    assert packet_times(path) == pytest.approx([ms / 1000 for ms in times_ms], abs=2e-3)
    (shot,) = decode_shots(spans(path, (0, 20)), FORM)  # at 12 a second
    levels = [round(float(frame.mean()) / 10) for frame in shot.frames]
    assert levels[:6] == [0, 2, 4, 6, 8, 10]
    assert levels[6:12] == [12, 12, 13, 13, 13, 14]
    assert levels[-1] == 19 and len(levels) >= 27


def test_pixels_that_are_not_square_are_made_so() -> None:
    form = FrameFormat(width=100, height=100, fps=12.0, max_frames=9, temporal_factor=1)
    wide = VideoInfo(True, width=100, height=100, sample_aspect_ratio=Fraction(2))
    assert _covering_size(wide, form) == (200, 100)
    turned = replace(wide, rotation=90)  # what was wide as stored is high as seen
    assert _covering_size(turned, form) == (100, 200)
    assert _covering_size(VideoInfo(True, width=50, height=100), form) == (100, 200)


def test_many_texts_are_encoded_a_few_at_once() -> None:
    class CountingText(LengthText):
        held: ClassVar[list[int]] = []

        def encode(self, prompts: Sequence[str]) -> torch.Tensor:
            self.held.append(len(prompts))
            return super().encode(prompts)

    texts = [f"{'x' * n}" for n in range(40)]
    rows = text_rows(texts, Models(MeanVae(), CountingText(), MeanEmbedder()))
    assert [row["text"] for row in rows] == sorted(texts)  # the empty one is there already
    assert max(CountingText.held) <= 16
    assert _same(rows, text_rows(texts, MODELS))


def _same(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> bool:
    return all(
        np.array_equal(a[key], b[key]) for a, b in zip(first, second, strict=True) for key in a
    )


def test_a_video_shorter_than_when_it_was_curated_is_a_failed_row(film: Path) -> None:
    with pytest.raises(MediaError, match="ended before frame 60"):
        list(decode_shots(spans(film, (0, 60)), FORM))
    encoded = encode_part(spans(film, (0, 60)))
    assert [row["status"] for row in encoded.sources] == ["failed"]
    assert encoded.shots == encoded.keyframes == []


@pytest.mark.parametrize("address", ["file://{}", "memory://bucket/{}"])
def test_a_video_is_read_by_its_address_as_curation_reads_it(
    address: str, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bucket(uri: str) -> tuple[fs.FileSystem, str]:
        if not uri.startswith("memory://"):
            return filesystem(uri)
        return fs.SubTreeFileSystem("/", fs.LocalFileSystem()), uri.removeprefix("memory://bucket/")

    monkeypatch.setattr(storage, "filesystem", bucket)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    video = replace(spans(film, (0, 20)), uri=address.format(film))
    encoded = encode_part(video)
    assert encoded.sources[0]["detail"] == ""
    assert [row["num_latents"] for row in encoded.shots] == [3]
    assert not list(tmp_path.glob("*/*")), "the copy is left behind"
    gone = replace(video, uri=address.format(tmp_path / "gone.mp4"))
    (row,) = encode_part(gone).sources
    assert row["status"] == "failed" and "gone.mp4" in row["detail"]


def test_a_file_that_became_sound_alone_is_a_failed_row(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16000))
    (row,) = encode_part(spans(path, (0, 8))).sources
    assert row["status"] == "failed" and "no video stream" in row["detail"]


def test_a_long_video_is_encoded_a_few_shots_at_once(film: Path) -> None:
    class CountingVae(MeanVae):
        held: ClassVar[list[int]] = []

        def encode(self, frames: torch.Tensor) -> torch.Tensor:
            if frames.shape[2] > 1:  # not the keyframes
                self.held.append(frames.shape[0] * frames.shape[2])
            return super().encode(frames)

    models = Models(CountingVae(), LengthText(), MeanEmbedder())
    video = spans(film, (0, 8), (8, 16), (16, 24), (24, 32), (32, 40), (40, 48))  # 4 frames each
    whole = encode_video(video, FORM, vae_batch=8)
    short = FrameFormat(width=16, height=16, fps=12.0, max_frames=5, temporal_factor=1)
    encode_video(video, short, models, vae_batch=8)
    assert CountingVae.held == [8, 8, 8]  # two shots of four frames, never more than ten frames
    _, shots, keyframes = encode_video(video, FORM, vae_batch=1)
    assert [row["latents"] for row in shots] == [row["latents"] for row in whole[1]]
    assert [row["latents"] for row in keyframes] == [row["latents"] for row in whole[2]]


def test_a_run_in_which_everything_failed_is_an_error_that_says_why(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    videos = failed(film, "a", "b")
    encode_into(EncodedStore(tmp_path), *videos)
    monkeypatch.setattr("pipelines.encode.read_curated", lambda *_, **__: videos)
    monkeypatch.setattr(EncodedStore, "encoded", lambda _: {"a": "c1", "b": "c1"})  # without Ray
    with pytest.raises(DataError, match=r"0 are empty, 2 failed \(first: .*gone\.mp4"):
        run_encode(EncodeConfig(), ModelConfig(device="cpu"), tmp_path, tmp_path)
    assert caplog.text.count("encode: failed: ") == 2
    assert json.loads((tmp_path / "summary.json").read_text())["failed"] == 2


def test_the_dataset_says_which_vae_and_text_encoder_made_it(tmp_path: Path) -> None:
    vae = Path(shutil.copytree(TINY / "vae", tmp_path / "vae"))
    own = ModelConfig(device="cpu", vae=PartConfig(kind="wan", path=str(vae)))
    plain, same = (encoded_meta(EncodeConfig(), m) for m in (ModelConfig(device="cpu"), own))
    assert set(plain.parts) == {"vae", "text_encoder"} and plain == same
    config = json.loads((vae / "config.json").read_text())
    config["latents_mean"][0] += 1.0
    (vae / "config.json").write_text(json.dumps(config))
    other = encoded_meta(EncodeConfig(), own)
    assert other.parts["vae"] != plain.parts["vae"]
    assert other.encode_hash != plain.encode_hash


def test_units_of_work_survive_the_way_as_text_and_order_follows_frames(film: Path) -> None:
    scene = {
        "scene_id": "s",
        "status": "captioned",
        "shots": [
            {
                "shot_id": name,
                "video_id": "v",
                "uri": str(film),
                "start_frame": start,
                "end_frame": start + 5,
                "text": "x",
                "keyframe_frames": [start],
            }
            for name, start in (("later", 30), ("sooner", 3))
        ],
    }
    rejected = {**scene, "status": "rejected"}
    (video,) = spans_of_scenes([scene, rejected], {"v": 24.0})
    assert [(s.shot_id, s.index) for s in video.shots] == [("sooner", 0), ("later", 1)]
    assert video_of(pending_row(video)["video"]) == video


def test_a_folder_that_was_not_curated_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no curated captions"):
        read_curated(tmp_path)
