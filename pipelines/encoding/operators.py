"""The Ray operator of encoding: a thin shell over the pure modules beside it."""

from __future__ import annotations

from typing import TypedDict

import pyarrow as pa
from pydantic import TypeAdapter

from fw_model.loading.config import ModelConfig
from pipelines.encoding.config import EncodeConfig
from pipelines.encoding.dataset_store import EncodedStore
from pipelines.encoding.encode_video import VideoEncoder
from pipelines.encoding.models import Models, frame_format
from pipelines.encoding.shot_frames import VideoSpans, decode_shots
from pipelines.storage.arrow_rows import iter_rows, schema_of

_SPANS = TypeAdapter(VideoSpans)


class PendingVideo(TypedDict):
    """A row of the graph: a `VideoSpans` as JSON."""

    video: str


PENDING_VIDEO = schema_of(PendingVideo)


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

    def __call__(self, batch: pa.Table) -> pa.Table:
        videos = [video_of(row["video"]) for row in iter_rows(batch, PendingVideo)]
        part = self._encoder.encode_part((v, decode_shots(v, self._form)) for v in videos)
        self._store.write_part(part)
        return pa.table({"status": [row["status"] for row in part.sources]})


def max_encoders(config: EncodeConfig, num_videos: int) -> int:
    """Return how many actors may encode `num_videos` videos, if the cluster has room for them."""
    parts = -(-num_videos // config.videos_per_part)
    return max(1, min(config.num_actors or parts, parts))
