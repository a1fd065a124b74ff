"""Settings of `filmweaver pretrain`."""

from __future__ import annotations

from pydantic import Field

from fw_model.config import StrictModel
from fw_model.pretraining.clip import EmbedderPretrainConfig
from fw_model.pretraining.text_encoder import TextPretrainConfig
from fw_model.pretraining.toy_judge import ToyJudgePretrainConfig
from fw_model.pretraining.vae import VaePretrainConfig
from pipelines.pretraining.cut_detector import DetectorPretrainConfig


class PretrainConfig(StrictModel):
    """Settings of `filmweaver pretrain`."""

    width: int = Field(64, ge=16, description="Width in pixels that frames are scaled to.")
    height: int = Field(64, ge=16, description="Height in pixels that frames are scaled to.")
    num_validation_films: int = Field(
        12, ge=1, description="Films held out for validation: the last ones by name."
    )
    name_hues: bool = Field(
        False,
        description="Teach CLIP the hues that prompts do not mention, in words (a blue bear); "
        "embedder.hue_augmentation must then be 0.",
    )
    num_threads: int | None = Field(
        None, ge=1, description="Threads of torch; null uses all cores."
    )
    vae: VaePretrainConfig = Field(VaePretrainConfig(), description="The small VAE.")
    embedder: EmbedderPretrainConfig = Field(
        EmbedderPretrainConfig(), description="The small CLIP."
    )
    text_encoder: TextPretrainConfig = Field(TextPretrainConfig(), description="The small UMT5.")
    toy_judge: ToyJudgePretrainConfig = Field(
        ToyJudgePretrainConfig(), description="The judge of toy films."
    )
    detector: DetectorPretrainConfig = Field(
        DetectorPretrainConfig(), description="The network of the learned shot detector."
    )
