"""From the request for a chunk to its velocity field: caches -> segments -> predict.

Training builds the same segments with the same functions. Latents have no batch here: [C, F, h, w].
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from fw_model.backbones.base import ContextKV, TextKV
from fw_model.cache.context import (
    ContextLatents,
    TokenSegment,
    keyframe_segments,
    target_segment,
    temporal_segments,
)
from fw_model.diffusion.guidance import guided
from fw_model.diffusion.objective import add_noise
from fw_model.diffusion.sampler import Predict
from fw_model.diffusion.schedule import keyed_generator, sigma_of_step
from fw_model.errors import ConfigError
from fw_model.generation.request import ChunkRequest, GenerationConfig, HistoryChunk
from fw_model.loading.load import FilmModel

TEXTS_KEPT = 256

Run = Callable[[TokenSegment, TextKV, tuple[int, ...]], Tensor]
"""(target, keys and values of its text, layers to skip) -> velocity."""


class Conditioner:
    """Turns requests into `predict(latents, sigma)` calls, and keeps what chunks share."""

    def __init__(self, model: FilmModel, config: GenerationConfig) -> None:
        self._model = model
        self._config = config
        chosen = config.skip_layer_guidance
        self._skip_layer_guidance = model.record.skip_layer_guidance if chosen is None else chosen
        _check_layers(self._skip_layer_guidance.layers, model.backbone.num_layers)
        self._texts: OrderedDict[str, Tensor] = OrderedDict()
        self._shot_context: tuple[str, ContextKV] | None = None

    def predictor(self, request: ChunkRequest, guidance_scale: float) -> Predict:
        """Return predict(latents [1, C, F, h, w], sigma [1]) -> guided velocity."""
        run = self._runner(request, *self._context(request))
        text = self._text(request.prompt)
        text_kv: TextKV = {}
        pair = self._pair(request, run) if guidance_scale > 1.0 else None
        above = self._config.guidance_above
        above = self._model.record.guidance_above if above is None else above
        skip = self._skip_layer_guidance

        def predict(latents: Tensor, sigma: Tensor) -> Tensor:
            target, level = target_segment(latents, sigma, text), float(sigma)
            if pair is None or level < above:
                velocity = conditional = run(target, text_kv, ())
            else:
                conditional, unconditional = pair(latents, sigma)
                velocity = guided(conditional, unconditional, guidance_scale)
            if skip.acts_at(level):
                weaker = run(target, text_kv, skip.layers)
                velocity = velocity + skip.scale * (conditional - weaker)
            return velocity

        return predict

    def _pair(
        self, request: ChunkRequest, run: Run
    ) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return a call that predicts velocity with the prompt and with the negative prompt."""
        negative = request.negative_prompt or self._config.negative_prompt
        texts = [self._text(prompt) for prompt in (request.prompt, negative)]
        kvs: list[TextKV] = [{}, {}]

        def two_passes(latents: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
            first, second = (
                run(target_segment(latents, sigma, text), kv, ())
                for text, kv in zip(texts, kvs, strict=True)
            )
            return first, second

        def one_batch(latents: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
            both = target_segment(
                latents.expand(2, *latents.shape[1:]), sigma.expand(2), torch.cat(texts)
            )
            first, second = run(both, kvs[0], ()).chunk(2)
            return first, second

        return two_passes if self._config.guidance == "two_pass" else one_batch

    def _runner(
        self, request: ChunkRequest, keyframes: list[TokenSegment], history: list[TokenSegment]
    ) -> Run:
        """Return a call that predicts velocity; it reuses context if that is exact."""
        backbone = self._model.backbone
        if not self._config.reuse_context or self._model.record.cache.visibility != "prefix":

            def recompute(target: TokenSegment, text_kv: TextKV, skip: tuple[int, ...]) -> Tensor:
                batch = target.latents.shape[0]
                context = [_expanded(s, batch) for s in (*keyframes, *history)]
                return backbone.forward([*context, target], skip_layers=skip)

            return recompute
        context = self._shot_kv(request, keyframes) if keyframes else None
        if history:
            context = backbone.encode_context(history, past=context)
        return lambda target, text_kv, skip: backbone.predict(
            target, context, text_kv, skip_layers=skip
        )

    def _shot_kv(self, request: ChunkRequest, keyframes: list[TokenSegment]) -> ContextKV:
        """Return the keyframes' keys and values, computed once per shot for all of its chunks."""
        chosen = [s.keyframe for s in request.keyframes]
        ids = [(k.keyframe_id, k.caption) for k in chosen]
        key = repr((request.story_seed, request.shot, request.version, ids, keyframes[0].sigma))
        if self._shot_context is None or self._shot_context[0] != key:
            self._shot_context = (key, self._model.backbone.encode_context(keyframes))
        return self._shot_context[1]

    def _context(self, request: ChunkRequest) -> tuple[list[TokenSegment], list[TokenSegment]]:
        """Return the segments of the shot cache and of the temporal cache, batch one."""
        cache = self._model.record.cache
        sigma = self._context_sigma("keyframe")
        chosen = [scored.keyframe for scored in request.keyframes]
        keyframes = [
            self._noised(request, k.latents, sigma, self._text(k.caption), k.keyframe_id)
            for k in chosen
        ]
        history = None
        joined = joined_history(request.history)
        if joined is not None:
            newest = joined[:, -cache.history_latents :]
            sigma, texts = self._context_sigma("temporal"), self._history_texts(request)
            history = self._noised(request, newest, sigma, texts, "history", request.chunk)
        return keyframe_segments(cache, keyframes), temporal_segments(cache, history)

    def _history_texts(self, request: ChunkRequest) -> tuple[Tensor, ...]:
        """Return the caption of each latent of the shot so far."""
        return tuple(
            self._text(chunk.prompt)
            for chunk in request.history
            for _ in range(chunk.latents.shape[1])
        )

    def _noised(
        self,
        request: ChunkRequest,
        latents: Tensor,
        sigma: float,
        text: Tensor | tuple[Tensor, ...],
        *key: int | str,
    ) -> ContextLatents:
        """Return cached latents at noise level `sigma`; the noise depends on the shot and `key`."""
        device = self._model.config.torch_device()
        generator = keyed_generator(
            request.story_seed, "context", request.shot, request.version, *key
        )
        level = torch.tensor([sigma])
        noise = torch.randn(latents.shape, generator=generator)
        noisy = add_noise(latents[None], noise[None], level)
        return ContextLatents(noisy.to(device), level.to(device), text)

    def _context_sigma(self, role: Literal["keyframe", "temporal"]) -> float:
        """Return the noise level of cached latents: as set, or else the lowest in training."""
        augment = self._model.record.augment
        config = self._config
        step = config.keyframe_step if role == "keyframe" else config.temporal_step
        if step is not None:
            return sigma_of_step(step, augment.mapping)
        return augment.sigma_range(role)[0]

    def _text(self, prompt: str) -> Tensor:
        """Return the embedded prompt [1, T, D]; it is kept because a story repeats its captions."""
        if prompt not in self._texts:
            if len(self._texts) >= TEXTS_KEPT:
                self._texts.popitem(last=False)
            encoded = self._model.text_encoder.encode([prompt])
            self._texts[prompt] = encoded.to(self._model.config.torch_device())
        return self._texts[prompt]


def joined_history(history: Sequence[HistoryChunk]) -> Tensor | None:
    """Return all latents of the shot so far, [C, F, h, w]; None before its first chunk."""
    return torch.cat([chunk.latents for chunk in history], dim=1).float() if history else None


def _check_layers(layers: tuple[int, ...], num_layers: int) -> None:
    wrong = [layer for layer in layers if not 0 <= layer < num_layers]
    if wrong:
        raise ConfigError(
            f"generation.skip_layer_guidance.layers names {wrong}, but the transformer has layers "
            f"0 to {num_layers - 1}."
        )


def _expanded(segment: TokenSegment, batch: int) -> TokenSegment:
    return replace(
        segment,
        latents=segment.latents.expand(batch, -1, -1, -1, -1),
        sigma=segment.sigma.expand(batch),
        text=segment.text.expand(batch, -1, -1),
    )
