"""The text tower of an open_clip model as a text encoder: its tokens, not its pooled vector.

For a small model without its own language model. N prompts, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import open_clip
import torch
from open_clip.tokenizer import HFTokenizer

from fw_model.embedders.open_clip_folder import clip_id, load_clip, load_tokenizer
from fw_model.errors import CheckpointError


class ClipTextEncoder:
    """Hidden states after CLIP's final norm; see `TextEncoder` for what the methods promise."""

    def __init__(self, model: open_clip.CLIP, tokenizer: HFTokenizer, *, model_id: str) -> None:
        text = getattr(model, "text", model)  # open_clip keeps the tower inside or outside
        if not hasattr(text, "token_embedding"):
            raise CheckpointError(
                "This CLIP's text tower is not a plain open_clip transformer; "
                "choose another text encoder."
            )
        self._model, self._text, self._tokenizer = model, text, tokenizer
        self.model_id = f"{model_id}-text"
        self.width = int(text.token_embedding.weight.shape[1])
        self.num_tokens = int(text.context_length)

    @classmethod
    def load(cls, folder: str | Path, *, device: torch.device | str = "cpu") -> ClipTextEncoder:
        """Load a folder in open_clip's layout; CheckpointError for any other folder."""
        return cls(load_clip(folder, device), load_tokenizer(folder), model_id=clip_id(folder))

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> torch.Tensor:
        if not prompts:
            return torch.empty(0, self.num_tokens, self.width)
        text = self._text
        device = text.token_embedding.weight.device
        tokens = self._tokenizer(list(prompts)).to(device)  # [N, T]
        states = text.token_embedding(tokens) + text.positional_embedding[: tokens.shape[1]]
        states = text.ln_final(text.transformer(states, attn_mask=text.attn_mask))  # [N, T, D]
        inside = torch.arange(tokens.shape[1], device=device) <= self._ends(tokens)[:, None]
        masked: torch.Tensor = (states * inside[..., None]).float()
        return masked

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        """Return the tokens of each prompt, including the start and end of the text."""
        if not prompts:
            return []
        ends: list[int] = self._ends(self._tokenizer(list(prompts))).tolist()
        return [end + 1 for end in ends]

    def _ends(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the index of the end-of-text token in each row [N]."""
        pool = getattr(self._text, "pool_type", getattr(self._model, "text_pool_type", "argmax"))
        if pool == "eos":
            eos = getattr(self._text, "eos_id", getattr(self._model, "text_eos_id", None))
            return tokens.eq(eos or 0).int().argmax(dim=-1)
        if pool == "argmax":  # CLIP's end-of-text token has the highest id of all
            return tokens.argmax(dim=-1)
        return torch.full(tokens.shape[:1], tokens.shape[1] - 1, device=tokens.device)
