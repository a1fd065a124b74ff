"""The frozen models that encode, the format of the frames they get, and what identifies both.

Knows nothing about videos or rows.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from fw_model.embedders.base import Embedder
from fw_model.loading.config import ModelConfig
from fw_model.loading.fingerprints import encoding_parts, part_fingerprint
from fw_model.loading.folders import load_record
from fw_model.loading.load import load_embedder, load_text_encoder, load_vae
from fw_model.schemas.encoded import FORMAT_VERSION, EncodedMeta
from fw_model.text_encoders.base import TextEncoder
from fw_model.vaes.base import Vae
from pipelines.encoding.config import EncodeConfig
from pipelines.encoding.shot_frames import FrameFormat

# Raise this when the same settings begin to give other latents: everything is then encoded again.
ENCODE_VERSION = 2


@dataclass(frozen=True)
class Models:
    """The frozen models; the transformer is not needed."""

    vae: Vae
    text_encoder: TextEncoder
    embedder: Embedder

    @classmethod
    def load(cls, model: ModelConfig) -> Models:
        """Load all three."""
        return cls(load_vae(model), load_text_encoder(model), load_embedder(model))


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


def encoded_meta(config: EncodeConfig, model: ModelConfig) -> EncodedMeta:
    """Return what all rows encoded with these settings share."""
    models = Models.load(model)
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
