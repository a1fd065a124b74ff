"""Both caches -> the segments that the transformer reads, in training and in generation.

The four modes of the paper differ only in which caches are empty:

    mode                 temporal cache   shot cache
    first_shot           empty            empty
    extend_first_shot    this shot        empty
    new_shot             empty            keyframes of earlier shots
    extend_new_shot      this shot        keyframes of earlier shots

B batch, C channels, F latents, h x w latent cells, T text tokens, D text width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from fw_model.cache.config import CacheConfig, Kernel
from fw_model.cache.temporal import temporal_tiers

Role = Literal["keyframe", "temporal", "target"]
Mode = Literal["first_shot", "extend_first_shot", "new_shot", "extend_new_shot"]
MODES: tuple[Mode, ...] = ("first_shot", "extend_first_shot", "new_shot", "extend_new_shot")


@dataclass(frozen=True)
class TokenSegment:
    """Latents with one patch size, noise level and text, as the transformer reads them.

    latents [B, C, F, h, w]; `position` is the frame slot of the first latent (the target starts
    at 0); sigma [B]; text [B, T, D]. `kernel` None means the backbone's own patch size.
    """

    role: Role
    latents: Tensor
    kernel: Kernel | None
    position: int
    sigma: Tensor
    text: Tensor


@dataclass(frozen=True)
class ContextLatents:
    """Latents of a cache [B, C, F, h, w], their noise level [B], and the captions they were made
    with: one for all, or a tuple with one for each latent."""

    latents: Tensor
    sigma: Tensor
    text: Tensor | tuple[Tensor, ...]

    def text_at(self, latent: int) -> Tensor:
        """Return the caption of a latent, from the oldest or, if negative, from the newest."""
        if isinstance(self.text, Tensor):
            return self.text
        return self.text[max(latent, -len(self.text))]


def mode_of(*, has_history: bool, has_keyframes: bool) -> Mode:
    """Return the name of the mode: which caches are filled."""
    return MODES[2 * has_keyframes + has_history]


def keyframe_segments(
    config: CacheConfig, keyframes: Sequence[ContextLatents]
) -> list[TokenSegment]:
    """Return one segment per keyframe [B, C, 1, h, w], in the order given (best match first)."""
    return [
        TokenSegment(
            "keyframe",
            k.latents,
            config.keyframe_kernel,
            config.keyframe_position(slot),
            k.sigma,
            k.text_at(0),
        )
        for slot, k in enumerate(keyframes)
    ]


def temporal_segments(config: CacheConfig, history: ContextLatents | None) -> list[TokenSegment]:
    """Return the segments of the temporal cache, coarse to fine, for the newest of `history`.

    A tier whose latents have several captions gets that of its middle latent.
    """
    if history is None or history.latents.shape[2] == 0:
        return []
    newest = history.latents[:, :, -config.history_latents :]
    return [
        TokenSegment(
            "temporal",
            tier.latents,
            tier.kernel,
            tier.position,
            history.sigma,
            history.text_at(tier.position + tier.latents.shape[2] // 2),
        )
        for tier in temporal_tiers(config.levels, newest)
    ]


def context_segments(
    config: CacheConfig,
    *,
    keyframes: Sequence[ContextLatents] = (),
    history: ContextLatents | None = None,
) -> list[TokenSegment]:
    """Return all context in the order the transformer reads it: keyframes, then coarse to fine."""
    return keyframe_segments(config, keyframes) + temporal_segments(config, history)


def target_segment(latents: Tensor, sigma: Tensor, text: Tensor) -> TokenSegment:
    """Return the segment that is denoised: `latents` [B, C, F, h, w] at noise level `sigma` [B]."""
    return TokenSegment("target", latents, None, 0, sigma, text)
