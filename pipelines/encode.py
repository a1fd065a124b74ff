"""Encoding: captioned scenes to latents and embeddings. The whole Ray graph is in this file.

    phase    from                  to                                  operator
    list     curated tables        videos that are missing or changed  -
    encode   each missing video    a part of the dataset per batch     EncodeVideos
    publish  all parts             the dataset, its counts             -

An actor commits a batch of videos as one part. A rerun encodes what is missing or failed and drops
what the curated tables no longer hold. The modules in `pipelines/encoding` know what a row holds.
"""

from __future__ import annotations

import logging
from pathlib import Path

import ray.data

from fw_model.loading.config import ModelConfig
from pipelines.encoding.captioned_videos import read_curated
from pipelines.encoding.config import EncodeConfig
from pipelines.encoding.dataset_store import EncodedStore
from pipelines.encoding.models import encoded_meta
from pipelines.encoding.operators import EncodeVideos, num_encoders, pending_row
from pipelines.encoding.shot_frames import VideoSpans
from pipelines.encoding.summary import EncodeSummary, report, summarize

logger = logging.getLogger(__name__)


def run_encode(
    config: EncodeConfig, model: ModelConfig, curated: str | Path, output: str | Path
) -> EncodeSummary:
    """Encode the captioned scenes of `curated` into `output`, each a folder or a URI; the same call
    resumes an interrupted run."""
    videos = read_curated(curated, crop_bars=config.crop_bars)
    store = EncodedStore(output)
    store.open(encoded_meta(config, model))
    done = store.encoded()
    missing = [video for video in videos if done.get(video.video_id) != video.captions_hash]
    logger.info("encode: %d videos, %d to do", len(videos), len(missing))
    if missing:
        finished = 0
        for batch in _encode(config, model, missing, store).iter_batches(batch_size=None):
            finished += len(batch["status"])
            logger.info("encode: %d of %d videos", finished, len(missing))
    counts = store.publish({video.video_id: video.captions_hash for video in videos})
    summary = summarize(store, counts, len(missing))
    report(store, summary, curated)
    return summary


def _encode(
    config: EncodeConfig, model: ModelConfig, videos: list[VideoSpans], store: EncodedStore
) -> ray.data.Dataset:
    rows = ray.data.from_items([pending_row(video) for video in videos])  # one row per video
    return rows.map_batches(  # 1:1, CPU or GPU; holds the models, commits a batch as a part
        EncodeVideos,
        fn_constructor_args=(model, config, store.store.uri),
        batch_size=config.videos_per_part,
        compute=ray.data.ActorPoolStrategy(size=num_encoders(config, len(videos))),
        num_cpus=config.cpus_per_actor,
        num_gpus=config.gpus_per_actor or None,
    )
