"""Encoding: spans to latents at the model's size and rate, committed once, resumed, cleaned."""

import json
import shutil
import tempfile
import wave
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pyarrow import fs

from fw_model.errors import DataError, MediaError
from fw_model.media.video import VideoWriter
from fw_model.model import TINY, ModelConfig, PartConfig
from fw_model.training.dataset import FORMAT_VERSION, EncodedDataset, EncodedMeta
from pipelines import storage
from pipelines.encode import (
    BatchEncoder,
    EncodeConfig,
    _summary,
    encoded_meta,
    read_curated,
    run_encode,
    video_from_json,
    video_to_json,
)
from pipelines.encoded_store import TABLE_SCHEMAS, EncodedStore, local_dataset
from pipelines.encoding import (
    FrameFormat,
    Models,
    ShotSpan,
    VideoSpans,
    decode_shots,
    encode_video,
    spans_of_scenes,
)
from pipelines.storage import Store, filesystem

FORM = FrameFormat(width=16, height=16, fps=12.0, max_frames=60, temporal_factor=4)


class MeanCodec:
    """A stand-in codec: a latent is the mean colour of its 8x8 cells, every fourth frame."""

    latent_channels, spatial_factor, temporal_factor, receptive_latents = 3, 8, 4, 0

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool3d(frames[:, :, ::4], (1, 8, 8))


class LengthText:
    """A stand-in text encoder: as many tokens as words."""

    model_id, width, num_tokens = "length", 4, 8

    def encode(self, prompts: Sequence[str]) -> torch.Tensor:
        return torch.ones(len(prompts), self.num_tokens, self.width)

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        return [max(1, len(prompt.split())) for prompt in prompts]


class MeanEmbedder:
    """A stand-in CLIP: the mean colour, normalised."""

    model_id, width, image_size = "mean", 3, 16

    def embed_images(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        means = torch.stack([torch.from_numpy(i).float().mean((0, 1)) + 1 for i in images])
        return torch.nn.functional.normalize(means, dim=1)

    def embed_text(self, prompts: Sequence[str]) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.ones(len(prompts), 3), dim=1)


MODELS = Models(MeanCodec(), LengthText(), MeanEmbedder())
META = EncodedMeta(
    format_version=FORMAT_VERSION,
    encode_hash="one",
    height=16,
    width=16,
    fps=12.0,
    latent_shape=(3, 2, 2),
    max_text_tokens=8,
    text_width=4,
    embedding_width=3,
    models={},
)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 frames of 64x32 at 24 fps: grey level 5 x frame number, a red column at each side."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with VideoWriter(path, fps=24, crf=1) as writer:
        for number in range(48):
            frame = np.full((32, 64, 3), 5 * number, np.uint8)
            frame[:, :12] = frame[:, -12:] = (255, 0, 0)
            writer.write(frame)
    return path


def spans(film: Path, *shots: tuple[int, int], video_id: str = "v") -> VideoSpans:
    return VideoSpans(
        video_id=video_id,
        uri=str(film),
        fps=24.0,
        shots=tuple(
            ShotSpan(f"{video_id}-{i}", "scene", i, start, end, f"shot {i}", (start + 1,))
            for i, (start, end) in enumerate(shots)
        ),
        captions_hash="c1",
    )


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


def test_a_video_shorter_than_when_it_was_curated_is_a_failed_row(film: Path) -> None:
    with pytest.raises(MediaError, match="ended before frame 60"):
        list(decode_shots(spans(film, (0, 60)), FORM))
    encoded = BatchEncoder(MODELS, FORM, EncodeConfig())([spans(film, (0, 60))])
    assert encoded["sources"]["status"].to_pylist() == ["failed"]
    assert encoded["shots"].num_rows == encoded["keyframes"].num_rows == 0


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
    encoded = BatchEncoder(MODELS, FORM, EncodeConfig())([video])
    assert encoded["sources"].to_pylist()[0]["detail"] == ""
    assert encoded["shots"]["num_latents"].to_pylist() == [3]
    assert not list(tmp_path.iterdir()), "the copy is left behind"
    gone = replace(video, uri=address.format(tmp_path / "gone.mp4"))
    (row,) = BatchEncoder(MODELS, FORM, EncodeConfig())([gone])["sources"].to_pylist()
    assert row["status"] == "failed" and "gone.mp4" in row["detail"]


