"""UMT5, the text encoder of the Wan models, used as diffusers' WanPipeline uses it.

N prompts, T tokens, D width.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from transformers import (
    AutoTokenizer,
    BatchEncoding,
    PreTrainedTokenizerBase,
    UMT5EncoderModel,
)

from fw_model.errors import CheckpointError
from fw_model.files.weights import check_complete

MAX_TOKENS: Final = 512  # as the Wan transformers were trained; a small tokenizer has fewer


class Umt5TextEncoder:
    """UMT5's last hidden states; see `TextEncoder` for what the methods promise."""

    def __init__(
        self,
        model: UMT5EncoderModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        model_id: str,
        num_tokens: int = MAX_TOKENS,
    ) -> None:
        self._model = model.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self.model_id = model_id
        self.width = int(model.config.d_model)
        self.num_tokens = num_tokens

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Umt5TextEncoder:
        """Load text_encoder/ and tokenizer/ of a folder; CheckpointError if one is missing."""
        folder = Path(folder)
        for part in ("text_encoder", "tokenizer"):
            if not (folder / part).is_dir():
                raise CheckpointError(f"{folder} has no {part}/ folder; give a whole Wan model.")
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(folder / "tokenizer"))
            model, loaded = UMT5EncoderModel.from_pretrained(
                str(folder / "text_encoder"), dtype=dtype, output_loading_info=True
            )
        except (
            OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, SafetensorError,
        ) as error:  # fmt: skip
            raise CheckpointError(
                f"The UMT5 text encoder in {folder} does not load: {error}"
            ) from error
        check_complete(folder / "text_encoder", loaded["missing_keys"])
        config = (folder / "text_encoder" / "config.json").read_bytes()
        name = f"umt5-{hashlib.sha256(config).hexdigest()[:12]}"
        num_tokens = min(MAX_TOKENS, tokenizer.model_max_length)
        return cls(model.to(device), tokenizer, model_id=name, num_tokens=num_tokens)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> torch.Tensor:
        if not prompts:
            return torch.empty(0, self.num_tokens, self.width)
        inputs = self._tokens(prompts)
        device = next(self._model.parameters()).device
        mask = inputs.attention_mask.to(device)  # [N, T]
        states = self._model(inputs.input_ids.to(device), mask).last_hidden_state  # [N, T, D]
        tokens: torch.Tensor = (states * mask[..., None]).float()
        return tokens

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each prompt, including the end of the text."""
        if not prompts:
            return []
        counts: list[int] = self._tokens(prompts).attention_mask.sum(dim=1).tolist()
        return counts

    def _tokens(self, prompts: Sequence[str]) -> BatchEncoding:
        return self._tokenizer(
            [clean_prompt(prompt) for prompt in prompts],
            padding="max_length",
            max_length=self.num_tokens,
            truncation=True,
            add_special_tokens=True,
            return_attention_mask=True,
            return_tensors="pt",
        )


def clean_prompt(prompt: str) -> str:
    """Undo HTML escapes and collapse white space, as in Wan's training."""
    unescaped = html.unescape(html.unescape(prompt))
    return re.sub(r"\s+", " ", unescaped).strip()
