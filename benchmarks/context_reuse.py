"""How much time does encoding context once per chunk save, and does a late chunk cost more?

    python -m benchmarks.context_reuse [--model tiny|wan-1.3b|DIR] [--steps 4 50] [--json FILE]

Reused and recomputed context run the same requests alternately on the same model, so that a noisy
machine disturbs both. With the context, the keys and values of the text are kept from step to step
too. `wan-1.3b` builds the 1.3B transformer with random weights at 480x832 in bfloat16 (a GPU is
needed): it measures speed, not pictures. --quick takes one repeat, the fewest steps and 8 chunks.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from typing import TypedDict

import numpy as np
import torch

from benchmarks.report import Row, parser, report
from fw_model.backbones.wan import WanBackbone
from fw_model.cache.config import CacheConfig
from fw_model.cache.shot import Keyframe, ScoredKeyframe
from fw_model.generation.conditioning import Conditioner
from fw_model.generation.generator import StoryGenerator
from fw_model.generation.request import ChunkRequest, GenerationConfig, HistoryChunk
from fw_model.loading.config import ModelConfig
from fw_model.loading.load import FilmModel, load_model
from fw_model.loading.record import ModelRecord

WAN_1_3B = {
    "num_layers": 30, "num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960,
    "text_dim": 4096, "freq_dim": 256, "in_channels": 16, "out_channels": 16,
}  # fmt: skip


class Reuse(TypedDict):
    """One setting, both ways."""

    steps: int
    guidance_scale: float
    reused_s: float
    recomputed_s: float
    max_abs_diff: float
    sampled_diff: float


class RandomText:
    """Stands in for a text encoder of several GB: speed does not depend on what text says."""

    model_id, width, num_tokens = "random", 4096, 512

    def encode(self, prompts: list[str]) -> torch.Tensor:
        """Return embeddings [N, 512, 4096] that depend on the prompt alone."""
        generators = [torch.Generator().manual_seed(len(p)) for p in prompts]
        return torch.stack([torch.randn(512, 4096, generator=g) for g in generators])


def wan_1_3b() -> FilmModel:
    """Return the Wan 2.1 1.3B shape with random weights, transformer and VAE."""
    from diffusers import AutoencoderKLWan

    from fw_model.loading.load import load_embedder
    from fw_model.vaes.wan import WanVae

    config = ModelConfig(device="cuda", dtype="bfloat16")
    cache = CacheConfig()
    backbone = WanBackbone.from_scratch(WAN_1_3B, cache, seed=0).to(torch.bfloat16).cuda().eval()
    vae = AutoencoderKLWan().to("cuda", torch.bfloat16).eval()
    return FilmModel(
        backbone=backbone,
        vae=WanVae(vae),
        embedder=load_embedder(config),
        text_encoder=RandomText(),
        record=ModelRecord(cache=cache, width=832, height=480, fps=16),
        config=config,
        scheduler_folder=None,
    )


def make_request(model: FilmModel, num_history: int, num_keyframes: int) -> ChunkRequest:
    """Return a request with `num_history` earlier chunks and `num_keyframes` keyframes."""
    record, vae = model.record, model.vae
    grid = (record.height // vae.spatial_factor, record.width // vae.spatial_factor)
    generator = torch.Generator().manual_seed(1)

    def latents(frames: int) -> torch.Tensor:
        return torch.randn(vae.latent_channels, frames, *grid, generator=generator)

    embedding = np.ones(4, dtype=np.float32) / 2
    pixels = np.zeros((record.height, record.width, 3), dtype=np.uint8)
    keyframes = tuple(
        ScoredKeyframe(
            Keyframe(f"k{i}", i, 0, latents(1), embedding, f"shot number {i}", pixels), 1.0
        )
        for i in range(num_keyframes)
    )
    chunk = HistoryChunk(latents(record.cache.chunk_latents), "a bear walks in the meadow")
    return ChunkRequest(
        story_seed=0, shot=num_keyframes, chunk=num_history, prompt="the bear waves by day",
        width=record.width, height=record.height, history=(chunk,) * num_history,
        keyframes=keyframes,
    )  # fmt: skip


def measure_reuse(model: FilmModel, guidance_scale: float, num_steps: int, repeats: int) -> Reuse:
    """Time one chunk of extend_new_shot both ways, interleaved; compare their latents."""
    request = replace(
        make_request(model, 8, model.record.cache.top_k),
        num_inference_steps=num_steps,
        guidance_scale=guidance_scale,
    )
    branches = [request.prompt] if guidance_scale <= 1 else [request.prompt, ""]
    generators = {
        name: StoryGenerator(model, GenerationConfig(reuse_context=reuse, keyframes_per_chunk=0))
        for name, reuse in (("reused", True), ("recomputed", False))
    }
    seconds: dict[str, list[float]] = {name: [] for name in generators}
    latents: dict[str, torch.Tensor] = {}
    for repeat in range(repeats + 1):
        for name, generator in generators.items():
            fresh = replace(request, version=repeat)  # its keyframes are encoded again
            result = generator.generate_chunk(fresh)
            latents[name] = result.latents
            if repeat:  # the first round warms up
                seconds[name].append(result.timings["context_s"] + result.timings["denoise_s"])
    reused, recomputed = (statistics.median(seconds[n]) for n in ("reused", "recomputed"))
    return {
        "steps": num_steps,
        "guidance_scale": guidance_scale,
        "reused_s": reused,
        "recomputed_s": recomputed,
        "max_abs_diff": max(velocity_difference(model, request, p) for p in branches),
        "sampled_diff": float((latents["reused"] - latents["recomputed"]).abs().max()),
    }


@torch.no_grad()
def velocity_difference(model: FilmModel, request: ChunkRequest, prompt: str) -> float:
    """Return how far the two predictions under `prompt` are apart on the same input, at most.

    This is one branch of guidance. Guidance multiplies rounding errors by its scale and sampling
    feeds them on, so the sampled latents differ by more.
    """
    device = model.config.torch_device()
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(1, *request.history[-1].latents.shape, generator=generator).to(device)
    velocities = []
    for reuse in (True, False):
        conditioner = Conditioner(model, GenerationConfig(reuse_context=reuse))
        predict = conditioner.predictor(replace(request, prompt=prompt), 1.0)
        steps = [predict(s * noise, torch.tensor([s], device=device)) for s in (1.0, 0.75, 0.5)]
        velocities.append(torch.stack(steps).float())
    return float((velocities[0] - velocities[1]).abs().max())


def measure_length(model: FilmModel, num_steps: int, num_chunks: int, repeats: int) -> list[float]:
    """Return the median seconds of each chunk of a long shot, decoding included."""
    by_chunk: list[list[float]] = [[] for _ in range(num_chunks)]
    for repeat in range(repeats):
        generator = StoryGenerator(model, GenerationConfig())
        request = replace(
            make_request(model, 0, model.record.cache.top_k),
            num_inference_steps=num_steps,
            version=repeat,
        )
        for chunk in range(num_chunks):
            start = time.perf_counter()
            result = generator.generate_chunk(request)
            by_chunk[chunk].append(time.perf_counter() - start)
            history = (*request.history, HistoryChunk(result.latents, request.prompt))
            request = replace(request, history=history, chunk=chunk + 1)
    return [statistics.median(times) for times in by_chunk]


def measure_gpu(model: FilmModel, num_steps: int) -> dict[str, float]:
    """Return frames per second and peak memory of a mid-shot chunk without guidance."""
    torch.cuda.reset_peak_memory_stats()
    generator = StoryGenerator(model, GenerationConfig(keyframes_per_chunk=0))
    request = replace(
        make_request(model, 4, model.record.cache.top_k),
        num_inference_steps=num_steps,
        guidance_scale=1.0,
    )
    times, frames = [], 0
    for _ in range(4):
        start = time.perf_counter()
        result = generator.generate_chunk(request)
        times.append(time.perf_counter() - start)
        frames = len(result.frames)
        history = (*request.history, HistoryChunk(result.latents, request.prompt))
        request = replace(request, history=history, chunk=request.chunk + 1)
    return {
        "fps": frames / statistics.median(times[1:]),
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
    }


def reuse_rows(found: Reuse) -> list[Row]:
    """Return what `measure_reuse` found at one setting."""
    setting = f"{found['steps']} steps, guidance {found['guidance_scale']:g}"
    reused, recomputed = found["reused_s"], found["recomputed_s"]
    note = f"{reused:.3f} s reused, {recomputed:.3f} s recomputed"
    return [
        Row(f"speedup, {setting}", round(recomputed / reused, 2), "x", note=note),
        Row(f"largest velocity difference, {setting}", found["max_abs_diff"]),
        Row(f"largest sampled latent difference, {setting}", found["sampled_diff"]),
    ]


def main() -> None:
    """Measure reuse at each setting, the chunks of a long shot and, on a GPU, frames/s."""
    arguments = _arguments()
    model = (
        wan_1_3b()
        if arguments.model == "wan-1.3b"
        else load_model(ModelConfig(path=arguments.model, device="auto"))
    )
    quick = arguments.quick
    steps = [min(arguments.steps)] if quick else sorted(arguments.steps)
    repeats, num_chunks = (1, 8) if quick else (5, arguments.chunks)
    scales = (1.0, model.record.guidance_scale)
    settings = [(n, scale) for n in reversed(steps) for scale in reversed(scales)]
    rows = [r for n, s in settings for r in reuse_rows(measure_reuse(model, s, n, repeats))]
    seconds = measure_length(model, min(steps), num_chunks, 1 if quick else 3)
    late, early = statistics.median(seconds[-5:]), statistics.median(seconds[2:5])
    title = f"time of the last five chunks of {num_chunks} over chunks 3-5"
    rows.append(Row(title, round(late / early, 2), "x"))
    rows += [Row(f"chunk {n} of one shot", round(s, 3), "s") for n, s in enumerate(seconds, 1)]
    if torch.cuda.is_available():
        for n in steps:
            gpu = measure_gpu(model, n)
            rows.append(Row(f"speed without guidance, {n} steps", gpu["fps"], "frames/s"))
            rows.append(Row(f"peak GPU memory, {n} steps", gpu["peak_gib"], "GiB"))
    rows.sort(key=lambda row: not row.metric.startswith("speed"))
    report(arguments, "context_reuse", rows)


def _arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--model", default="tiny", help="tiny, wan-1.3b, or a model folder")
    made.add_argument("--steps", type=int, nargs="+", default=[4, 20], help="denoising steps")
    made.add_argument("--chunks", type=int, default=60, help="chunks of the long shot, 10 or more")
    return made.parse_args()


if __name__ == "__main__":
    main()
