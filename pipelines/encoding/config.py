"""Settings of `filmweaver encode`."""

from __future__ import annotations

from pydantic import Field

from fw_model.config import StrictModel


class EncodeConfig(StrictModel):
    """Encoding of curated scenes for training; the model decides the frames' size and rate."""

    max_shot_s: float = Field(30.0, gt=0, description="Longer shots are cut to this, seconds.")
    crop_bars: bool = Field(
        True, description="Leave out the black bars that curation found in shots."
    )
    videos_per_part: int = Field(16, ge=1, description="Videos that are committed together.")
    vae_batch: int = Field(8, ge=1, description="Shots of equal length encoded at once.")
    num_actors: int = Field(
        0, ge=0, description="Most encoding actors; 0: as many as the cluster has room for."
    )
    cpus_per_actor: float = Field(2.0, gt=0, description="CPU cores Ray reserves per actor.")
    gpus_per_actor: float = Field(
        0.0, ge=0, description="GPUs per actor; a fraction lets actors share one."
    )