def test_a_file_that_became_sound_alone_is_a_failed_row(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16000))
    (row,) = BatchEncoder(MODELS, FORM, EncodeConfig())([spans(path, (0, 8))])[
        "sources"
    ].to_pylist()
    assert row["status"] == "failed" and "no video stream" in row["detail"]


def encode_into(store: EncodedStore, *videos: VideoSpans) -> None:
    store.write_part(BatchEncoder(MODELS, FORM, EncodeConfig())(list(videos)))


def test_what_is_encoded_reads_back(film: Path, tmp_path: Path) -> None:
    store = EncodedStore(tmp_path)
    store.open(META)
    encode_into(store, spans(film, (0, 20), (24, 48)))
    assert store.encoded() == {"v": "c1"}
    counts = store.publish({"v": "c1"})
    assert counts == {"sources": 1, "shots": 2, "keyframes": 2, "texts": 3}
    data = EncodedDataset(tmp_path)
    assert data.num_latents.tolist() == [3, 3]  # 10 and 12 frames are cut to 9
    grey = data.latents(0, 1, 2).astype(np.float32)
    assert grey == pytest.approx((5 * 8) / 127.5 - 1, abs=0.03)
    assert data.text_tokens(int(data.shot_texts[0])).shape == (2, 4)
    assert data.texts[int(data.empty_text)] == ""


def test_a_long_video_is_encoded_a_few_shots_at_once(film: Path) -> None:
    class CountingCodec(MeanCodec):
        held: ClassVar[list[int]] = []

        def encode(self, frames: torch.Tensor) -> torch.Tensor:
            if frames.shape[2] > 1:  # not the keyframes
                self.held.append(frames.shape[0] * frames.shape[2])
            return super().encode(frames)

    models = Models(CountingCodec(), LengthText(), MeanEmbedder())
    video = spans(film, (0, 8), (8, 16), (16, 24), (24, 32), (32, 40), (40, 48))  # 4 frames each
    whole = encode_video(video, FORM, MODELS, vae_batch=8)
    short = FrameFormat(width=16, height=16, fps=12.0, max_frames=5, temporal_factor=1)
    encode_video(video, short, models, vae_batch=8)
    assert CountingCodec.held == [8, 8, 8]  # two shots of four frames, never more than ten frames
    _, shots, keyframes = encode_video(video, FORM, MODELS, vae_batch=1)
    assert [row["latents"] for row in shots] == [row["latents"] for row in whole[1]]
    assert [row["latents"] for row in keyframes] == [row["latents"] for row in whole[2]]


def test_captions_that_changed_replace_the_old_rows_and_removed_videos_go(
    film: Path, tmp_path: Path
) -> None:
    store = EncodedStore(tmp_path)
    store.open(META)
    a, b = spans(film, (0, 20), video_id="a"), spans(film, (24, 48), video_id="b")
    encode_into(store, a, b)
    store.publish({"a": "c1", "b": "c1"})
    changed = VideoSpans("a", a.uri, a.fps, spans(film, (0, 40), video_id="a").shots, "c2")
    encode_into(store, changed)
    assert store.publish({"a": "c2", "b": "c1"})["shots"] == 2
    data = EncodedDataset(tmp_path)
    assert data.num_latents.tolist() == [5, 3]
    assert store.publish({"a": "c2"})["shots"] == 1
    assert EncodedDataset(tmp_path).shot_ids == ["a-0"]


