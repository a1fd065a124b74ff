"""Attention over packed segments, through diffusers' attention-processor interface.

B batch, L tokens, H heads, D head width. A `TokenPlan` is passed through the stock transformer
blocks instead of their rotary table, a `SegmentTexts` instead of their text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttention, WanTransformerBlock
from torch import Tensor, nn

from fw_model.backbones.base import KeyValue
from fw_model.backbones.rope import rotate


@dataclass(frozen=True)
class Span:
    """Query tokens [start, stop) that see the first `visible` tokens of the sequence."""

    start: int
    stop: int
    visible: int


@dataclass(frozen=True)
class TokenPlan:
    """What the self-attention of a layer must know about a packed sequence.

    `past` holds tokens before the sequence, visible to all of it; `collected`, if given, receives
    the layer's own keys and values. Nothing here names the layer, so all layers compile to one
    program.
    """

    cos: Tensor
    sin: Tensor
    spans: tuple[Span, ...]
    past: KeyValue | None = None
    collected: list[KeyValue] | None = None


@dataclass(frozen=True)
class SegmentTexts:
    """The embedded text [B, T, D] that each run of tokens [start, stop) cross-attends to.

    `kv`, if given, keeps the layer's keys and values of each run.
    """

    runs: tuple[tuple[int, int, Tensor], ...]
    kv: dict[int, KeyValue] | None = None


class PrefixAttention:
    """Self-attention in which each span sees a prefix: one attention call per span, no mask."""

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self, attn: WanAttention, hidden: Tensor, text: None, mask: None, plan: TokenPlan
    ) -> Tensor:
        query = attn.norm_q(attn.to_q(hidden)).unflatten(2, (attn.heads, -1))  # [B, L, H, D]
        query = rotate(query, plan.cos, plan.sin)
        key, value = keys_and_values(attn, hidden, plan)
        if plan.collected is not None:
            plan.collected.append((key, value))
        before = 0
        if plan.past is not None:
            past_key, past_value = plan.past
            before = past_key.shape[1]
            key = torch.cat([past_key, key], dim=1)
            value = torch.cat([past_value, value], dim=1)
        seen = [
            _attend(self, query[:, s.start : s.stop], key, value, before + s.visible)
            for s in plan.spans
        ]
        return _project_out(attn, seen, hidden)


class SegmentTextAttention:
    """Cross-attention in which each segment reads the caption it was made with."""

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self, attn: WanAttention, hidden: Tensor, texts: SegmentTexts, mask: None, rotary: None
    ) -> Tensor:
        query = attn.norm_q(attn.to_q(hidden)).unflatten(2, (attn.heads, -1))  # [B, L, H, D]
        seen = []
        for run, (start, stop, text) in enumerate(texts.runs):
            key, value = self._key_value(attn, texts, run, text)
            seen.append(_attend(self, query[:, start:stop], key, value, key.shape[1]))
        return _project_out(attn, seen, hidden)

    def _key_value(
        self, attn: WanAttention, texts: SegmentTexts, run: int, text: Tensor
    ) -> KeyValue:
        known = None if texts.kv is None else texts.kv.get(run)
        if known is not None:
            return known
        key = attn.norm_k(attn.to_k(text)).unflatten(2, (attn.heads, -1))  # [B, T, H, D]
        value = attn.to_v(text).unflatten(2, (attn.heads, -1))
        if texts.kv is not None:
            texts.kv[run] = (key, value)
        return key, value


def install(blocks: nn.ModuleList) -> None:
    """Set the two processors in each stock block; parameters stay unchanged."""
    block: WanTransformerBlock
    for block in blocks:
        block.attn1.set_processor(PrefixAttention())
        block.attn2.set_processor(SegmentTextAttention())


def keys_and_values(attn: WanAttention, hidden: Tensor, plan: TokenPlan) -> KeyValue:
    """Return the rotated keys and the values of normalised tokens [B, L, D]: [B, L, H, D] each."""
    key = attn.norm_k(attn.to_k(hidden)).unflatten(2, (attn.heads, -1))
    value = attn.to_v(hidden).unflatten(2, (attn.heads, -1))
    return rotate(key, plan.cos, plan.sin), value


def _attend(
    processor: PrefixAttention | SegmentTextAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: int,
) -> Tensor:
    key, value = key[:, :visible], value[:, :visible]
    out: Tensor = dispatch_attention_fn(query, key, value, backend=processor._attention_backend)
    return out


def _project_out(attn: WanAttention, seen: Sequence[Tensor], hidden: Tensor) -> Tensor:
    joined = seen[0] if len(seen) == 1 else torch.cat(list(seen), dim=1)
    out: Tensor = attn.to_out[1](attn.to_out[0](joined.flatten(2, 3).type_as(hidden)))
    return out
