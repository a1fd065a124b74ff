"""A whole film model of random weights, small enough to build in a second.

Text and picture embeddings are hashes and mean colours: what they must do here is to be the same
for the same input, and to tell inputs apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from diffusers import AutoencoderKLWan

from fw_model.backbones.wan import WanBackbone
from fw_model.cache.config import CacheConfig
from fw_model.loading.config import ModelConfig
from fw_model.loading.load import FilmModel
from fw_model.loading.record import ModelRecord
from fw_model.vaes.wan import WanVae


class HashText:
    """Text embeddings drawn from the prompt's hash."""

    model_id, width, num_tokens = "hash", 16, 6

    def encode(self, prompts: Sequence[str]) -> torch.Tensor:
        return torch.stack([torch.from_numpy(_drawn(p, 6 * 16).reshape(6, 16)) for p in prompts])


class ColourEmbedder:
    """Pictures embed as their mean colour, prompts as the colours they name."""

    model_id, width, image_size = "colour", 3, 16

    def embed_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        means = np.stack([i.reshape(-1, 3).mean(0) + 1.0 for i in images]).astype(np.float32)
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    def embed_text(self, prompts: Sequence[str]) -> np.ndarray:
        rows = [[float(c in p) + 0.01 for c in ("red", "green", "blue")] for p in prompts]
        means = np.array(rows, dtype=np.float32)
        return means / np.linalg.norm(means, axis=1, keepdims=True)


def _drawn(text: str, count: int) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(count).astype(np.float32)


def small_vae(seed: int = 0) -> AutoencoderKLWan:
    """Return a random VAE in the Wan 2.2 layout: 4x in time, 8x in space, 4 channels."""
    torch.manual_seed(seed)
    return AutoencoderKLWan(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=8,
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )


def small_film_model(visibility: str = "prefix") -> FilmModel:
    """Return a model for 32x32 films with chunks of two latents."""
    cache = CacheConfig(chunk_latents=2, visibility=visibility)
    architecture = {
        "num_attention_heads": 2,
        "attention_head_dim": 24,
        "in_channels": 4,
        "out_channels": 4,
        "text_dim": 16,
        "freq_dim": 32,
        "ffn_dim": 64,
        "num_layers": 2,
    }
    backbone = WanBackbone.from_scratch(architecture, cache, seed=0).eval()
    with torch.no_grad():  # a new model predicts zero: give it something to say
        backbone.transformer.proj_out.weight.normal_(0, 0.2, generator=torch.Generator())
    return FilmModel(
        backbone=backbone,
        vae=WanVae(small_vae()),
        embedder=ColourEmbedder(),
        text_encoder=HashText(),
        record=ModelRecord(
            cache=cache, width=32, height=32, fps=12, num_inference_steps=3, guidance_scale=4.0
        ),
        config=ModelConfig(device="cpu"),
        scheduler_folder=None,
    )
