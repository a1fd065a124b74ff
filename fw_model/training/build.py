"""From settings to the module that is trained: pretrained or new, whole or by adapters."""

from __future__ import annotations

import logging

import torch
from diffusers import WanTransformer3DModel
from peft import LoraConfig

from fw_model.backbones.wan import WanBackbone
from fw_model.cache.config import CacheConfig
from fw_model.diffusion.schedule import derive_seed
from fw_model.errors import CheckpointError, ConfigError, DataError
from fw_model.model import ModelConfig, load_backbone, load_record
from fw_model.training.config import LoraSettings, NewTransformer, TrainingConfig
from fw_model.training.dataset import EncodedMeta
from fw_model.training.step import TrainingModel

_log = logging.getLogger(__name__)


def build_training_model(
    config: TrainingConfig, model: ModelConfig, meta: EncodedMeta
) -> TrainingModel:
    """Return the float32 module to train, on the CPU, alike in every process."""
    backbone = build_backbone(config, model, meta)
    if config.gradient_checkpointing:
        backbone.transformer.enable_gradient_checkpointing()
    backbone.requires_grad_(True)
    if config.lora is not None:
        add_lora(backbone, config.lora)
    return TrainingModel(backbone, config, max_text_tokens=meta.max_text_tokens)


def build_backbone(config: TrainingConfig, model: ModelConfig, meta: EncodedMeta) -> WanBackbone:
    """Return the backbone that training starts from, in float32."""
    cache = load_record(model).cache
    if config.new_transformer is not None:
        backbone = new_backbone(config.new_transformer, cache, meta, config.seed)
    else:
        # Optimizer state and small updates need float32, whatever generation runs in.
        loaded = load_backbone(model.model_copy(update={"dtype": "float32", "device": "cpu"}))
        if not isinstance(loaded, WanBackbone):
            raise ConfigError(
                f"Training knows Wan backbones; {model.backbone.kind!r} is a "
                f"{type(loaded).__name__}."
            )
        backbone = loaded
    _check_fits(backbone, meta)
    return backbone.train()


def new_backbone(
    shape: NewTransformer, cache: CacheConfig, meta: EncodedMeta, seed: int
) -> WanBackbone:
    """Return an untrained backbone of `shape`, the same for the same seed."""
    channels = meta.latent_shape[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "new_transformer"))
        transformer = WanTransformer3DModel(
            patch_size=shape.patch,
            num_attention_heads=shape.num_heads,
            attention_head_dim=shape.head_width,
            in_channels=channels,
            out_channels=channels,
            text_dim=meta.text_width,
            freq_dim=256,
            ffn_dim=shape.ffn_width,
            num_layers=shape.num_layers,
            cross_attn_norm=True,
            qk_norm="rms_norm_across_heads",
        )
        return WanBackbone(transformer, cache)


def add_lora(backbone: WanBackbone, settings: LoraSettings) -> None:
    """Freeze the transformer and give it trainable adapters; tier embeddings stay trainable."""
    backbone.transformer.requires_grad_(False)
    backbone.transformer.add_adapter(
        LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            target_modules=list(settings.targets),
            init_lora_weights=True,
        )
    )


def merge_lora(backbone: WanBackbone) -> None:
    """Fold the adapters into the weights and take them out again."""
    from diffusers.utils.peft_utils import recurse_remove_peft_layers
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in backbone.transformer.modules():
        if isinstance(module, BaseTunerLayer):
            module.merge()
    recurse_remove_peft_layers(backbone.transformer)
    backbone.transformer._hf_peft_config_loaded = False


def _check_fits(backbone: WanBackbone, meta: EncodedMeta) -> None:
    if backbone.latent_channels != meta.latent_shape[0]:
        raise DataError(
            f"The dataset's latents have {meta.latent_shape[0]} channels but the transformer reads "
            f"{backbone.latent_channels}; encode with the model that is trained."
        )
    if backbone.text_width != meta.text_width:
        raise CheckpointError(
            f"The dataset's texts have width {meta.text_width} but the transformer reads "
            f"{backbone.text_width}; encode with the model that is trained."
        )
