"""Films one story with one variant, scores it and stores the result: the work of an actor.

Knows nothing about Ray: tests and notebooks call it directly.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from fw_model.cache.shot import Keyframe, retrieve
from fw_model.embedders.base import Embedder
from fw_model.evaluation.report.films import film_strip, return_strips
from fw_model.evaluation.scoring.story_score import score_story
from fw_model.evaluation.stories.truth import FilmedShot, Pixels, StoryTruth
from fw_model.evaluation.variants import VARIANTS, cached_frames, film_story
from fw_model.generation.generator import StoryGenerator
from fw_model.loading.config import ModelConfig
from fw_model.loading.load import load_model
from fw_model.media.video import write_video
from pipelines.evaluation.jobs import TRUTH, StoryJob
from pipelines.evaluation.judges import load_judges
from pipelines.evaluation.results import write_result
from pipelines.evaluation.run import EvaluationRun
from pipelines.evaluation.suites import SuiteStory, suite_story


class StoryFilmer:
    """Holds the judges and one loaded model at a time."""

    def __init__(self, run: EvaluationRun) -> None:
        self._run = run
        self._judges = load_judges(run, run.model.torch_device())
        self._loaded: tuple[ModelConfig, StoryGenerator] | None = None

    def film(self, job: StoryJob) -> StoryJob:
        """Film, score and store one story; the film first, the result last."""
        started_s = time.perf_counter()
        generator = self._generator(job.model)
        story = suite_story(job.seed, self._run.config)
        shots, truth = self._shots(generator, job, story)
        filmed_s = time.perf_counter() - started_s
        score = score_story(shots, story.truth, truth, self._judges)
        store = self._run.store
        store.write(job.film_key, _video(shots, generator.model.record.fps))
        store.write(job.strip_key, film_strip([shot.frames for shot in shots]))
        for shot, jpeg in return_strips(shots, story.truth).items():
            store.write(job.return_key(shot), jpeg)
        write_result(
            store,
            job,
            {
                "variant": job.variant,
                "seed": job.seed,
                "fingerprint": job.fingerprint,
                "filmed_s": round(filmed_s, 2),
                "shot_frames": [len(shot.frames) for shot in shots],
                **score,
            },
        )
        return job

    def _shots(
        self, generator: StoryGenerator, job: StoryJob, story: SuiteStory
    ) -> tuple[list[FilmedShot], list[Pixels] | None]:
        """Return the filmed shots and, where known, as many true frames of each."""
        record, num_chunks = generator.model.record, self._run.config.num_chunks
        size = (record.width, record.height, record.fps)
        render = story.render_truth
        if job.variant == TRUTH:
            assert render is not None  # only suites with truth have these jobs
            starts = _chunk_starts(generator, num_chunks)
            truth = render([starts[-1]] * len(story.truth.shots), *size)
            embedder, top_k = generator.model.embedder, record.cache.top_k
            return true_shots(truth, starts, story.truth, embedder, top_k), truth
        shots = film_story(
            generator,
            [shot.prompt for shot in story.truth.shots],
            seed=job.seed,
            num_chunks=num_chunks,
            variant=VARIANTS[job.variant],
        )
        lengths = [len(shot.frames) for shot in shots]
        return shots, None if render is None else render(lengths, *size)

    def _generator(self, model: ModelConfig) -> StoryGenerator:
        if self._loaded is None or self._loaded[0] != model:
            self._loaded = None  # free the old one first
            self._loaded = (model, StoryGenerator(load_model(model), self._run.generation))
        return self._loaded[1]


def true_shots(
    truth: Sequence[Pixels],
    starts: Sequence[int],
    story: StoryTruth,
    embedder: Embedder,
    top_k: int,
) -> list[FilmedShot]:
    """Return true frames as filmed shots, with keyframes from the middle of chunks.

    Each shot gets the earlier keyframes that its prompt retrieves. `starts` holds the first frame
    of each chunk, then the number of frames.
    """
    middles = [(start + end) // 2 for start, end in zip(starts, starts[1:], strict=False)]
    queries = np.asarray(embedder.embed_text([s.prompt for s in story.shots]), np.float32)
    bank: list[Keyframe] = []
    shots = []
    for index, frames in enumerate(truth):
        cached = cached_frames(retrieve(queries[index], bank, top_k))
        shots.append(FilmedShot(frames, tuple(starts[:-1]), cached))
        images = [frames[middle] for middle in middles]
        rows = np.asarray(embedder.embed_images(images), np.float32)
        bank += [
            Keyframe(f"{index}:{m}", index, m, torch.empty(0), row, "", image)
            for m, row, image in zip(middles, rows, images, strict=True)
        ]
    return shots


def _chunk_starts(generator: StoryGenerator, num_chunks: int) -> list[int]:
    """Return the first frame of each chunk of a shot, then its number of frames."""
    latents = generator.model.record.cache.chunk_latents
    factor = generator.model.vae.temporal_factor
    first = factor * (latents - 1) + 1
    return [0, *(first + factor * latents * chunk for chunk in range(num_chunks))]


def _video(shots: Sequence[FilmedShot], fps: float) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        frames = np.concatenate([shot.frames for shot in shots])
        return write_video(Path(folder) / "film.mp4", frames, fps=fps).read_bytes()
