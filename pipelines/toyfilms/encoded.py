"""Toy films straight into a training dataset: rendered and encoded, with no files in between.

The dataset is what `toyfilms`, `curate` and `encode` would produce together, but made from
uncompressed pixels and from the true shots, scenes and prompts. Runs on this machine with one
process per core; knows nothing about Ray.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch

from fw_model.files.lock import only_one
from fw_model.loading.config import ModelConfig
from fw_model.loading.folders import load_record
from fw_model.media.keyframes import select_keyframe_indices
from pipelines.encoding.config import EncodeConfig
from pipelines.encoding.dataset_store import EncodedStore
from pipelines.encoding.encode_video import VideoEncoder
from pipelines.encoding.models import Models, encoded_meta, frame_format
from pipelines.encoding.shot_frames import DecodedShot, FrameFormat, ShotSpan, VideoSpans
from pipelines.toyfilms.config import ToyFilmsConfig
from pipelines.toyfilms.prompts import shot_prompt
from pipelines.toyfilms.render import RENDER_VERSION, ShotRenderer
from pipelines.toyfilms.story import FilmSpec, sample_film

logger = logging.getLogger(__name__)

_KEYFRAMES = 3  # of a shot, as curation keeps them


@dataclass(frozen=True)
class RenderJob:
    """What every process gets. Films are rendered at the model's own size and rate, whatever
    `films` says."""

    films: ToyFilmsConfig
    encode: EncodeConfig
    model: ModelConfig
    output: Path

    def film(self, seed: int) -> FilmSpec:
        """Return the film of `seed` at the model's rate."""
        rate = {"fps": round(load_record(self.model).fps)}
        return sample_film(seed, self.films.model_copy(update=rate))


def encode_films(job: RenderJob, *, num_processes: int | None = None) -> dict[str, int]:
    """Render and encode the films that are not there yet; return how many rows each table has.

    Films of other seeds stay, so a dataset can hold several kinds of films. Without
    `num_processes`, there is one process per core.
    """
    with only_one("rendering", job.output):
        return _encode_films(job, num_processes)


def _encode_films(job: RenderJob, num_processes: int | None) -> dict[str, int]:
    store = EncodedStore(job.output)
    store.open(encoded_meta(job.encode, job.model))
    wanted = {seed: film_spans(job.film(seed)) for seed in job.films.seeds}
    done = store.encoded()
    missing = [s for s, v in wanted.items() if done.get(v.video_id) != v.captions_hash]
    size = job.encode.videos_per_part
    parts = [tuple(missing[i : i + size]) for i in range(0, len(missing), size)]
    workers = min(num_processes or len(os.sched_getaffinity(0)), max(1, len(parts)))
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    with ProcessPoolExecutor(workers, context, _start_process, (job,)) as pool:
        for number, _ in enumerate(pool.map(_encode_part, parts), 1):
            logger.info("rendered and encoded: %d of %d parts", number, len(parts))
    return store.publish(done | {v.video_id: v.captions_hash for v in wanted.values()})


def film_spans(film: FilmSpec) -> VideoSpans:
    """Return the shots of a film, without the frames that another shot is mixed into."""
    shots = []
    start = 0
    transitions = [*(shot.transition_frames for shot in film.shots), 0]
    for index, shot in enumerate(film.shots):
        first = start + transitions[index] // 2
        start += shot.num_frames
        end = start - transitions[index + 1] // 2
        keyframes = [first + k for k in select_keyframe_indices(end - first, _KEYFRAMES)]
        name = f"toy-{film.seed}"
        shots.append(
            ShotSpan(
                shot_id=f"{name}-{index}",
                scene_id=f"{name}-scene-{shot.scene}",
                index=index,
                start=first,
                end=end,
                text=shot_prompt(film, index),
                keyframes=tuple(keyframes),
            )
        )
    content = json.dumps([RENDER_VERSION, film.to_json()], sort_keys=True)
    digest = hashlib.sha256(f"{content}\n{shots!r}".encode()).hexdigest()[:16]
    return VideoSpans(f"toy-{film.seed}", f"toyfilm:{film.seed}", film.fps, tuple(shots), digest)


def render_shots(film: FilmSpec, spans: VideoSpans, form: FrameFormat) -> Iterator[DecodedShot]:
    """Render the shots of a film at the size of `form`, cut to its longest."""
    starts = itertools.accumulate((shot.num_frames for shot in film.shots), initial=0)
    for span, start in zip(spans.shots, starts, strict=False):
        renderer = ShotRenderer(film, span.index, width=form.width, height=form.height)
        shot = DecodedShot(span)
        for number in range(span.start, span.end):
            picture, _ = renderer.frame(number - start)
            if len(shot.frames) < form.max_frames:
                shot.frames.append(picture)
            if number in span.keyframes:
                shot.keyframes.append((number, picture))
        yield shot


class _Process:
    """The models of this process, loaded once."""

    def __init__(self, job: RenderJob) -> None:
        models = Models.load(job.model)
        self._job = job
        self._form = frame_format(job.model, job.encode, models)
        self._encoder = VideoEncoder(models, self._form, vae_batch=job.encode.vae_batch)

    def encode(self, seeds: tuple[int, ...]) -> None:
        """Commit the films of `seeds` as one part."""
        films = [(film, film_spans(film)) for film in map(self._job.film, seeds)]
        part = self._encoder.encode_part(
            (spans, render_shots(film, spans, self._form)) for film, spans in films
        )
        EncodedStore(self._job.output).write_part(part)


_process: _Process


def _start_process(job: RenderJob) -> None:
    global _process
    cv2.setNumThreads(1)  # each core has a process: more threads would only compete
    torch.set_num_threads(1)
    _process = _Process(job)


def _encode_part(seeds: tuple[int, ...]) -> None:
    _process.encode(seeds)