def failed(film: Path, *video_ids: str) -> list[VideoSpans]:
    """Units of work whose file is not there."""
    return [spans(film.with_name("gone.mp4"), (0, 20), video_id=name) for name in video_ids]


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("together", [("a",), ("a", "b"), ("a", "c")])
def test_a_video_that_failed_is_done_again_and_stands_in_the_dataset_once(
    published: bool, together: tuple[str, ...], film: Path, tmp_path: Path
) -> None:
    store, current = EncodedStore(tmp_path), {"a": "c1", "b": "c1", "c": "c1"}
    store.open(META)
    encode_into(store, *failed(film, "a", "b"), spans(film, (24, 48), video_id="c"))
    assert store.encoded() == {"c": "c1"}
    if published:
        store.publish(current)
    assert store.encoded() == {"c": "c1"}
    encode_into(store, *(spans(film, (0, 20), video_id=name) for name in together))
    assert set(store.encoded()) == {"c", *together}
    counts = store.publish(current)
    assert counts["sources"] == 3 and counts["shots"] == len({"c", *together})
    assert set(store.encoded()) == {"c", *together}
    assert len(EncodedDataset(tmp_path).shot_ids) == counts["shots"]
    assert store.publish(current) == counts


def test_of_two_failures_the_newer_reason_stays(film: Path, tmp_path: Path) -> None:
    store, current = EncodedStore(tmp_path), {"a": "c1", "b": "c1"}
    store.open(META)
    encode_into(store, *failed(film, "a", "b"))
    store.publish(current)
    for video_id in ("a", "b"):  # whichever part comes first by name
        encode_into(store, spans(film, (0, 60), video_id=video_id))
    counts = store.publish(current)
    summary = _summary(store, counts, tried_now=2)
    assert (summary.videos, summary.encoded, summary.empty, summary.failed) == (2, 0, 0, 2)
    assert all("ended before frame 60" in failure for failure in summary.failures)


