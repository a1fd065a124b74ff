"""StoryGenerator: a story is shots, a shot is chunks, a chunk is a pure function of its request.

    ChunkRequest -> Segments -> ContextKV -> sampler -> latents -> frames, new keyframes

Knows nothing of HTTP, jobs or files. Latents here have no batch: [C, F, h, w]; pixels are uint8
[F, H, W, 3].
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fw_model.backbones.base import ContextKV
from fw_model.cache.context import (
    ContextLatents,
    Mode,
    Segment,
    keyframe_segments,
    target_segment,
    temporal_segments,
)
from fw_model.cache.shot import REFERENCE_SHOT, Keyframe, ScoredKeyframe, admit, retrieve
from fw_model.codecs.base import DecodeStream
from fw_model.diffusion.objective import add_noise
from fw_model.diffusion.sampler import Cancelled, guided, make_scheduler, sample
from fw_model.diffusion.schedule import derive_seed, keyed_generator, sigma_of_step
from fw_model.errors import InputError
from fw_model.generation import ChunkRequest, ChunkResult, GenerationConfig, HistoryChunk, Pixels
from fw_model.media.keyframes import select_keyframe_indices
from fw_model.media.video import frames_to_uint8, read_image, resize_frames, uint8_to_frames
from fw_model.model import FilmModel
from fw_model.story import MAX_PROMPT_CHARACTERS, StoryFile

__all__ = [
    "Cancelled",
    "ChunkRequest",
    "ChunkResult",
    "GenerationConfig",
    "HistoryChunk",
    "StoryChunk",
    "StoryGenerator",
]

Predict = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class StoryChunk:
    """One finished chunk of a story, and where it stands."""

    shot: int
    segment: int
    chunk: int
    mode: Mode
    request: ChunkRequest
    result: ChunkResult


class StoryGenerator:
    """Generates chunks with one loaded model; any machine draws the same chunk from a request."""

    def __init__(self, model: FilmModel, config: GenerationConfig | None = None) -> None:
        self.model = model
        self.config = config or GenerationConfig()
        self._texts: OrderedDict[str, Tensor] = OrderedDict()
        self._streams: OrderedDict[str, DecodeStream] = OrderedDict()
        self._shot_context: tuple[str, ContextKV] | None = None

    # ---- the shot cache ----------------------------------------------------------------------

    def retrieve(
        self, prompt: str, bank: Sequence[Keyframe], *, top_k: int | None = None
    ) -> list[ScoredKeyframe]:
        """Return the keyframes of `bank` that a chunk under `prompt` reads, best first.

        `bank` holds the keyframes of earlier shots and the injected references.
        """
        count = self.model.record.cache.top_k if top_k is None else top_k
        if not bank or count < 1:
            return []
        query = np.asarray(self.model.embedder.embed_text([prompt]), dtype=np.float32)[0]
        return retrieve(query, bank, count)

    def admit(self, candidates: Sequence[Keyframe], bank: Sequence[Keyframe]) -> list[Keyframe]:
        """Return the candidates that are no near-duplicates of what the bank has of their shot."""
        return admit(candidates, bank, self.config.duplicate_cosine)

    def reference_keyframe(
        self,
        image: Pixels,
        *,
        name: str,
        weight: float = 1.0,
        pinned: bool = True,
        caption: str = "",
        width: int | None = None,
        height: int | None = None,
    ) -> Keyframe:
        """Return a keyframe made from an outside image [H, W, 3], to be injected into the bank."""
        width, height = width or self.model.record.width, height or self.model.record.height
        fitted = resize_frames(image[None], width=width, height=height)
        return self._keyframe(
            fitted[0], shot=REFERENCE_SHOT, frame=0, caption=caption or name, name=name,
            weight=weight, pinned=pinned,
        )  # fmt: skip

    @torch.no_grad()
    def _keyframe(
        self,
        image: Pixels,
        *,
        shot: int,
        frame: int,
        caption: str,
        name: str | None = None,
        weight: float = 1.0,
        pinned: bool = False,
    ) -> Keyframe:
        frames = uint8_to_frames(image[None]).to(self.model.config.torch_device())
        latents = self.model.codec.encode(frames)[0].float().cpu()  # [C, 1, h, w]
        embedding = np.asarray(self.model.embedder.embed_images([image]), dtype=np.float32)[0]
        digest = blake2b(image.tobytes(), digest_size=10)
        digest.update(f"{shot}:{frame}:{name}".encode())
        return Keyframe(
            digest.hexdigest(),
            shot,
            frame,
            latents,
            embedding,
            caption,
            image,
            name,
            weight,
            pinned,
        )

    # ---- one chunk ---------------------------------------------------------------------------

    @torch.no_grad()
    def generate_chunk(
        self,
        request: ChunkRequest,
        *,
        on_step: Callable[[int, int], None] | None = None,
        should_cancel: Callable[[], bool] | None = None,
    ) -> ChunkResult:
        """Generate one chunk.

        Raises InputError for a request that the model cannot run, Cancelled between two denoising
        steps when `should_cancel` says so.
        """
        self._check(request)
        timings: dict[str, float] = {}
        seed = derive_seed(
            request.story_seed, "chunk", request.shot, request.chunk, request.version
        )
        with _timed(timings, "context_s"):
            predict = self._predictor(request)
        with _timed(timings, "denoise_s"):
            latents = self._denoise(request, seed, predict, on_step, should_cancel)
        if should_cancel is not None and should_cancel():
            raise Cancelled("cancelled before decoding")
        with _timed(timings, "decode_s"):
            pixels = self._decode(request, latents)
        with _timed(timings, "keyframes_s"):
            keyframes = self._new_keyframes(request, pixels)
        return ChunkResult(latents, pixels, keyframes, seed, timings)

    def _check(self, request: ChunkRequest) -> None:
        if not request.prompt.strip() or len(request.prompt) > MAX_PROMPT_CHARACTERS:
            raise InputError(
                f"A prompt must have 1 to {MAX_PROMPT_CHARACTERS} characters, "
                f"this one has {len(request.prompt)}."
            )
        multiple = self.model.codec.spatial_factor * self.model.backbone.spatial_multiple
        if request.width % multiple or request.height % multiple:
            raise InputError(
                f"Frames of {request.width}x{request.height} px do not divide by {multiple}."
            )

    def _denoise(
        self,
        request: ChunkRequest,
        seed: int,
        predict: Predict,
        on_step: Callable[[int, int], None] | None,
        should_cancel: Callable[[], bool] | None,
    ) -> Tensor:
        """Return the new latents [C, F, h, w] on the CPU, float32."""
        codec, record = self.model.codec, self.model.record
        rows, columns = (
            request.height // codec.spatial_factor,
            request.width // codec.spatial_factor,
        )
        shape = (1, codec.latent_channels, record.cache.chunk_latents, rows, columns)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        scheduler = make_scheduler(
            self.config.scheduler, shift=self.config.shift, folder=self.model.scheduler_folder
        )
        latents = sample(
            predict,
            noise.to(self.model.config.torch_device()),
            scheduler,
            self._num_steps(request),
            on_step=on_step,
            should_cancel=should_cancel,
        )
        return latents[0].float().cpu()

    def _num_steps(self, request: ChunkRequest) -> int:
        asked = request.num_inference_steps or self.config.num_inference_steps
        return asked or self.model.record.num_inference_steps

    def _guidance_scale(self, request: ChunkRequest) -> float:
        for scale in (request.guidance_scale, self.config.guidance_scale):
            if scale is not None:
                return scale
        return self.model.record.guidance_scale

    def _decode(self, request: ChunkRequest, latents: Tensor) -> Pixels:
        """Return the chunk's frames; the decoder goes on from where the shot's last chunk ended."""
        device = self.model.config.torch_device()
        history = _joined_history(request.history)
        stream = self._streams.pop(_history_key(request.history), None)
        if stream is None:
            stream = self.model.codec.stream(None if history is None else history[None].to(device))
        frames = stream.decode(latents[None].to(device))  # [1, 3, F, H, W]
        after = (*request.history, HistoryChunk(latents, request.prompt))
        self._streams[_history_key(after)] = stream
        while len(self._streams) > self.config.decode_streams:
            self._streams.popitem(last=False)
        return frames_to_uint8(frames.cpu())

    def _new_keyframes(self, request: ChunkRequest, pixels: Pixels) -> tuple[Keyframe, ...]:
        if self.config.keyframes_per_chunk == 0:
            return ()
        before = sum(chunk.latents.shape[1] for chunk in request.history)
        first = 0 if before == 0 else self.model.codec.temporal_factor * (before - 1) + 1
        indices = select_keyframe_indices(len(pixels), self.config.keyframes_per_chunk)
        return tuple(
            self._keyframe(pixels[i], shot=request.shot, frame=first + i, caption=request.prompt)
            for i in indices
        )

    # ---- what the transformer reads ----------------------------------------------------------

    def _predictor(self, request: ChunkRequest) -> Predict:
        """Return predict(latents, sigma) -> guided velocity, with the context behind it."""
        keyframes, history = self._context(request)
        scale = self._guidance_scale(request)
        prompts = [request.prompt]
        if scale > 1.0:
            prompts.append(request.negative_prompt or self.config.negative_prompt)
        texts = [self._text(p) for p in prompts]
        run = self._runner(request, keyframes, history)
        text_kvs: list[dict[tuple[int, int], tuple[Tensor, Tensor]]] = [{}, {}]

        def predict(latents: Tensor, sigma: Tensor) -> Tensor:
            if len(texts) == 1:
                return run(target_segment(latents, sigma, texts[0]), text_kvs[0])
            if self.config.guidance == "two_pass":
                both = [
                    run(target_segment(latents, sigma, text), kv)
                    for text, kv in zip(texts, text_kvs, strict=True)
                ]
                return guided(both[0], both[1], scale)
            pair = target_segment(
                latents.expand(2, *latents.shape[1:]), sigma.expand(2), torch.cat(texts)
            )
            conditional, unconditional = run(pair, text_kvs[0]).chunk(2)
            return guided(conditional, unconditional, scale)

        return predict

    def _runner(
        self, request: ChunkRequest, keyframes: list[Segment], history: list[Segment]
    ) -> Callable[[Segment, dict[tuple[int, int], tuple[Tensor, Tensor]]], Tensor]:
        """Return a call that predicts velocity, reusing context where that is exact."""
        backbone = self.model.backbone
        if not self.config.reuse_context or self.model.record.cache.visibility != "prefix":

            def recompute(target: Segment, text_kv: object) -> Tensor:
                batch = target.latents.shape[0]
                context = [_expanded(s, batch) for s in (*keyframes, *history)]
                return backbone.forward([*context, target])

            return recompute
        context = self._shot_kv(request, keyframes) if keyframes else None
        if history:
            context = backbone.encode_context(history, past=context)
        return lambda target, text_kv: backbone.predict(target, context, text_kv)

    def _shot_kv(self, request: ChunkRequest, keyframes: list[Segment]) -> ContextKV:
        """Return the keyframes' keys and values: computed once a shot, reused by all its chunks."""
        ids = [f"{s.keyframe.keyframe_id}:{s.keyframe.caption}" for s in request.keyframes]
        key = repr((request.story_seed, request.shot, request.version, ids))
        if self._shot_context is None or self._shot_context[0] != key:
            self._shot_context = (key, self.model.backbone.encode_context(keyframes))
        return self._shot_context[1]

    def _context(self, request: ChunkRequest) -> tuple[list[Segment], list[Segment]]:
        """Return the segments of the shot cache and of the temporal cache, batch one."""
        cache, device = self.model.record.cache, self.model.config.torch_device()
        place = ("context", request.shot, request.version)

        def noised(latents: Tensor, sigma: float, caption: str, *key: int | str) -> ContextLatents:
            draw = keyed_generator(request.story_seed, *place, *key)
            level = torch.tensor([sigma])
            noise = torch.randn(latents.shape, generator=draw)
            noisy = add_noise(latents[None], noise[None], level)
            return ContextLatents(noisy.to(device), level.to(device), self._text(caption))

        sigma = self._context_sigma("keyframe")
        chosen = [scored.keyframe for scored in request.keyframes]
        keyframes = [noised(k.latents, sigma, k.caption, k.keyframe_id) for k in chosen]
        history = None
        joined = _joined_history(request.history)
        if joined is not None:
            sigma, caption = self._context_sigma("temporal"), request.history[-1].prompt
            newest = joined[:, -cache.history_latents :]
            history = noised(newest, sigma, caption, "history", request.chunk)
        return keyframe_segments(cache, keyframes), temporal_segments(cache, history)

    def _context_sigma(self, role: str) -> float:
        """Return the noise level of cached latents: the dial if set, else the least of training."""
        augment = self.model.record.augment
        dial = self.config.keyframe_step if role == "keyframe" else self.config.temporal_step
        if dial is not None:
            return sigma_of_step(dial, augment.mapping)
        return augment.sigma_range("keyframe" if role == "keyframe" else "temporal")[0]

    def _text(self, prompt: str) -> Tensor:
        """Return the embedded prompt [1, T, D], remembered: a story repeats its captions."""
        if prompt not in self._texts:
            if len(self._texts) >= 256:
                self._texts.popitem(last=False)
            encoded = self.model.text_encoder.encode([prompt])
            self._texts[prompt] = encoded.to(self.model.config.torch_device())
        return self._texts[prompt]

    # ---- a whole story -----------------------------------------------------------------------

    def generate_story(
        self,
        story: StoryFile,
        *,
        base_dir: Path = Path(),
        on_step: Callable[[int, int], None] | None = None,
        should_cancel: Callable[[], bool] | None = None,
    ) -> Iterator[StoryChunk]:
        """Yield the chunks of `story` in order.

        Reference images are read, relative to `base_dir`, before the first chunk is generated.
        """
        record = self.model.record
        injected = [
            [
                self.reference_keyframe(
                    read_image(base_dir / r.image), name=r.name, weight=r.weight
                )
                for r in shot.references
            ]
            for shot in story.shots
        ]
        bank: list[Keyframe] = []
        for shot_index, shot in enumerate(story.shots):
            bank.extend(injected[shot_index])
            history: tuple[HistoryChunk, ...] = ()
            fresh: list[Keyframe] = []
            for segment_index, segment in enumerate(shot.segments):
                keyframes = tuple(self.retrieve(segment.prompt, bank))
                for _ in range(segment.num_chunks):
                    request = ChunkRequest(
                        story_seed=story.seed,
                        shot=shot_index,
                        chunk=len(history),
                        prompt=segment.prompt,
                        history=history,
                        keyframes=keyframes,
                        width=record.width,
                        height=record.height,
                    )
                    result = self.generate_chunk(
                        request, on_step=on_step, should_cancel=should_cancel
                    )
                    yield StoryChunk(
                        shot_index, segment_index, len(history), request.mode, request, result
                    )
                    history = (*history, HistoryChunk(result.latents, segment.prompt))
                    fresh.extend(self.admit(result.keyframes, fresh))
            bank.extend(fresh)

    @torch.no_grad()
    def history_of_video(self, pixels: Pixels, prompt: str) -> HistoryChunk:
        """Return an outside video [F, H, W, 3] as history, so that a shot can extend it.

        Frames are cut to 4n + 1 from the end, as the causal VAE wants them.
        """
        factor = self.model.codec.temporal_factor
        usable = (len(pixels) - 1) // factor * factor + 1
        record = self.model.record
        fitted = resize_frames(pixels[-usable:], width=record.width, height=record.height)
        frames = uint8_to_frames(fitted).to(self.model.config.torch_device())
        return HistoryChunk(self.model.codec.encode(frames)[0].float().cpu(), prompt)


def _joined_history(history: Sequence[HistoryChunk]) -> Tensor | None:
    """Return all latents of the shot so far, [C, F, h, w]."""
    return torch.cat([chunk.latents for chunk in history], dim=1).float() if history else None


def _history_key(history: Sequence[HistoryChunk]) -> str:
    """Return a key that two histories share only if they end in the same latents."""
    if not history:
        return "start"
    last = history[-1].latents.float().contiguous().numpy().tobytes()
    return f"{len(history)}:{blake2b(last, digest_size=16).hexdigest()}"


def _expanded(segment: Segment, batch: int) -> Segment:
    return replace(
        segment,
        latents=segment.latents.expand(batch, -1, -1, -1, -1),
        sigma=segment.sigma.expand(batch),
        text=segment.text.expand(batch, -1, -1),
    )


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    timings[name] = time.perf_counter() - start
