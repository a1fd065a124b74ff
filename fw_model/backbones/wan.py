"""Wan text-to-video: the stock diffusers transformer reading FilmWeaver's caches.

For models with one transformer (Wan 2.1, Wan 2.2 TI2V-5B); Wan 2.2 A14B, which has two, is refused.

B batch, C channels, F x h x w latent cells, L tokens, S segments, D model width. The stock module
keeps its parameters and their names; the only new ones embed the coarse patches of the tiers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from einops import rearrange
from safetensors.torch import save_file
from torch import Tensor, nn

from fw_model.backbones.attention import SegmentTexts, Span, TokenPlan, install, keys_and_values
from fw_model.backbones.base import ContextKV, KeyValue, TextKV
from fw_model.backbones.context_patch import (
    CONTEXT_PATCH_FILE,
    inflated_patches,
    kernel_name,
    load_context_patch,
)
from fw_model.backbones.rope import rotary_table, token_positions
from fw_model.backbones.wan_depth import deepen
from fw_model.backbones.wan_weights import new_transformer, saved_transformer
from fw_model.cache.config import CacheConfig, Kernel
from fw_model.cache.context import TokenSegment
from fw_model.errors import CheckpointError, InputError
from fw_model.files.weights import drop_private_keys

TextRuns = tuple[tuple[int, int, Tensor], ...]

COORDINATE_CHANNELS = 2


@dataclass(frozen=True)
class _Packed:
    """One pass over the blocks: tokens [B, L, D] and what conditions them.

    temb [B, D] is the last segment's time embedding; modulation [B, L, 6, D], or [B, 6, D] where
    all tokens share it.
    """

    hidden: Tensor
    temb: Tensor
    modulation: Tensor
    texts: TextRuns
    cos: Tensor
    sin: Tensor
    spans: tuple[Span, ...]
    past: ContextKV | None

    def plan(self, layer: int, collected: list[KeyValue] | None = None) -> TokenPlan:
        """Return the plan of the self-attention of a layer."""
        past = None if self.past is None else self.past.layers[layer]
        return TokenPlan(self.cos, self.sin, self.spans, past, collected)


class WanBackbone(nn.Module):
    """A `WanTransformer3DModel` whose tokens may be keyframes, history of any tier, or target."""

    def __init__(self, transformer: WanTransformer3DModel, cache: CacheConfig) -> None:
        super().__init__()
        config = transformer.config
        if config.image_dim is not None:
            raise CheckpointError(
                "This Wan transformer expects an image embedding (image-to-video); "
                "use a text-to-video checkpoint."
            )
        self.transformer = transformer
        self.cache = cache
        self.patch: Kernel = tuple(config.patch_size)
        self.latent_channels: int = config.out_channels
        self.coordinates = config.in_channels - config.out_channels == COORDINATE_CHANNELS
        if config.in_channels != config.out_channels and not self.coordinates:
            raise CheckpointError(
                f"This Wan transformer reads {config.in_channels} channels and predicts "
                f"{config.out_channels}: it needs a start image (image-to-video); "
                "use a text-to-video checkpoint."
            )
        self.text_width: int = config.text_dim
        self.spatial_multiple: int = self.patch[1]
        self.num_layers = len(transformer.blocks)
        self.context_patch = inflated_patches(
            transformer.patch_embedding, (k for k in cache.kernels if k != self.patch)
        )
        install(transformer.blocks)
        self._rotary: dict[tuple[object, ...], tuple[Tensor, Tensor]] = {}

    def deepen(self, num_layers: int) -> None:
        """Add blocks to the transformer, which change nothing until they are trained."""
        deepen(self.transformer, num_layers)
        self.num_layers = num_layers
        install(self.transformer.blocks)

    # ---- the three ways to run it ------------------------------------------------------------

    def forward(
        self, segments: Sequence[TokenSegment], *, skip_layers: tuple[int, ...] = ()
    ) -> Tensor:
        _check_order(segments)
        packed = self._pack(segments, self._spans(segments))
        num_context = packed.hidden.shape[1] - self._num_tokens(segments[-1])
        hidden = self._run(packed, None, skip_layers, num_context)
        return self._project(hidden, packed.temb, segments[-1].latents)

    def encode_context(
        self, segments: Sequence[TokenSegment], past: ContextKV | None = None
    ) -> ContextKV:
        if self.cache.visibility != "prefix":
            raise InputError("Context can be encoded in advance only with visibility: prefix.")
        packed = self._pack(segments, self._spans(segments), past)
        hidden, collected = packed.hidden, []
        blocks = list(self.transformer.blocks)
        for layer, block in enumerate(blocks[:-1]):
            own: list[KeyValue] = []
            hidden = self._block(block, hidden, packed, packed.plan(layer, own))
            collected.append(own[0])
        # Only keys and values of the last layer are ever read.
        normed = _normed(blocks[-1], hidden, packed.modulation)
        collected.append(keys_and_values(blocks[-1].attn1, normed, packed.plan(len(collected))))
        context = ContextKV(tuple(collected))
        return context if past is None else past.followed_by(context)

    def predict(
        self,
        target: TokenSegment,
        context: ContextKV | None,
        text_kv: TextKV | None = None,
        *,
        skip_layers: tuple[int, ...] = (),
    ) -> Tensor:
        if context is not None and context.layers[0][0].shape[0] != target.latents.shape[0]:
            context = context.expand(target.latents.shape[0])
        packed = self._pack([target], self._spans([target]), context)
        hidden = self._run(packed, text_kv, skip_layers)
        return self._project(hidden, packed.temb, target.latents)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the computation (a few of Wan's parameters stay float32)."""
        dtype: torch.dtype = self.transformer.proj_out.weight.dtype
        return dtype

    # ---- one pass over packed tokens ---------------------------------------------------------

    def _pack(
        self,
        segments: Sequence[TokenSegment],
        spans: tuple[Span, ...],
        past: ContextKV | None = None,
    ) -> _Packed:
        """Return segments as one sequence of tokens, with everything that the blocks need."""
        hidden = torch.cat([self._patchify(s) for s in segments], dim=1)  # [B, L, D]
        lengths = [self._num_tokens(s) for s in segments]
        temb, modulation, texts = self._conditions(segments, lengths)
        cos, sin = self._rotary_of(segments, hidden.device)
        return _Packed(hidden, temb, modulation, texts, cos, sin, spans, past)

    def _run(
        self,
        packed: _Packed,
        text_kv: TextKV | None = None,
        skip_layers: tuple[int, ...] = (),
        num_context: int = 0,
    ) -> Tensor:
        """Return the last block's tokens [B, L, D]; those after `num_context` skip some layers."""
        hidden = packed.hidden
        for layer, block in enumerate(self.transformer.blocks):
            skipping = layer in skip_layers
            if skipping and num_context == 0:
                continue
            kv = None if text_kv is None else text_kv.setdefault(layer, {})
            out = self._block(block, hidden, packed, packed.plan(layer), kv)
            if skipping:
                out = torch.cat([out[:, :num_context], hidden[:, num_context:]], dim=1)
            hidden = out
        return hidden

    def _block(
        self,
        block: nn.Module,
        hidden: Tensor,
        packed: _Packed,
        plan: TokenPlan,
        text_kv: dict[int, KeyValue] | None = None,
    ) -> Tensor:
        model = self.transformer
        texts = SegmentTexts(packed.texts, text_kv)
        if torch.is_grad_enabled() and model.gradient_checkpointing:
            recomputed: Tensor = model._gradient_checkpointing_func(
                block, hidden, texts, packed.modulation, plan
            )
            return recomputed
        out: Tensor = block(hidden, texts, packed.modulation, plan)
        return out

    def _patchify(self, segment: TokenSegment) -> Tensor:
        """Return the tokens of one segment [B, L, D]; edges repeat if a kernel does not fit."""
        kernel = segment.kernel or self.patch
        coarse = kernel != self.patch
        embed: Any = (
            self.context_patch[kernel_name(kernel)] if coarse else self.transformer.patch_embedding
        )
        latents = segment.latents
        if self.coordinates:
            latents = torch.cat([latents, _coordinates(latents)], dim=1)
        pad_h, pad_w = -latents.shape[3] % kernel[1], -latents.shape[4] % kernel[2]
        if pad_h or pad_w:
            latents = F.pad(latents, (0, pad_w, 0, pad_h, 0, 0), mode="replicate")
        dtype: torch.dtype = embed.weight.dtype
        tokens: Tensor = embed(latents.to(dtype))  # [B, D, f, h, w]
        return rearrange(tokens, "b d f h w -> b (f h w) d").contiguous()

    def _conditions(
        self, segments: Sequence[TokenSegment], lengths: list[int]
    ) -> tuple[Tensor, Tensor, TextRuns]:
        """Return the target's time embedding, each token's modulation, each token's text."""
        texts: list[Tensor] = []
        runs: list[tuple[int, int, int]] = []
        for _, group in groupby(
            zip(segments, _bounds(lengths), strict=True), lambda p: id(p[0].text)
        ):
            members = list(group)
            runs.append((members[0][1][0], members[-1][1][1], len(texts)))
            texts.append(members[0][0].text)
        sigma = torch.stack([s.sigma for s in segments], dim=1)  # [B, S]
        timestep = (sigma.float() * 1000).flatten()  # [B * S]
        temb, modulation, text, _ = self.transformer.condition_embedder(
            timestep, torch.cat(texts, dim=1).to(self.dtype), None, timestep_seq_len=len(segments)
        )
        modulation = modulation.unflatten(2, (6, -1))  # [B, S, 6, D]
        if len(segments) == 1:
            modulation = modulation[:, 0]  # [B, 6, D], broadcast over tokens
        else:
            index = torch.repeat_interleave(torch.tensor(lengths)).to(modulation.device)
            modulation = modulation[:, index]  # [B, L, 6, D]
        parts = text.split([t.shape[1] for t in texts], dim=1)
        embedded = tuple((start, stop, parts[i]) for start, stop, i in runs)
        return temb[:, -1], modulation, embedded

    def _project(self, hidden: Tensor, temb: Tensor, like: Tensor) -> Tensor:
        """Return the velocity [B, C, F, h, w] of the last tokens, which are the target's."""
        model = self.transformer
        grid = _grid(like, self.patch)
        hidden = hidden[:, -grid[0] * grid[1] * grid[2] :]
        shift, scale = (model.scale_shift_table + temb[:, None]).chunk(2, dim=1)  # [B, 1, D]
        hidden = (model.norm_out(hidden.float()) * (1 + scale) + shift).type_as(hidden)
        velocity: Tensor = rearrange(
            model.proj_out(hidden),
            "b (f h w) (pf ph pw c) -> b c (f pf) (h ph) (w pw)",
            **dict(zip(("f", "h", "w", "pf", "ph", "pw"), (*grid, *self.patch), strict=True)),
        )
        return velocity[..., : like.shape[3], : like.shape[4]]

    # ---- token positions and visibility ------------------------------------------------------

    def _num_tokens(self, segment: TokenSegment) -> int:
        f, h, w = _grid(segment.latents, segment.kernel or self.patch)
        return f * h * w

    def _spans(self, segments: Sequence[TokenSegment]) -> tuple[Span, ...]:
        """Return the visibility of tokens: each role sees itself and everything before it."""
        lengths = [self._num_tokens(s) for s in segments]
        if self.cache.visibility == "full":
            return (Span(0, sum(lengths), sum(lengths)),)
        spans: list[Span] = []
        paired = zip(segments, _bounds(lengths), strict=True)
        for _, group in groupby(paired, key=lambda pair: pair[0].role):
            members = [bounds for _, bounds in group]
            spans.append(Span(members[0][0], members[-1][1], members[-1][1]))
        return tuple(spans)

    def _rotary_of(
        self, segments: Sequence[TokenSegment], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        places = [(s.kernel or self.patch, s.position) for s in segments]
        grids = [_grid(s.latents, kernel) for s, (kernel, _) in zip(segments, places, strict=True)]
        key = (tuple(places), tuple(grids), device)
        if key not in self._rotary:
            if len(self._rotary) >= 64:
                self._rotary.clear()
            positions = torch.cat(
                [
                    token_positions(grid, kernel, self.patch, frame)
                    for grid, (kernel, frame) in zip(grids, places, strict=True)
                ]
            )
            cos, sin = rotary_table(positions, self.transformer.config.attention_head_dim)
            self._rotary[key] = (cos.to(device), sin.to(device))
        return self._rotary[key]

    @classmethod
    def from_scratch(
        cls, architecture: dict[str, Any], cache: CacheConfig, seed: int
    ) -> WanBackbone:
        """Return a new transformer with Wan's initialisation, the same for the same seed."""
        return cls(new_transformer(architecture, seed), cache)

    # ---- on disk -----------------------------------------------------------------------------

    @classmethod
    def load(cls, folder: Path, cache: CacheConfig, dtype: torch.dtype) -> WanBackbone:
        """Load `folder`/transformer; coarse patch embeddings are inflated if none are saved."""
        where, transformer = folder / "transformer", saved_transformer(folder, dtype)
        backbone = cls(transformer, cache)
        if (where / CONTEXT_PATCH_FILE).is_file():
            load_context_patch(backbone.context_patch, where / CONTEXT_PATCH_FILE)
        backbone.context_patch.to(dtype)
        return backbone

    def save(self, folder: Path, *, dtype: torch.dtype | None = None) -> None:
        where = folder / "transformer"
        where.mkdir(parents=True, exist_ok=True)
        wanted = dtype or next(self.transformer.parameters()).dtype
        self.transformer.save_config(str(where))
        drop_private_keys(where / "config.json")
        _write_weights(self.transformer, wanted, where / "diffusion_pytorch_model.safetensors")
        _write_weights(self.context_patch, wanted, where / CONTEXT_PATCH_FILE)


def _normed(block: WanTransformerBlock, hidden: Tensor, modulation: Tensor) -> Tensor:
    """Return the input of a block's self-attention for tokens [B, L, D], as in stock code."""
    table = block.scale_shift_table + modulation.float()  # [B, L, 6, D] or [B, 6, D]
    shift, scale = table[..., 0, :], table[..., 1, :]
    if table.ndim == 3:
        shift, scale = shift[:, None], scale[:, None]
    normed: Tensor = block.norm1(hidden.float()) * (1 + scale) + shift
    return normed.type_as(hidden)


def _coordinates(latents: Tensor) -> Tensor:
    """Return each cell's row and column in (-1, 1): [B, 2, F, h, w].

    Rotary positions are relative, and only a large model learns top and bottom from the edges. So
    a transformer with two more input channels than output channels gets the coordinates.
    """
    batch, _, frames, rows, columns = latents.shape
    row = (torch.arange(rows).to(latents) + 0.5) / rows * 2 - 1
    column = (torch.arange(columns).to(latents) + 0.5) / columns * 2 - 1
    grid = torch.stack(torch.meshgrid(row, column, indexing="ij"))  # [2, h, w]
    return grid[None, :, None].expand(batch, -1, frames, -1, -1)


def _grid(latents: Tensor, kernel: Kernel) -> tuple[int, int, int]:
    """Return how many tokens `latents` [B, C, F, h, w] give along time, rows, columns."""
    frames, rows, columns = latents.shape[2:]
    return frames // kernel[0], -(-rows // kernel[1]), -(-columns // kernel[2])


def _bounds(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    start = 0
    for length in lengths:
        yield start, start + length
        start += length


def _check_order(segments: Sequence[TokenSegment]) -> None:
    order = {"keyframe": 0, "temporal": 1, "target": 2}
    ranks = [order[s.role] for s in segments]
    if ranks != sorted(ranks) or ranks.count(2) != 1:
        roles = [s.role for s in segments]
        raise InputError(f"Segments must be keyframes, then history, then one target; got {roles}.")


def _write_weights(module: nn.Module, dtype: torch.dtype, path: Path) -> None:
    state = {k: v.detach().to("cpu", dtype) for k, v in module.state_dict().items()}
    unshared = {name: tensor.contiguous().clone() for name, tensor in state.items()}
    save_file(unshared, str(path), {"format": "pt"})
