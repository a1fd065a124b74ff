"""The shape of both caches, which is recorded in every checkpoint."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from fw_model.config import StrictModel

Kernel = tuple[int, int, int]


class TemporalLevel(StrictModel):
    """One tier of the temporal cache: `frames` latents, patchified by `kernel`."""

    frames: int = Field(ge=1, description="Latents of history that this tier holds.")
    kernel: Kernel = Field(description="Latent cells per token: [time, height, width].")

    @field_validator("kernel")
    @classmethod
    def _positive(cls, kernel: Kernel) -> Kernel:
        if min(kernel) < 1:
            raise ValueError("every kernel size must be at least 1")
        return kernel


def _paper_levels() -> tuple[TemporalLevel, ...]:
    return (
        TemporalLevel(frames=1, kernel=(1, 2, 2)),
        TemporalLevel(frames=2, kernel=(1, 4, 4)),
        TemporalLevel(frames=16, kernel=(2, 8, 8)),
    )


class CacheConfig(StrictModel):
    """Both caches and the positions of their tokens in time (FilmWeaver, appendix)."""

    chunk_latents: int = Field(
        6, ge=1, le=64, description="Latents in a chunk; the paper: 6 (24 frames, one second)."
    )
    levels: tuple[TemporalLevel, ...] = Field(
        default_factory=_paper_levels,
        description="Temporal cache tiers, nearest first; the paper: 1, 2 and 16 latents.",
    )
    top_k: int = Field(3, ge=0, le=64, description="Keyframes that a chunk reads; the paper: 3.")
    keyframe_kernel: Kernel | None = Field(
        None, description="Latent cells per token of a keyframe; null: the backbone's own patch."
    )
    keyframe_gap: int = Field(
        8, ge=1, description="Empty frame slots between the oldest history and the keyframes."
    )
    keyframe_spacing: int = Field(2, ge=1, description="Frame slots from one keyframe to the next.")
    visibility: Literal["prefix", "full"] = Field(
        "prefix",
        description="prefix: context never sees noise and its keys and values are reused exactly; "
        "full: the paper's plain in-context attention, recomputed at each step.",
    )

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """The patch sizes of context, besides the backbone's own."""
        own = [level.kernel for level in self.levels]
        return tuple(dict.fromkeys(own + ([self.keyframe_kernel] if self.keyframe_kernel else [])))

    @property
    def history_latents(self) -> int:
        """The most latents of history that the temporal cache holds."""
        return sum(level.frames for level in self.levels)

    def keyframe_position(self, slot: int) -> int:
        """Return the frame slot of keyframe `slot` (0 is the best match); always before history."""
        return -(self.history_latents + self.keyframe_gap + slot * self.keyframe_spacing)