def test_a_run_in_which_everything_failed_is_an_error_that_says_why(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    videos = failed(film, "a", "b")
    encode_into(EncodedStore(tmp_path), *videos)
    monkeypatch.setattr("pipelines.encode.read_curated", lambda _: videos)
    monkeypatch.setattr(EncodedStore, "encoded", lambda _: {"a": "c1", "b": "c1"})  # without Ray
    with pytest.raises(DataError, match=r"0 are empty, 2 failed \(first: .*gone\.mp4"):
        run_encode(EncodeConfig(), ModelConfig(device="cpu"), tmp_path, tmp_path)
    assert caplog.text.count("encode: failed: ") == 2
    assert json.loads((tmp_path / "summary.json").read_text())["failed"] == 2


def test_a_dataset_of_a_broken_meta_file_is_named_by_who_adds_to_it(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        EncodedStore(tmp_path).open(META)


def test_the_dataset_says_which_vae_and_text_encoder_made_it(tmp_path: Path) -> None:
    vae = Path(shutil.copytree(TINY / "vae", tmp_path / "vae"))
    own = ModelConfig(device="cpu", codec=PartConfig(kind="wan", path=str(vae)))
    plain, same = (encoded_meta(EncodeConfig(), m) for m in (ModelConfig(device="cpu"), own))
    assert set(plain.parts) == {"vae", "text_encoder"} and plain == same
    config = json.loads((vae / "config.json").read_text())
    config["latents_mean"][0] += 1.0
    (vae / "config.json").write_text(json.dumps(config))
    other = encoded_meta(EncodeConfig(), own)
    assert other.parts["vae"] != plain.parts["vae"]
    assert other.encode_hash != plain.encode_hash


@pytest.mark.parametrize("missing", ["sources", "texts"])
def test_a_part_that_was_cut_short_is_not_seen(missing: str, film: Path, tmp_path: Path) -> None:
    """The sources are written last: without them nothing vouches for the rest."""
    store = EncodedStore(tmp_path)
    store.open(META)
    encode_into(store, spans(film, (0, 20)))
    encode_into(store, spans(film, (24, 48), video_id="w"))
    newer = max((tmp_path / "sources").iterdir()).name
    for table in ("sources", missing):
        (tmp_path / table / newer).unlink(missing_ok=True)
    assert store.encoded() == {"v": "c1"}
    assert store.publish({"v": "c1", "w": "c1"})["shots"] == 1
    assert [len(list((tmp_path / name).iterdir())) for name in TABLE_SCHEMAS] == [1, 1, 1, 1]


def test_a_reader_sees_what_was_published_last(film: Path, tmp_path: Path) -> None:
    store = EncodedStore(tmp_path)
    store.open(META)
    with pytest.raises(DataError, match="holds no encoded shot"):
        EncodedDataset(tmp_path)
    encode_into(store, spans(film, (0, 20)))
    store.publish({"v": "c1"})
    encode_into(store, spans(film, (24, 48), video_id="w"))  # a run beside it, not yet done
    assert EncodedDataset(tmp_path).shot_ids == ["v-0"]
    store.publish({"v": "c1", "w": "c1"})
    assert EncodedDataset(tmp_path).shot_ids == ["v-0", "w-0"]


def test_a_publishing_that_is_killed_leaves_the_dataset_of_before(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, current = EncodedStore(tmp_path), {"a": "c1", "b": "c1"}
    store.open(META)
    encode_into(store, spans(film, (0, 20), video_id="a"), spans(film, (24, 48), video_id="b"))
    store.publish(current)
    for stop in range(1, 20):  # at its first write, at its second, ...
        calls = iter(range(stop))

        def killed(*_: object, calls=calls, **__: object) -> None:
            if next(calls, None) is None:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            for name in ("write", "delete"):
                done = getattr(Store, name)
                patch.setattr(Store, name, lambda *a, done=done: (killed(), done(*a))[1])
            try:
                store.publish({"b": "c1"})
            except KeyboardInterrupt:
                pass
            else:
                break
        assert EncodedDataset(tmp_path).shot_ids in (["a-0", "b-0"], ["b-0"])
    assert stop > 4
    assert EncodedDataset(tmp_path).shot_ids == ["b-0"]
    assert [len(list((tmp_path / name).iterdir())) for name in TABLE_SCHEMAS] == [1, 1, 1, 1]


def test_a_folder_encoded_otherwise_is_refused(tmp_path: Path) -> None:
    EncodedStore(tmp_path).open(META)
    other = META.model_copy(update={"encode_hash": "two"})
    with pytest.raises(DataError, match="encoded with another model"):
        EncodedStore(tmp_path).open(other)


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
    assert video_from_json(video_to_json(video)) == video


def test_a_folder_that_was_not_curated_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no curated captions"):
        read_curated(tmp_path)


def test_a_dataset_in_a_bucket_is_written_read_and_added_to(
    bucket, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    bucket.share = 0.1  # of all requests are refused
    store = EncodedStore("s3://films/encoded")
    store.open(META)
    encode_into(store, spans(film, (0, 20)))
    assert store.publish({"v": "c1"})["shots"] == 1
    first = EncodedDataset(local_dataset("s3://films/encoded"))
    assert first.shot_ids == ["v-0"]
    encode_into(store, spans(film, (24, 48), video_id="w"))
    store.publish({"v": "c1", "w": "c1"})
    second = EncodedDataset(local_dataset("s3://films/encoded"))
    assert second.shot_ids == ["v-0", "w-0"]
    assert (first.latents(0, 0, 3) == second.latents(0, 0, 3)).all()
    assert bucket.num_refused > 0


def test_row_groups_stay_small(film: Path, tmp_path: Path) -> None:
    store = EncodedStore(tmp_path)
    store.open(META)
    encode_into(store, spans(film, *[(i, i + 2) for i in range(40)]))
    store.publish({"v": "c1"})
    (file,) = (tmp_path / "shots").glob("*.parquet")
    metadata = pq.read_metadata(file)
    assert max(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)) <= 16
