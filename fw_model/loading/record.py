"""filmweaver.json: what a model folder records about its training."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import Field

from fw_model.cache.augment import AugmentConfig
from fw_model.cache.config import CacheConfig
from fw_model.config import StrictModel, validate
from fw_model.diffusion.guidance import SkipLayerGuidance
from fw_model.errors import CheckpointError

RECORD_FILE = "filmweaver.json"


class ModelRecord(StrictModel):
    """What a checkpoint was trained with; generation reads it back."""

    base: str = Field("tiny", description="Model folder that has the parts missing here.")
    cache: CacheConfig = Field(default_factory=CacheConfig, description="Shape of both caches.")
    augment: AugmentConfig = Field(
        default_factory=AugmentConfig, description="Noise on the caches during training."
    )
    width: int = Field(832, ge=8, description="Frame width, px.")
    height: int = Field(480, ge=8, description="Frame height, px.")
    fps: float = Field(16.0, gt=0, description="Frames per second.")
    num_inference_steps: int = Field(50, ge=1, description="Recommended denoising steps.")
    guidance_scale: float = Field(5.0, ge=0, description="Recommended guidance scale.")
    guidance_above: float = Field(
        0.0, ge=0, le=1, description="Noise level below which no guidance is needed."
    )
    skip_layer_guidance: SkipLayerGuidance = Field(
        SkipLayerGuidance(), description="Recommended skip-layer guidance."
    )


def read_record(folder: Path) -> ModelRecord:
    """Read `folder`/filmweaver.json."""
    path = folder / RECORD_FILE
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"Cannot read {path}: {error}.") from error
    return validate(ModelRecord, tree, str(path))


def write_record(folder: Path, record: ModelRecord) -> None:
    """Write `folder`/filmweaver.json."""
    text = json.dumps(record.model_dump(mode="json"), indent=2) + "\n"
    (folder / RECORD_FILE).write_text(text, encoding="utf-8")
