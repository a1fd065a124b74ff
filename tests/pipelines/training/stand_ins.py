"""What tests of encoding share: models that compute by hand, a film, shots of it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from fw_model.schemas.encoded import FORMAT_VERSION, EncodedMeta
from pipelines.encoding.dataset_store import EncodedStore
from pipelines.encoding.encode_video import VideoEncoder
from pipelines.encoding.models import Models
from pipelines.encoding.rows import PartRows
from pipelines.encoding.shot_frames import FrameFormat, ShotSpan, VideoSpans, decode_shots

FORM = FrameFormat(width=16, height=16, fps=12.0, max_frames=60, temporal_factor=4)


class MeanVae:
    """A stand-in vae: a latent is the mean colour of its 8x8 cells, every fourth frame."""

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


MODELS = Models(MeanVae(), LengthText(), MeanEmbedder())
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


def encode_part(*videos: VideoSpans) -> PartRows:
    encoder = VideoEncoder(MODELS, FORM, vae_batch=8)
    return encoder.encode_part((video, decode_shots(video, FORM)) for video in videos)


def encode_into(store: EncodedStore, *videos: VideoSpans) -> None:
    store.write_part(encode_part(*videos))


def failed(film: Path, *video_ids: str) -> list[VideoSpans]:
    """Units of work whose file is not there."""
    return [spans(film.with_name("gone.mp4"), (0, 20), video_id=name) for name in video_ids]
