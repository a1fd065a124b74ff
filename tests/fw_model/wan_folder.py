"""A model folder in exactly the layout of Wan2.1-T2V-1.3B-Diffusers, small and random."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

LETTERS = [chr(c) for c in range(33, 127)]


def letter_tokenizer() -> PreTrainedTokenizerFast:
    """Return a T5-like tokenizer whose words are letters: </s> ends a prompt, <pad> fills it."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0)]
    vocabulary = pieces + [(letter, -2.0) for letter in LETTERS]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def small_umt5(width: int = 32) -> UMT5EncoderModel:
    """Return a random UMT5 encoder."""
    torch.manual_seed(0)
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=len(LETTERS) + 4,
            d_model=width,
            d_kv=8,
            d_ff=37,
            num_layers=2,
            num_heads=2,
            pad_token_id=0,
            eos_token_id=1,
        )
    ).eval()


def save_wan_folder(folder: Path) -> Path:
    """Save the pipeline by diffusers itself and return `folder`."""
    torch.manual_seed(0)
    pipeline = WanPipeline(
        tokenizer=letter_tokenizer(),
        text_encoder=small_umt5(),
        vae=AutoencoderKLWan(
            base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
            temperal_downsample=[False, True, True],
        ),
        transformer=WanTransformer3DModel(
            num_attention_heads=2, attention_head_dim=24, in_channels=16, out_channels=16,
            text_dim=32, freq_dim=32, ffn_dim=48, num_layers=2,
        ),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    )  # fmt: skip
    pipeline.save_pretrained(str(folder))
    return folder
