"""StoryGenerator: a story is shots, a shot is chunks, a chunk is a pure function of its request.

    ChunkRequest -> TokenSegments -> ContextKV -> sampler -> latents -> frames, new keyframes

Knows nothing about HTTP, jobs or files. Latents here have no batch: [C, F, h, w]; pixels are uint8
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

from fw_model.cache.context import Mode
from fw_model.cache.shot import (
    REFERENCE_SHOT,
    Keyframe,
    ScoredKeyframe,
    admit,
    check_pinned,
    retrieve,
)
from fw_model.diffusion.sampler import Cancelled, Predict, make_scheduler, sample
from fw_model.diffusion.schedule import derive_seed
from fw_model.errors import InputError
from fw_model.generation.conditioning import Conditioner, joined_history
from fw_model.generation.request import (
    ChunkRequest,
    ChunkResult,
    GenerationConfig,
    HistoryChunk,
    Pixels,
)
from fw_model.generation.story_file import MAX_PROMPT_CHARACTERS, StoryFile
from fw_model.loading.load import FilmModel
from fw_model.media.keyframes import select_keyframe_indices
from fw_model.media.video import frames_to_uint8, read_image, resize_frames, uint8_to_frames
from fw_model.vaes.base import DecodeStream


@dataclass(frozen=True)
class StoryChunk:
    """One finished chunk of a story, and its place: `segment` counts the prompts of a shot."""

    shot: int
    segment: int
    chunk: int
    mode: Mode
    request: ChunkRequest
    result: ChunkResult


class StoryGenerator:
    """Generates chunks with one loaded model; a request gives the same chunk on any machine."""

    def __init__(self, model: FilmModel, config: GenerationConfig | None = None) -> None:
        self.model = model
        self.config = config or GenerationConfig()
        self._conditioner = Conditioner(model, self.config)
        self._streams: OrderedDict[str, DecodeStream] = OrderedDict()

    # ---- the shot cache ----------------------------------------------------------------------

    def retrieve(
        self, prompt: str, bank: Sequence[Keyframe], *, top_k: int | None = None
    ) -> list[ScoredKeyframe]:
        """Return the keyframes of `bank` that a chunk with `prompt` reads, best first.

        `bank` holds the keyframes of earlier shots and the injected references.
        """
        count = self.model.record.cache.top_k if top_k is None else top_k
        if not bank or count < 1:
            return []
        query = np.asarray(self.model.embedder.embed_text([prompt]), dtype=np.float32)[0]
        return retrieve(query, bank, count, self.config.retrieval)

    def admit(self, candidates: Sequence[Keyframe], bank: Sequence[Keyframe]) -> list[Keyframe]:
        """Return the candidates that are not near-duplicates of keyframes of their shot."""
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
        """Return a keyframe made from an external image [H, W, 3], to inject into the bank."""
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
        latents = self.model.vae.encode(frames)[0].float().cpu()  # [C, 1, h, w]
        embedding = np.asarray(self.model.embedder.embed_images([image]), dtype=np.float32)[0]
        digest = blake2b(image.tobytes(), digest_size=10)
        digest.update(f"{shot}:{frame}:{name}".encode())
        seen = (shot, frame, latents, embedding, caption, image)
        return Keyframe(digest.hexdigest(), *seen, name, weight, pinned)

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

        Raises InputError for a request that the model cannot run, and Cancelled between two
        denoising steps once `should_cancel` returns True.
        """
        self._check(request)
        timings: dict[str, float] = {}
        seed = derive_seed(
            request.story_seed, "chunk", request.shot, request.chunk, request.version
        )
        with _timed(timings, "context_s"):
            predict = self._conditioner.predictor(request, self._guidance_scale(request))
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
                f"A prompt must have 1 to {MAX_PROMPT_CHARACTERS} characters; "
                f"this one has {len(request.prompt)}."
            )
        multiple = self.model.vae.spatial_factor * self.model.backbone.spatial_multiple
        if request.width % multiple or request.height % multiple:
            raise InputError(
                f"Frames of {request.width}x{request.height} px are not multiples of {multiple}; "
                "change the size."
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
        vae, record = self.model.vae, self.model.record
        rows, columns = (s // vae.spatial_factor for s in (request.height, request.width))
        shape = (1, vae.latent_channels, record.cache.chunk_latents, rows, columns)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        scheduler = make_scheduler(
            self.config.scheduler, shift=self.config.shift, folder=self.model.scheduler_folder
        )
        latents = sample(
            predict,
            noise.to(self.model.config.torch_device()),
            scheduler,
            request.num_inference_steps
            or self.config.num_inference_steps
            or record.num_inference_steps,
            on_step=on_step,
            should_cancel=should_cancel,
        )
        return latents[0].float().cpu()

    def _guidance_scale(self, request: ChunkRequest) -> float:
        for scale in (request.guidance_scale, self.config.guidance_scale):
            if scale is not None:
                return scale
        return self.model.record.guidance_scale

    def _decode(self, request: ChunkRequest, latents: Tensor) -> Pixels:
        """Return the chunk's frames; the decoder continues after the previous chunk of the shot."""
        device = self.model.config.torch_device()
        history = joined_history(request.history)
        stream = self._streams.pop(_history_key(request.history), None)
        if stream is None:
            stream = self.model.vae.stream(None if history is None else history[None].to(device))
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
        first = 0 if before == 0 else self.model.vae.temporal_factor * (before - 1) + 1
        indices = select_keyframe_indices(len(pixels), self.config.keyframes_per_chunk)
        return tuple(
            self._keyframe(pixels[i], shot=request.shot, frame=first + i, caption=request.prompt)
            for i in indices
        )

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
        for references in injected:
            check_pinned(references, record.cache.top_k)
        bank: list[Keyframe] = []
        for shot_index, shot in enumerate(story.shots):
            history: tuple[HistoryChunk, ...] = ()
            fresh: list[Keyframe] = []
            for segment_index, segment in enumerate(shot.segments):
                keyframes = tuple(self.retrieve(segment.prompt, [*bank, *injected[shot_index]]))
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
            # A reference is pinned only in the shot that names it; later it competes by score.
            bank.extend(replace(k, pinned=False) for k in injected[shot_index])
            bank.extend(fresh)

    @torch.no_grad()
    def history_of_video(self, pixels: Pixels, prompt: str) -> HistoryChunk:
        """Return an external video [F, H, W, 3] as history, so that a shot can extend it.

        The last 4n + 1 frames are used, because the causal VAE needs that number.
        """
        factor = self.model.vae.temporal_factor
        usable = (len(pixels) - 1) // factor * factor + 1
        record = self.model.record
        fitted = resize_frames(pixels[-usable:], width=record.width, height=record.height)
        frames = uint8_to_frames(fitted).to(self.model.config.torch_device())
        return HistoryChunk(self.model.vae.encode(frames)[0].float().cpu(), prompt)


def _history_key(history: Sequence[HistoryChunk]) -> str:
    """Return a key that is equal only for histories that end in the same latents."""
    if not history:
        return "start"
    last = history[-1].latents.float().contiguous().numpy().tobytes()
    return f"{len(history)}:{blake2b(last, digest_size=16).hexdigest()}"


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    timings[name] = time.perf_counter() - start
