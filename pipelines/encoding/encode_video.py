"""What a video's captioned shots become: latents, keyframe latents and embeddings, as Arrow tables.

Runs models over decoded shots; knows nothing of Ray, resuming or files of the dataset.
F frames, H x W pixels, C channels, f latents, h x w latent cells.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from fw_model.embedders.base import Embedder
from fw_model.errors import MediaError, StorageError
from fw_model.media.video import uint8_to_frames
from fw_model.schemas.encoded import KEYFRAMES, SHOTS, TEXTS, text_id
from fw_model.text_encoders.base import TextEncoder
from fw_model.vaes.base import Vae
from pipelines.encoding.shot_frames import (
    DecodedShot,
    FrameFormat,
    Pixels,
    ShotSpan,
    VideoSpans,
    decode_shots,
)

logger = logging.getLogger(__name__)

TEXTS_AT_ONCE = 16  # of a large text encoder one is 8 MiB

SOURCES = pa.schema(
    [
        ("video_id", pa.string()),
        ("captions_hash", pa.string()),  # of the scenes that were encoded
        ("uri", pa.string()),
        ("status", pa.string()),  # encoded | failed | empty
        ("detail", pa.string()),
        ("num_shots", pa.int32()),
        ("num_keyframes", pa.int32()),
    ]
)


@dataclass(frozen=True)
class Models:
    """The frozen models that encode."""

    vae: Vae
    text_encoder: TextEncoder
    embedder: Embedder


def spans_of_scenes(
    scenes: Iterable[Mapping[str, Any]], fps: Mapping[str, float]
) -> list[VideoSpans]:
    """Group the captioned scenes' shots by video, in the order of their frames."""
    shots: dict[str, list[ShotSpan]] = {}
    uris: dict[str, str] = {}
    for scene in scenes:
        if scene["status"] != "captioned":
            continue
        for shot in scene["shots"]:
            uris[shot["video_id"]] = shot["uri"]
            shots.setdefault(shot["video_id"], []).append(
                ShotSpan(
                    shot_id=shot["shot_id"],
                    scene_id=scene["scene_id"],
                    index=0,
                    start=int(shot["start_frame"]),
                    end=int(shot["end_frame"]),
                    text=shot["text"],
                    keyframes=tuple(int(f) for f in shot["keyframe_frames"] or ()),
                )
            )
    return [
        _video_spans(video_id, uris[video_id], fps.get(video_id, 0.0), shots[video_id])
        for video_id in sorted(shots)
    ]


def _video_spans(video_id: str, uri: str, fps: float, shots: list[ShotSpan]) -> VideoSpans:
    ordered = sorted(shots, key=lambda shot: (shot.start, shot.shot_id))
    numbered = tuple(
        ShotSpan(**{**vars(shot), "index": index}) for index, shot in enumerate(ordered)
    )
    digest = hashlib.sha256(repr((uri, fps, numbered)).encode()).hexdigest()[:16]
    return VideoSpans(video_id, uri, fps, numbered, digest)


