"""The text tower of an open_clip model as text encoder: its tokens, not its pooled vector.

Serves the tiny model, which has no language model of its own. N prompts, T tokens, D width.

A tower trained against still pictures keeps what pictures show and lets go of the rest: of the
packaged one's last states a probe reads the place and the figure, but the action in only 78 % of
prompts, and of its token embeddings in all. So a token carries both: what it means, and its word.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from fw_model.embedders.open_clip_folder import clip_id, load_clip, load_tokenizer
from fw_model.errors import CheckpointError


class ClipTextEncoder:
    """CLIP's states after its final norm, each beside its token's own embedding, normalised.

    See `TextEncoder` for what the methods promise. D is twice the tower's width.
    """

    def __init__(self, model: Any, tokenizer: Any, *, model_id: str) -> None:
        text = getattr(model, "text", model)  # open_clip keeps the tower inside or outside
        if not hasattr(text, "token_embedding"):
            raise CheckpointError(
                "This CLIP's text tower is not a plain open_clip transformer; "
                "choose another text encoder."
            )
        self._model, self._text, self._tokenizer = model, text, tokenizer
        self.model_id = f"{model_id}-text"
        self.width = 2 * int(text.token_embedding.weight.shape[1])
        self.num_tokens = int(text.context_length)

    @classmethod
    def load(cls, folder: str | Path, *, device: torch.device | str = "cpu") -> ClipTextEncoder:
        """Load a folder in open_clip's layout; CheckpointError if it is none."""
        return cls(load_clip(folder, device), load_tokenizer(folder), model_id=clip_id(folder))

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> torch.Tensor:
        """Return [N, T, D], float32 on CLIP's device; zero after the end-of-text token."""
        if not prompts:
            return torch.empty(0, self.num_tokens, self.width)
        text = self._text
        device = text.token_embedding.weight.device
        tokens = self._tokenizer(list(prompts)).to(device)  # [N, T]
        words = text.token_embedding(tokens)  # [N, T, D / 2]
        states = words + text.positional_embedding[: tokens.shape[1]]
        states = text.ln_final(text.transformer(states, attn_mask=text.attn_mask))
        words = functional.layer_norm(words, words.shape[-1:])
        inside = torch.arange(tokens.shape[1], device=device) <= self._ends(tokens)[:, None]
        both = torch.cat([states, words], dim=-1)  # [N, T, D]
        masked: torch.Tensor = (both * inside[..., None]).float()
        return masked

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        """Return how many tokens of each prompt are true, start and end of text included."""
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
