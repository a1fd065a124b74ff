"""A small encoded dataset and a small model folder, made of random numbers, for training tests."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fw_model.cache.config import CacheConfig, TemporalLevel
from fw_model.loading.config import BackboneConfig, ModelConfig
from fw_model.schemas.encoded import (
    FORMAT_VERSION,
    KEYFRAMES,
    META_FILE,
    SHOTS,
    TEXTS,
    EncodedMeta,
    text_id,
)
from fw_model.training.config import (
    CheckpointConfig,
    EmaConfig,
    ModeWeights,
    OptimizerConfig,
    StageConfig,
    TrainingConfig,
)

CHANNELS, ROWS, COLUMNS = 4, 4, 4
TEXT_WIDTH, EMBEDDING_WIDTH, MAX_TOKENS = 16, 8, 6
CACHE = CacheConfig(
    chunk_latents=2,
    levels=(
        TemporalLevel(frames=1, kernel=(1, 2, 2)),
        TemporalLevel(frames=2, kernel=(1, 4, 4)),
    ),
    top_k=2,
)
ALL_MODES = ModeWeights(first_shot=1, extend_first_shot=1, new_shot=1, extend_new_shot=1)


def write_encoded(folder: Path, *, num_videos: int = 4, shots_per_video: int = 3) -> Path:
    """Write a dataset of random latents: shots of 2 to 6 latents, two keyframes each."""
    rng = np.random.default_rng(7)
    shots, keyframes, texts = [], [], [_text_row("", rng)]
    for video in range(num_videos):
        for index in range(shots_per_video):
            text = f"video {video} shot {index}"
            shot_id = hashlib.sha256(text.encode()).hexdigest()[:12]
            num_latents = 2 + (video + 2 * index) % 5
            texts.append(_text_row(text, rng))
            shots.append(
                {
                    "shot_id": shot_id,
                    "scene_id": f"scene-{video}",
                    "video_id": f"video-{video}",
                    "index": index,
                    "text_id": text_id(text),
                    "num_frames": 4 * (num_latents - 1) + 1,
                    "num_latents": num_latents,
                    "latents": _latents(rng, num_latents),
                }
            )
            for frame in (0, 4):
                keyframes.append(
                    {
                        "keyframe_id": f"{shot_id}-{frame}",
                        "shot_id": shot_id,
                        "frame": frame,
                        "embedding": _unit(rng),
                        "latents": _latents(rng, 1),
                    }
                )
    for name, rows, schema in (
        ("shots", shots, SHOTS),
        ("keyframes", keyframes, KEYFRAMES),
        ("texts", texts, TEXTS),
    ):
        (folder / name).mkdir(parents=True)
        half = len(rows) // 2
        for part, chunk in enumerate((rows[half:], rows[:half])):
            table = pa.Table.from_pylist(chunk, schema=schema)
            pq.write_table(table, folder / name / f"{part}.parquet")
    meta = EncodedMeta(
        format_version=FORMAT_VERSION,
        encode_hash="test",
        height=ROWS * 8,
        width=COLUMNS * 8,
        fps=12.0,
        latent_shape=(CHANNELS, ROWS, COLUMNS),
        max_text_tokens=MAX_TOKENS,
        text_width=TEXT_WIDTH,
        embedding_width=EMBEDDING_WIDTH,
        files=("0.parquet", "1.parquet"),
        models={},
    )
    (folder / META_FILE).write_text(json.dumps(meta.model_dump()))
    return folder


def small_training(**changes: object) -> TrainingConfig:
    """Return settings of a run of seconds: all modes, two stages."""
    settings: dict[str, object] = {
        "seed": 5,
        "stages": (
            StageConfig(
                name="temporal",
                steps=4,
                mode_weights=ModeWeights(first_shot=1, extend_first_shot=1),
            ),
            StageConfig(name="all_modes", steps=8, mode_weights=ALL_MODES),
        ),
        "group_size": 4,
        "groups_per_step": 2,
        "optimizer": OptimizerConfig(learning_rate=1e-3, warmup_steps=2),
        "ema": EmaConfig(decay=0.9),
        "checkpoint": CheckpointConfig(every_steps=5, every_minutes=60),
        "export_dtype": "float32",
        "log_every": 4,
    }
    return TrainingConfig.model_validate(settings | changes)


def small_model(folder: Path, *, seed: int = 0) -> ModelConfig:
    """Return a model of a new 2-layer transformer and small caches; its folder holds nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = {
        "num_layers": 2,
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "ffn_dim": 32,
        "in_channels": CHANNELS,
        "out_channels": CHANNELS,
        "text_dim": TEXT_WIDTH,
        "freq_dim": 32,
    }
    backbone = BackboneConfig(kind="wan", scratch=shape, scratch_seed=seed)
    return ModelConfig(path=str(folder), cache=CACHE, device="cpu", backbone=backbone)


def _text_row(text: str, rng: np.random.Generator) -> dict[str, object]:
    num_tokens = 1 + len(text) % (MAX_TOKENS - 1)
    embedding = rng.normal(size=(num_tokens, TEXT_WIDTH)).astype(np.float16)
    return {
        "text_id": text_id(text),
        "text": text,
        "num_tokens": num_tokens,
        "clip_embedding": _unit(rng),
        "embedding": embedding.tobytes(),
    }


def _latents(rng: np.random.Generator, num: int) -> bytes:
    return rng.normal(size=(CHANNELS, num, ROWS, COLUMNS)).astype(np.float16).tobytes()


def _unit(rng: np.random.Generator) -> list[float]:
    vector = rng.normal(size=EMBEDDING_WIDTH)
    return (vector / np.linalg.norm(vector)).astype(np.float32).tolist()
