"""The input and output of a chunk as plain data: the interface between generation and serving.

Latents [C, F, h, w] float32 on the CPU; pixels uint8 [F, H, W, 3].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from fw_model.cache.context import Mode, mode_of
from fw_model.cache.shot import DUPLICATE_COSINE, Keyframe, RetrievalConfig, ScoredKeyframe
from fw_model.config import StrictModel
from fw_model.diffusion.guidance import SkipLayerGuidance
from fw_model.diffusion.sampler import SchedulerKind

Pixels = NDArray[np.uint8]


class GenerationConfig(StrictModel):
    """How chunks are generated. Null means the value that the model records."""

    num_inference_steps: int | None = Field(
        None, ge=1, le=1000, description="Denoising steps; null: as recorded with the model."
    )
    guidance_scale: float | None = Field(
        None,
        ge=0,
        le=30,
        description="Scale of classifier-free guidance; 1 or less switches it off; null: as "
        "recorded with the model.",
    )
    guidance: Literal["batch", "two_pass"] = Field(
        "batch",
        description="batch: prompt and negative prompt in one batch; two_pass: one after the "
        "other, which takes less memory.",
    )
    guidance_above: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Noise level below which guidance is skipped: the content is settled by then, "
        "and a step costs half as much. Null: as recorded with the model.",
    )
    skip_layer_guidance: SkipLayerGuidance | None = Field(
        None,
        description="Guidance away from what fewer layers predict; null: as recorded with the "
        "model.",
    )
    scheduler: SchedulerKind = Field(
        "auto", description="auto: the model's saved scheduler; euler; unipc."
    )
    shift: float | None = Field(
        None, gt=0, le=20, description="Timestep shift; null: that of the model's saved scheduler."
    )
    negative_prompt: str = Field("", max_length=4000, description="What guidance avoids.")
    keyframe_step: float | None = Field(
        None, ge=0, le=1000,
        description="Noise on keyframes, as a diffusion step of 1000; with more, they constrain "
        "the shot less. Null: the least that training used.",
    )  # fmt: skip
    temporal_step: float | None = Field(
        None,
        ge=0,
        le=1000,
        description="Noise on history, as a diffusion step of 1000. Null: the least that training "
        "used.",
    )
    keyframes_per_chunk: int = Field(
        1, ge=0, le=16, description="Keyframes that each chunk offers to the shot cache."
    )
    duplicate_cosine: float = Field(
        DUPLICATE_COSINE, gt=0, le=1,
        description="A keyframe at least this similar to another of its shot is not kept.",
    )  # fmt: skip
    retrieval: RetrievalConfig = Field(
        RetrievalConfig(), description="How keyframes are chosen from the shot cache."
    )
    reuse_context: bool = Field(
        True, description="Encode context once per chunk (exact); False: in each step."
    )
    decode_streams: int = Field(
        2, ge=0, le=64, description="Shots whose decoder state stays in memory."
    )


@dataclass(frozen=True)
class HistoryChunk:
    """A finished chunk of the shot: its latents [C, F, h, w] and the prompt it was made with."""

    latents: Tensor
    prompt: str


@dataclass(frozen=True)
class ChunkRequest:
    """Everything that a chunk depends on, besides the model and its settings.

    `history` holds all finished chunks of this shot, oldest first; `keyframes` those chosen by
    `StoryGenerator.retrieve`. `version` counts regenerations of the shot.
    """

    story_seed: int
    shot: int
    chunk: int
    prompt: str
    width: int
    height: int
    history: tuple[HistoryChunk, ...] = ()
    keyframes: tuple[ScoredKeyframe, ...] = ()
    version: int = 0
    negative_prompt: str = ""
    num_inference_steps: int | None = None
    guidance_scale: float | None = None

    @property
    def mode(self) -> Mode:
        """Which of the paper's four modes this is."""
        return mode_of(has_history=bool(self.history), has_keyframes=bool(self.keyframes))


@dataclass(frozen=True)
class ChunkResult:
    """A finished chunk: latents, pixels [F, H, W, 3], keyframes offered, seconds by stage."""

    latents: Tensor
    frames: Pixels
    keyframes: tuple[Keyframe, ...]
    seed: int
    timings: dict[str, float] = field(default_factory=dict)
