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
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import ray.data

from fw_model.loading.config import ModelConfig
from fw_model.loading.folders import model_paths
from pipelines.curation.pools import (
    actor_pool,
    blocks_of_rows,
    fitting_cpus,
    on_nodes,
    set_up_ray_data,
)
from pipelines.encoding.captioned_videos import read_curated
from pipelines.encoding.config import EncodeConfig
from pipelines.encoding.dataset_store import EncodedStore
from pipelines.encoding.models import encoded_meta
from pipelines.encoding.operators import PENDING_VIDEO, EncodeVideos, max_encoders, pending_row
from pipelines.encoding.shot_frames import VideoSpans
from pipelines.encoding.summary import EncodeSummary, report, summarize
from pipelines.storage.shared_paths import SharedPaths, sample, shared_paths

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
        set_up_ray_data()
        read = [*sample("source", [video.uri for video in missing]), *model_paths(model)]
        with shared_paths(read, store.store.uri) as shared:
            finished = 0
            graph = _encode(config, model, missing, store, shared)
            batches: Iterable[pa.Table] = graph.iter_batches(
                batch_size=None, batch_format="pyarrow"
            )
            for batch in batches:
                finished += batch.num_rows
                logger.info("encode: %d of %d videos", finished, len(missing))
    counts = store.publish({video.video_id: video.captions_hash for video in videos})
    summary = summarize(store, counts, len(missing))
    report(store, summary, curated)
    return summary


def _encode(
    config: EncodeConfig,
    model: ModelConfig,
    videos: list[VideoSpans],
    store: EncodedStore,
    shared: SharedPaths,
) -> ray.data.Dataset:
    rows = blocks_of_rows(
        [pending_row(video) for video in videos], PENDING_VIDEO
    )  # one row per video
    return rows.map_batches(  # 1:1, CPU or GPU; holds the models, commits a batch as a part
        on_nodes(EncodeVideos, shared),
        fn_constructor_args=(model, config, store.store.uri),
        batch_size=config.videos_per_part,
        **actor_pool(
            max_encoders(config, len(videos)),
            cpus=fitting_cpus(config.cpus_per_actor),
            gpus=config.gpus_per_actor,
        ),
    )
