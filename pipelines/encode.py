"""Curated scenes -> whole-shot latents, keyframe latents, text and CLIP embeddings, as Parquet.

The graph is one line: a row is a video, an actor holds the frozen models, a batch commits as one
part. Run again, it encodes what is missing or failed and drops what the curated tables no longer
hold.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from fw_model.config import StrictModel
from fw_model.errors import DataError
from fw_model.loading.config import ModelConfig
from fw_model.loading.fingerprints import encoding_parts, part_fingerprint
from fw_model.loading.folders import load_record
from fw_model.schemas.encoded import FORMAT_VERSION, EncodedMeta
from pipelines.curation.ledger.tables import read_published
from pipelines.encoding.dataset_store import EncodedStore
from pipelines.encoding.encode_video import Models, encode_video, spans_of_scenes, tables, text_rows
from pipelines.encoding.shot_frames import FrameFormat, ShotSpan, VideoSpans
from pipelines.storage.store import Store

logger = logging.getLogger(__name__)

FAILURES_SHOWN = 5
# Raise this when the same settings begin to give other latents: all is then encoded anew.
ENCODE_VERSION = 2


class EncodeConfig(StrictModel):
    """Encoding of curated scenes for training; size and rate are the model's."""

    max_shot_s: float = Field(30.0, gt=0, description="Longer shots are cut to this, seconds.")
    videos_per_part: int = Field(16, ge=1, description="Videos that are committed together.")
    vae_batch: int = Field(8, ge=1, description="Shots of equal length encoded at once.")
    num_actors: int = Field(
        0, ge=0, description="Encoding actors; 0 takes one per accelerator, or per two CPUs."
    )
    cpus_per_actor: float = Field(1.0, gt=0, description="CPU cores Ray reserves per actor.")
    gpus_per_actor: float = Field(
        0.0, ge=0, description="GPUs per actor; a fraction lets actors share one."
    )


@dataclass(frozen=True)
class EncodeSummary:
    """What an encoding run left. videos = encoded + empty + failed."""

    videos: int
    tried_now: int
    encoded: int
    failed: int
    empty: int
    shots: int
    keyframes: int
    texts: int
    failures: tuple[str, ...]
    """Address and reason of the first few that failed."""


class EncodeVideos:
    """Ray actor: loads the frozen models once, then turns each batch of videos into a part."""

    def __init__(self, model: ModelConfig, config: EncodeConfig, output: str) -> None:
        models = load_frozen_models(model)
        self._encode = BatchEncoder(models, frame_format(model, config, models), config)
        self._store = EncodedStore(output)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        videos = [video_from_json(text) for text in batch["video"]]
        encoded = self._encode(videos)
        self._store.write_part(encoded)
        return {"status": encoded["sources"]["status"].to_pylist()}


class BatchEncoder:
    """Turns videos into the four tables of a part."""

    def __init__(self, models: Models, form: FrameFormat, config: EncodeConfig) -> None:
        self._models = models
        self._form = form
        self._vae_batch = config.vae_batch

    def __call__(self, videos: list[VideoSpans]) -> dict[str, Any]:
        sources, shots, keyframes = [], [], []
        for video in videos:
            source, own_shots, own_keyframes = encode_video(
                video, self._form, self._models, vae_batch=self._vae_batch
            )
            sources.append(source)
            shots.extend(own_shots)
            keyframes.extend(own_keyframes)
        texts = text_rows([s.text for v in videos for s in v.shots], self._models)
        return tables(sources, shots, keyframes, texts)


def run_encode(
    config: EncodeConfig, model: ModelConfig, curated: str | Path, output: str | Path
) -> EncodeSummary:
    """Encode the captioned scenes of `curated` into `output`, each a folder or a URI; the same call
    again resumes."""
    import ray

    videos = read_curated(curated)
    store = EncodedStore(output)
    store.open(encoded_meta(config, model))
    done = store.encoded()
    missing = [v for v in videos if done.get(v.video_id) != v.captions_hash]
    logger.info("encode: %d videos, %d to do", len(videos), len(missing))
    if missing:
        rows: ray.data.Dataset = ray.data.from_items([{"video": video_to_json(v)} for v in missing])
        rows = rows.map_batches(  # 1:1, committed by the actor; what comes back is only counted
            EncodeVideos,
            fn_constructor_args=(model, config, store.store.uri),
            batch_size=config.videos_per_part,
            compute=ray.data.ActorPoolStrategy(size=_num_actors(config, len(missing))),
            num_cpus=config.cpus_per_actor,
            num_gpus=config.gpus_per_actor or None,
        )
        finished = 0
        for batch in rows.iter_batches(batch_size=None):
            finished += len(batch["status"])
            logger.info("encode: %d of %d videos", finished, len(missing))
    counts = store.publish({v.video_id: v.captions_hash for v in videos})
    summary = _summary(store, counts, len(missing))
    _write_summary(store, summary)
    for failure in summary.failures:
        logger.warning("encode: failed: %s", failure)
    if summary.failed > len(summary.failures):
        logger.warning("encode: %d more failed", summary.failed - len(summary.failures))
    if summary.shots == 0:
        first = f" (first: {summary.failures[0]})" if summary.failures else ""
        raise DataError(
            f"None of the {summary.videos} videos of {curated} gave a shot: {summary.empty} are "
            f"empty, {summary.failed} failed{first}; the others are in the detail column of "
            f"{store.store.address('sources')}, and the same command tries them again."
        )
    return summary


