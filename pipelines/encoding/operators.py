"""The Ray operator of encoding: a thin shell over the pure modules beside it."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import ray
from numpy.typing import NDArray
from pydantic import TypeAdapter

from fw_model.loading.config import ModelConfig
from pipelines.encoding.config import EncodeConfig
from pipelines.encoding.dataset_store import EncodedStore
from pipelines.encoding.encode_video import VideoEncoder
from pipelines.encoding.models import Models, frame_format
from pipelines.encoding.shot_frames import VideoSpans, decode_shots

_SPANS = TypeAdapter(VideoSpans)


class PendingVideo(TypedDict):
    """A row of the graph: a `VideoSpans` as JSON."""

    video: str


def pending_row(video: VideoSpans) -> PendingVideo:
    """Return the row of a video to encode."""
    return {"video": _SPANS.dump_json(video).decode()}


def video_of(row: str) -> VideoSpans:
    """Return the video of a row's JSON."""
    return _SPANS.validate_json(row)


class EncodeVideos:
    """PendingVideo -> status, 1:1; each batch of videos is committed as one part."""

    def __init__(self, model: ModelConfig, config: EncodeConfig, output: str) -> None:
        models = Models.load(model)
        self._form = frame_format(model, config, models)
        self._encoder = VideoEncoder(models, self._form, vae_batch=config.vae_batch)
        self._store = EncodedStore(output)

    def __call__(self, batch: dict[str, NDArray[np.str_]]) -> dict[str, list[str]]:
        videos = [video_of(text) for text in batch["video"]]
        part = self._encoder.encode_part((v, decode_shots(v, self._form)) for v in videos)
        self._store.write_part(part)
        return {"status": [row["status"] for row in part.sources]}


def num_encoders(config: EncodeConfig, num_videos: int) -> int:
    """Return how many actors encode `num_videos` videos."""
    resources = ray.cluster_resources()
    if config.num_actors:
        wanted = config.num_actors
    elif config.gpus_per_actor:
        wanted = int(resources.get("GPU", 0) / config.gpus_per_actor)
    else:
        wanted = int(resources.get("CPU", 1)) // 2
    return max(1, min(wanted, -(-num_videos // config.videos_per_part)))
