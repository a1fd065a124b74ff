"""What is it worth to encode context once a chunk, and does a chunk cost more late in a shot?

    python benchmarks/context_reuse.py [--model tiny|wan-1.3b|DIR] [--steps 4 50] [--json FILE]

Reused and recomputed context run the same requests in turn on the same model, so that a noisy
machine is noisy to both. With the context, the keys and values of the text are kept from step to
step too. `speedup` is at the guidance that the model generates with and the most steps.
`wan-1.3b` builds the 1.3B transformer with random weights at 480x832 in bfloat16 (a GPU is
needed): it measures speed, not pictures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

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
CONSOLE = Console()


class RandomText:
    """Stands in for a text encoder of several GB: speed does not depend on what text says."""

    model_id, width, num_tokens = "random", 4096, 512

    def encode(self, prompts: list[str]) -> torch.Tensor:
        """Return embeddings [N, 512, 4096] that depend on the prompt alone."""
        draws = [torch.Generator().manual_seed(len(p)) for p in prompts]
        return torch.stack([torch.randn(512, 4096, generator=g) for g in draws])


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
    draw = torch.Generator().manual_seed(1)

    def latents(frames: int) -> torch.Tensor:
        return torch.randn(vae.latent_channels, frames, *grid, generator=draw)

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


def measure_reuse(
    model: FilmModel, guidance_scale: float, num_steps: int, repeats: int
) -> dict[str, Any]:
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
            fresh = replace(request, version=repeat)  # a new shot: its keyframes are encoded again
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
        "speedup": recomputed / reused,
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
    draw = torch.Generator().manual_seed(2)
    noise = torch.randn(1, *request.history[-1].latents.shape, generator=draw).to(device)
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


def reuse_table(rows: list[dict[str, Any]]) -> Table:
    """Return what `measure_reuse` found, a row a setting."""
    columns = (
        "steps", "guidance", "reused s", "recomputed s", "speedup", "max abs diff", "sampled",
    )  # fmt: skip
    title = "Context encoded once a chunk against at every step (extend_new_shot)"
    table = _numbers(title, columns)
    for row in rows:
        table.add_row(
            str(row["steps"]), f"{row['guidance_scale']:g}", f"{row['reused_s']:.3f}",
            f"{row['recomputed_s']:.3f}", f"{row['speedup']:.2f}x", f"{row['max_abs_diff']:.1e}",
            f"{row['sampled_diff']:.1e}",
        )  # fmt: skip
    return table


def length_table(seconds: list[float]) -> Table:
    """Return the seconds of some chunks of one shot, the last among them."""
    table = _numbers("Cost of chunk N of one shot", ("chunk", "s"))
    last = len(seconds)
    for chunk in [n for n in (1, 2, 3, 5, 10, 20, 30, 40, 50) if n < last] + [last]:
        table.add_row(str(chunk), f"{seconds[chunk - 1]:.3f}")
    return table


def _numbers(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="tiny", help="tiny, wan-1.3b, or a model folder")
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 20])
    parser.add_argument("--chunks", type=int, default=60)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="one repeat, few steps")
    args = parser.parse_args()
    build: Callable[[], FilmModel] = (
        wan_1_3b
        if args.model == "wan-1.3b"
        else lambda: load_model(ModelConfig(path=args.model, device="auto"))
    )
    model = build()
    steps = [min(args.steps)] if args.quick else args.steps
    repeats = 1 if args.quick else 5

    scales = (1.0, model.record.guidance_scale)
    reuse = [measure_reuse(model, scale, n, repeats) for n in steps for scale in scales]
    CONSOLE.print(reuse_table(reuse))
    seconds = measure_length(model, min(steps), args.chunks, 1 if args.quick else 3)
    CONSOLE.print(length_table(seconds))

    late, early = statistics.median(seconds[-5:]), statistics.median(seconds[2:5])
    report: dict[str, Any] = {
        "model": args.model,
        "speedup": reuse[-1]["speedup"],
        "max_abs_diff": max(row["max_abs_diff"] for row in reuse),
        "chunk_60_over_chunk_3": late / early,
        "reuse": reuse,
        "seconds_by_chunk": seconds,
    }
    CONSOLE.print(f"chunks {args.chunks - 4}-{args.chunks} over chunks 3-5: {late / early:.2f}x")
    if torch.cuda.is_available():
        report["gpu"] = {str(n): measure_gpu(model, n) for n in steps}
        for n, figures in report["gpu"].items():
            CONSOLE.print(f"{n} steps: {figures['fps']:.2f} FPS, {figures['peak_gib']:.1f} GiB")
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