def read_curated(curated: str | Path) -> list[VideoSpans]:
    """Return the captioned shots of a curated folder by video, in a fixed order."""
    store = Store(str(curated))
    scenes = read_published(store, "captions", ["scene_id", "status", "shots"])
    fps = {
        row["video_id"]: row["fps"] or 0.0
        for row in read_published(store, "videos", ["video_id", "fps"])
    }
    videos = spans_of_scenes(scenes, fps)
    if not videos:
        raise DataError(
            f"{curated} has no captioned scene ({len(scenes)} scenes in all); look at its "
            "report.html for why scenes were rejected."
        )
    return videos


def encoded_meta(config: EncodeConfig, model: ModelConfig) -> EncodedMeta:
    """Return what all rows encoded with these settings share."""
    models = load_frozen_models(model)
    form = frame_format(model, config, models)
    identity = {
        "fingerprint": part_fingerprint(model, ("vae_encoder", "clip", "text_encoder")),
        "format": asdict(form),
        "version": [FORMAT_VERSION, ENCODE_VERSION],
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    factor = models.vae.spatial_factor
    return EncodedMeta(
        format_version=FORMAT_VERSION,
        encode_hash=digest,
        height=form.height,
        width=form.width,
        fps=form.fps,
        latent_shape=(models.vae.latent_channels, form.height // factor, form.width // factor),
        max_text_tokens=models.text_encoder.num_tokens,
        text_width=models.text_encoder.width,
        embedding_width=models.embedder.width,
        models={
            "model": model.path or "tiny",
            "text_encoder": models.text_encoder.model_id,
            "embedder": models.embedder.model_id,
        },
        parts=encoding_parts(model),
    )


def load_frozen_models(model: ModelConfig) -> Models:
    """Load the vae, the text encoder and the embedder; the transformer is not needed."""
    from fw_model.loading.load import load_embedder, load_text_encoder, load_vae

    return Models(load_vae(model), load_text_encoder(model), load_embedder(model))


def frame_format(model: ModelConfig, config: EncodeConfig, models: Models) -> FrameFormat:
    """Return the size and rate that `model` generates."""
    record = load_record(model)
    return FrameFormat(
        width=record.width,
        height=record.height,
        fps=record.fps,
        max_frames=max(1, int(config.max_shot_s * record.fps)),
        temporal_factor=models.vae.temporal_factor,
    )


def video_to_json(video: VideoSpans) -> str:
    """Return a unit of work as text, for a Ray row."""
    return json.dumps(asdict(video))


def video_from_json(text: str) -> VideoSpans:
    """Undo `video_to_json`."""
    tree = json.loads(text)
    shots = tuple(ShotSpan(**{**s, "keyframes": tuple(s["keyframes"])}) for s in tree["shots"])
    return VideoSpans(**{**tree, "shots": shots})


def _num_actors(config: EncodeConfig, num_videos: int) -> int:
    import ray

    resources = ray.cluster_resources()
    if config.num_actors:
        wanted = config.num_actors
    elif config.gpus_per_actor:
        wanted = int(resources.get("GPU", 0) / config.gpus_per_actor)
    else:
        wanted = int(resources.get("CPU", 1)) // 2
    return max(1, min(wanted, -(-num_videos // config.videos_per_part)))


def _summary(store: EncodedStore, counts: dict[str, int], tried_now: int) -> EncodeSummary:
    rows = store.sources()
    statuses = [row["status"] for row in rows]
    failures = sorted(f"{row['uri']}: {row['detail']}" for row in rows if row["status"] == "failed")
    return EncodeSummary(
        videos=len(rows),
        tried_now=tried_now,
        encoded=statuses.count("encoded"),
        failed=statuses.count("failed"),
        empty=statuses.count("empty"),
        shots=counts["shots"],
        keyframes=counts["keyframes"],
        texts=counts["texts"],
        failures=tuple(failures[:FAILURES_SHOWN]),
    )


def _write_summary(store: EncodedStore, summary: EncodeSummary) -> None:
    store.store.write("summary.json", json.dumps(asdict(summary), indent=1).encode() + b"\n")
    store.store.delete_folder(".unpacked")  # of the tables before
