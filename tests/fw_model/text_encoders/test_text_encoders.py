"""Prompts as tokens: CLIP's text tower and UMT5, from folders of random weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from fw_model.errors import CheckpointError
from fw_model.pretraining.clip import EmbedderPretrainConfig, save_clip
from fw_model.pretraining.tokenizer import train_tokenizer
from fw_model.text_encoders.clip import ClipTextEncoder
from fw_model.text_encoders.umt5 import Umt5TextEncoder, clean_prompt

PROMPTS = ["a bear", "a bear waves on the beach at night"]


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    config = EmbedderPretrainConfig(image_width=32, text_width=32, head_width=16)
    tokenizer = train_tokenizer(PROMPTS, vocab_size=300)
    tree = config.model_config_tree()
    tree["text_cfg"]["vocab_size"] = len(tokenizer)
    save_clip(open_clip.CLIP(**tree), tree, folder)
    tokenizer.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def wan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("wan")
    words = ["<pad>", "</s>", "<unk>", *sorted({w for p in PROMPTS for w in p.split()})]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder / "tokenizer")
    torch.manual_seed(0)
    config = UMT5Config(
        vocab_size=len(words), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    )
    UMT5EncoderModel(config).save_pretrained(folder / "text_encoder")
    return folder


def test_clip_tokens_end_with_the_text_and_are_zero_after_it(clip_folder: Path) -> None:
    encoder = ClipTextEncoder.load(clip_folder)
    tokens = encoder.encode(PROMPTS)
    assert tokens.shape == (2, encoder.num_tokens, encoder.width) == (2, 36, 32)
    for row, length in zip(tokens, encoder.lengths(PROMPTS), strict=True):
        assert bool((row[:length] != 0).any(dim=1).all())
        assert not bool(row[length:].any())
    short, long = encoder.lengths(PROMPTS)
    assert 2 < short < long


def test_the_pooled_clip_token_gives_the_text_embedding(clip_folder: Path) -> None:
    encoder = ClipTextEncoder.load(clip_folder)
    length = encoder.lengths(PROMPTS[:1])[0]
    last = encoder.encode(PROMPTS[:1])[:, length - 1]
    pooled = last @ encoder._model.text_projection
    ids = encoder._tokenizer(PROMPTS[:1])
    torch.testing.assert_close(pooled, encoder._model.encode_text(ids), rtol=1e-4, atol=1e-5)


def test_umt5_equals_the_diffusers_pipeline(wan_folder: Path) -> None:
    from diffusers import WanPipeline
    from transformers import AutoTokenizer

    encoder = Umt5TextEncoder.load(wan_folder)
    pipeline = WanPipeline.__new__(WanPipeline)
    model = UMT5EncoderModel.from_pretrained(wan_folder / "text_encoder").eval()
    pipeline.text_encoder = model
    pipeline.tokenizer = AutoTokenizer.from_pretrained(wan_folder / "tokenizer")
    with torch.no_grad():
        expected = pipeline._get_t5_prompt_embeds(
            PROMPTS, max_sequence_length=512, device=torch.device("cpu"), dtype=torch.float32
        )
    torch.testing.assert_close(encoder.encode(PROMPTS), expected)
    assert encoder.lengths(PROMPTS) == [3, 9]
    assert encoder.num_tokens == 512  # as Wan was trained, whatever the tokenizer could take


def test_prompts_lose_escapes_and_odd_white_space() -> None:
    assert clean_prompt("  a &amp;amp; b\n\tc ") == "a & b c"


def test_a_wan_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "text_encoder").mkdir()
    with pytest.raises(CheckpointError, match="tokenizer"):
        Umt5TextEncoder.load(tmp_path)


def test_umt5_weights_that_lack_tensors_or_are_cut_off_are_named(
    wan_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(wan_folder, tmp_path / "wan"))
    weights = folder / "text_encoder" / "model.safetensors"
    state = load_file(str(weights))
    kept = {name: tensor for name, tensor in state.items() if "DenseReluDense" not in name}
    save_file(kept, str(weights), {"format": "pt"})
    with pytest.raises(CheckpointError, match="3 tensors are missing"):
        Umt5TextEncoder.load(folder)
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="does not load"):
        Umt5TextEncoder.load(folder)


@pytest.mark.parametrize("kind", ["clip", "umt5"])
def test_no_prompts_give_no_rows(kind: str, clip_folder: Path, wan_folder: Path) -> None:
    encoder = (
        ClipTextEncoder.load(clip_folder) if kind == "clip" else Umt5TextEncoder.load(wan_folder)
    )
    assert encoder.encode([]).shape[0] == 0
    assert encoder.lengths([]) == []