def encode_video(
    video: VideoSpans, form: FrameFormat, models: Models, *, vae_batch: int
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the SOURCES row, SHOTS rows and KEYFRAMES rows of one video.

    A video that cannot be fetched or decoded becomes a row that says why; nothing raises on data.
    """
    try:
        return encode_shots(video, decode_shots(video, form), form, models, vae_batch=vae_batch)
    except (MediaError, StorageError) as error:
        return _source_row(video, "failed", str(error), 0, 0), [], []


def encode_shots(
    video: VideoSpans,
    shots: Iterable[DecodedShot],
    form: FrameFormat,
    models: Models,
    *,
    vae_batch: int,
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the SOURCES row, SHOTS rows and KEYFRAMES rows of a video's shots, wherever they
    come from."""
    shot_rows: list[dict[str, Any]] = []
    keyframe_rows: list[dict[str, Any]] = []
    for few in _few_at_once(shots, form):
        shot_rows += _shot_rows(video, few, models, vae_batch)
        keyframe_rows += _keyframe_rows(few, models, vae_batch)
    status = "encoded" if shot_rows else "empty"
    return (
        _source_row(video, status, "", len(shot_rows), len(keyframe_rows)),
        shot_rows,
        keyframe_rows,
    )


def _few_at_once(shots: Iterable[DecodedShot], form: FrameFormat) -> Iterator[list[DecodedShot]]:
    """Gather shots to encode together, never more frames than two of the longest shots have.

    A film's frames do not fit into memory; shots of equal length share a pass of the VAE.
    """
    held: list[DecodedShot] = []
    for shot in shots:
        if not _trim(shot, form.temporal_factor):
            continue
        if held and sum(len(s.frames) for s in (*held, shot)) > 2 * form.max_frames:
            yield held
            held = []
        held.append(shot)
    if held:
        yield held


def _shot_rows(
    video: VideoSpans, shots: Sequence[DecodedShot], models: Models, vae_batch: int
) -> list[dict[str, Any]]:
    latents = _encode_frames([np.stack(s.frames) for s in shots], models.vae, vae_batch)
    return [
        {
            "shot_id": shot.span.shot_id,
            "scene_id": shot.span.scene_id,
            "video_id": video.video_id,
            "index": shot.span.index,
            "text_id": text_id(shot.span.text),
            "num_frames": len(shot.frames),
            "num_latents": latent.shape[1],
            "latents": latent.tobytes(),
        }
        for shot, latent in zip(shots, latents, strict=True)
    ]


def text_rows(texts: Iterable[str], models: Models) -> list[dict[str, Any]]:
    """Return the TEXTS rows of `texts`, each once, and of the empty text that guidance needs."""
    unique = sorted({*texts, ""})
    parts = [unique[i : i + TEXTS_AT_ONCE] for i in range(0, len(unique), TEXTS_AT_ONCE)]
    return [row for part in parts for row in _text_rows(part, models)]


def _text_rows(unique: Sequence[str], models: Models) -> list[dict[str, Any]]:
    tokens = models.text_encoder.encode(unique).cpu()  # [N, T, D]
    lengths = models.text_encoder.lengths(unique)
    vectors = models.embedder.embed_text(unique).cpu().numpy()  # [N, E]
    return [
        {
            "text_id": text_id(text),
            "text": text,
            "num_tokens": int(length),
            "clip_embedding": vector.astype(np.float32),
            "embedding": _float16(token[: int(length)]).tobytes(),
        }
        for text, token, length, vector in zip(unique, tokens, lengths, vectors, strict=True)
    ]


def tables(
    sources: Sequence[Mapping[str, Any]],
    shots: Sequence[Mapping[str, Any]],
    keyframes: Sequence[Mapping[str, Any]],
    texts: Sequence[Mapping[str, Any]],
) -> dict[str, pa.Table]:
    """Return the rows as Arrow tables by name."""
    rows = {"sources": sources, "shots": shots, "keyframes": keyframes, "texts": texts}
    schemas = {"sources": SOURCES, "shots": SHOTS, "keyframes": KEYFRAMES, "texts": TEXTS}
    return {name: pa.Table.from_pylist(list(rows[name]), schema=schemas[name]) for name in rows}


def _keyframe_rows(
    shots: Sequence[DecodedShot], models: Models, vae_batch: int
) -> list[dict[str, Any]]:
    found = [(shot, number, image) for shot in shots for number, image in shot.keyframes]
    if not found:
        return []
    images = [image for _, _, image in found]
    latents = _encode_frames([image[None] for image in images], models.vae, vae_batch)
    embeddings = models.embedder.embed_images(images).cpu().numpy()  # [N, E]
    return [
        {
            "keyframe_id": f"{shot.span.shot_id}:{number}",
            "shot_id": shot.span.shot_id,
            "frame": number,
            "embedding": embedding.astype(np.float32),
            "latents": latent.tobytes(),
        }
        for (shot, number, _), embedding, latent in zip(found, embeddings, latents, strict=True)
    ]


def _encode_frames(takes: Sequence[Pixels], vae: Vae, vae_batch: int) -> list[NDArray[np.float16]]:
    """Encode takes [F, H, W, 3] as float16 latents [C, f, h, w]; equal lengths share a pass."""
    encoded: dict[int, NDArray[np.float16]] = {}
    by_length: dict[int, list[int]] = {}
    for number, take in enumerate(takes):
        by_length.setdefault(len(take), []).append(number)
    for numbers in by_length.values():
        for first in range(0, len(numbers), vae_batch):
            batch = numbers[first : first + vae_batch]
            frames = torch.cat([uint8_to_frames(takes[n]) for n in batch])  # [B, 3, F, H, W]
            with torch.no_grad():
                latents = _float16(vae.encode(frames))  # [B, C, f, h, w]
            encoded.update(zip(batch, latents, strict=True))
    return [encoded[number] for number in range(len(takes))]


def _trim(shot: DecodedShot, factor: int) -> bool:
    """Cut the shot to factor * k + 1 frames; False if none are left."""
    if not shot.frames:
        return False
    del shot.frames[factor * ((len(shot.frames) - 1) // factor) + 1 :]
    return True


def _source_row(
    video: VideoSpans, status: str, detail: str, num_shots: int, num_keyframes: int
) -> dict[str, Any]:
    return {
        "video_id": video.video_id,
        "captions_hash": video.captions_hash,
        "uri": video.uri,
        "status": status,
        "detail": detail,
        "num_shots": num_shots,
        "num_keyframes": num_keyframes,
    }


def _float16(values: torch.Tensor) -> NDArray[np.float16]:
    array: NDArray[np.float16] = values.detach().to("cpu", torch.float16).numpy()
    return array
