"""What a video's captioned shots become: latents, keyframe latents and embeddings.

Runs models over decoded shots; knows nothing about Ray, resuming or files of the dataset.
F frames, H x W pixels, C channels, f latents, h x w latent cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fw_model.errors import MediaError, StorageError
from fw_model.media.video import uint8_to_frames
from fw_model.schemas.encoded import text_id
from fw_model.schemas.encoded_rows import EncodedKeyframeRow, EncodedShotRow, EncodedTextRow
from pipelines.encoding.models import Models
from pipelines.encoding.rows import PartRows, SourceRow
from pipelines.encoding.shot_frames import DecodedShot, FrameFormat, Pixels, VideoSpans

TEXTS_AT_ONCE = 16  # one text of a large text encoder is 8 MiB


class VideoEncoder:
    """Encodes videos while their shots are still being decoded."""

    def __init__(self, models: Models, form: FrameFormat, *, vae_batch: int) -> None:
        self._models = models
        self._form = form
        self._vae_batch = vae_batch

    def encode_part(self, videos: Iterable[tuple[VideoSpans, Iterable[DecodedShot]]]) -> PartRows:
        """Return the rows of videos that are committed together."""
        part = PartRows()
        texts: list[str] = []
        for video, decoded in videos:
            source, shots, keyframes = self.encode_video(video, decoded)
            part.sources.append(source)
            part.shots += shots
            part.keyframes += keyframes
            texts += [span.text for span in video.shots]
        part.texts = text_rows(texts, self._models)
        return part

    def encode_video(
        self, video: VideoSpans, decoded: Iterable[DecodedShot]
    ) -> tuple[SourceRow, list[EncodedShotRow], list[EncodedKeyframeRow]]:
        """Return the rows of one video; if it cannot be read, only a source row that says why."""
        shots: list[EncodedShotRow] = []
        keyframes: list[EncodedKeyframeRow] = []
        source: SourceRow = {
            "video_id": video.video_id,
            "captions_hash": video.captions_hash,
            "uri": video.uri,
            "status": "empty",
            "detail": "",
            "num_shots": 0,
            "num_keyframes": 0,
        }
        try:
            for few in self._few_at_once(decoded):
                shots += self._shot_rows(video, few)
                keyframes += self._keyframe_rows(few)
        except (MediaError, StorageError) as error:
            return {**source, "status": "failed", "detail": str(error)}, [], []
        if shots:
            source |= {
                "status": "encoded",
                "num_shots": len(shots),
                "num_keyframes": len(keyframes),
            }
        return source, shots, keyframes

    def _few_at_once(self, shots: Iterable[DecodedShot]) -> Iterator[list[DecodedShot]]:
        """Group shots to encode together, with at most as many frames as two of the longest shots.

        A film's frames do not fit into memory; shots of equal length share a pass of the VAE.
        """
        held: list[DecodedShot] = []
        for shot in shots:
            if not shot.frames:
                continue
            factor = self._form.temporal_factor
            del shot.frames[factor * ((len(shot.frames) - 1) // factor) + 1 :]  # factor * k + 1
            if held and sum(len(s.frames) for s in (*held, shot)) > 2 * self._form.max_frames:
                yield held
                held = []
            held.append(shot)
        if held:
            yield held

    def _shot_rows(self, video: VideoSpans, shots: Sequence[DecodedShot]) -> list[EncodedShotRow]:
        latents = self._encode_frames([np.stack(shot.frames) for shot in shots])
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

    def _keyframe_rows(self, shots: Sequence[DecodedShot]) -> list[EncodedKeyframeRow]:
        found = [(shot, number, image) for shot in shots for number, image in shot.keyframes]
        if not found:
            return []
        images = [image for _, _, image in found]
        latents = self._encode_frames([image[None] for image in images])
        embeddings = self._models.embedder.embed_images(images).cpu().numpy()  # [N, E]
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

    def _encode_frames(self, takes: Sequence[Pixels]) -> list[NDArray[np.float16]]:
        """Encode takes [F, H, W, 3] as float16 latents [C, f, h, w]; equal lengths share a pass."""
        encoded: dict[int, NDArray[np.float16]] = {}
        by_length: dict[int, list[int]] = {}
        for number, take in enumerate(takes):
            by_length.setdefault(len(take), []).append(number)
        for numbers in by_length.values():
            for first in range(0, len(numbers), self._vae_batch):
                batch = numbers[first : first + self._vae_batch]
                frames = torch.cat([uint8_to_frames(takes[n]) for n in batch])  # [B, 3, F, H, W]
                with torch.no_grad():
                    latents = _float16(self._models.vae.encode(frames))  # [B, C, f, h, w]
                encoded.update(zip(batch, latents, strict=True))
        return [encoded[number] for number in range(len(takes))]


def text_rows(texts: Iterable[str], models: Models) -> list[EncodedTextRow]:
    """Return the rows of `texts`, each once, and of the empty text that guidance needs."""
    unique = sorted({*texts, ""})
    rows: list[EncodedTextRow] = []
    for first in range(0, len(unique), TEXTS_AT_ONCE):
        few = unique[first : first + TEXTS_AT_ONCE]
        tokens = models.text_encoder.encode(few).cpu()  # [N, T, D]
        lengths = models.text_encoder.lengths(few)
        vectors = models.embedder.embed_text(few).cpu().numpy()  # [N, E]
        rows += [
            {
                "text_id": text_id(text),
                "text": text,
                "num_tokens": int(length),
                "clip_embedding": vector.astype(np.float32),
                "embedding": _float16(token[: int(length)]).tobytes(),
            }
            for text, token, length, vector in zip(few, tokens, lengths, vectors, strict=True)
        ]
    return rows


def _float16(values: torch.Tensor) -> NDArray[np.float16]:
    array: NDArray[np.float16] = values.detach().to("cpu", torch.float16).numpy()
    return array
