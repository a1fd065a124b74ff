"""Films one story under one variant, scores it and files the result; what an evaluation actor does.

Knows nothing of Ray: tests and notebooks call it as it is.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fw_model.cache.shot import Keyframe, retrieve
from fw_model.embedders.base import Embedder
from fw_model.errors import StorageError
from fw_model.evaluation.config import EvaluationConfig
from fw_model.evaluation.judges.toy_judge import CARD_FILE, WEIGHTS_FILE, ToyJudge
from fw_model.evaluation.report.films import film_strip, return_strips
from fw_model.evaluation.scoring.story_score import Judges, score_story
from fw_model.evaluation.stories.truth import CachedFrame, FilmedShot, Pixels, StoryTruth
from fw_model.evaluation.variants import VARIANTS, film_story
from fw_model.generation.generator import StoryGenerator
from fw_model.generation.request import GenerationConfig
from fw_model.loading.config import ModelConfig
from fw_model.loading.fingerprints import model_fingerprint
from fw_model.loading.load import load_model
from fw_model.media.video import write_video
from pipelines.evaluation.judges import OutsideJudges
from pipelines.evaluation.suites import SuiteStory, suite_story
from pipelines.storage.store import Store

logger = logging.getLogger(__name__)

TRUTH = "truth"
"""Stands beside the variants: the true films, scored like any other."""

_SCORING_VERSION = 4  # raise it when a measure changes: results of before are made again


@dataclass(frozen=True)
class StoryJob:
    """One story to be filmed by one variant; `fingerprint` names all that its result rests on."""

    variant: str
    seed: int
    model: ModelConfig
    fingerprint: str

    @property
    def result_key(self) -> str:
        """Where the scores go, in the output."""
        return f"stories/{self.variant}/story_{self.seed:07d}.json"

    @property
    def film_key(self) -> str:
        """Where the film goes."""
        return f"films/{self.variant}/story_{self.seed:07d}.mp4"

    @property
    def strip_key(self) -> str:
        """Where the film strip goes."""
        return f"films/{self.variant}/story_{self.seed:07d}.jpg"

    def return_key(self, shot: int) -> str:
        """Where the picture of a return to a place goes."""
        return f"films/{self.variant}/story_{self.seed:07d}_return_{shot}.jpg"


def fingerprint(
    config: EvaluationConfig,
    model: ModelConfig,
    generation: GenerationConfig,
    toy_judge: Path,
    variant: str,
    judges: str,
) -> str:
    """Return a hash of all that a variant's results depend on, beside the stories.

    `judges` tells of those beside the toy judge, see story_judges.py.
    """
    digest = hashlib.sha256()
    facts = [_SCORING_VERSION, variant, config.num_chunks]
    digest.update(json.dumps(facts).encode())
    digest.update(generation.model_dump_json().encode())
    digest.update(model.model_dump_json().encode())
    digest.update(model_fingerprint(model).encode())
    for name in (CARD_FILE, WEIGHTS_FILE):
        digest.update((toy_judge / name).read_bytes())
    digest.update(judges.encode())
    return digest.hexdigest()[:20]


def with_story(fingerprint: str, story: SuiteStory) -> str:
    """Return a hash of a variant's fingerprint and of what is filmed: all that a result rests on.

    What a suite's story is may change under the same seed, where its code or its file does.
    """
    return hashlib.sha256(f"{fingerprint}\n{story.identity}".encode()).hexdigest()[:20]


def read_result(store: Store, job: StoryJob) -> dict[str, Any] | None:
    """Return the result of `job` if it is there and was made under the same settings."""
    if not store.exists(job.result_key):
        return None
    try:
        result: dict[str, Any] = json.loads(store.read(job.result_key))
    except ValueError as error:
        raise StorageError(
            f"{store.address(job.result_key)} is no JSON ({error}); delete it to make it again."
        ) from error
    return result if result.get("fingerprint") == job.fingerprint else None


class StoryFilmer:
    """Holds one loaded model at a time, the toy judge and where results go."""

    def __init__(
        self,
        config: EvaluationConfig,
        model: ModelConfig,
        generation: GenerationConfig,
        toy_judge: Path,
        output: str,
    ) -> None:
        """`model` is the one that is evaluated, whatever those of the jobs: its CLIP judges."""
        self._config = config
        self._model = model
        self._generation = generation
        self._toy_judge = ToyJudge.load(toy_judge)
        self._store = Store(output)
        self._judges: OutsideJudges | None = None
        self._loaded: tuple[str, StoryGenerator] | None = None

    def film(self, job: StoryJob) -> StoryJob:
        """Film, score and file one story; films first, the result last."""
        started = time.perf_counter()
        generator = self._generator(job.model)
        story = suite_story(job.seed, self._config)
        shots, truth = self._shots(generator, job, story.truth, story.render_truth)
        filmed_s = time.perf_counter() - started
        score = score_story(shots, story.truth, truth, self._all_judges())
        self._store.write(job.film_key, self._video(generator, shots))
        self._store.write(job.strip_key, film_strip([shot.frames for shot in shots]))
        for shot, jpeg in return_strips(shots, story.truth).items():
            self._store.write(job.return_key(shot), jpeg)
        result = {
            "variant": job.variant,
            "seed": job.seed,
            "fingerprint": job.fingerprint,
            "filmed_s": round(filmed_s, 2),
            "shot_frames": [len(shot.frames) for shot in shots],
            **score,
        }
        self._store.write(job.result_key, json.dumps(result).encode())
        return job

    def _shots(
        self, generator: StoryGenerator, job: StoryJob, story: StoryTruth, render: Any
    ) -> tuple[list[FilmedShot], list[Pixels] | None]:
        """Return the filmed shots and, where known, the true frames, shot by shot equally long."""
        record = generator.model.record
        size = (record.width, record.height, record.fps)
        if job.variant == TRUTH:
            assert render is not None  # only suites with truth have such jobs
            starts = _chunk_starts(generator, self._config.num_chunks)
            truth = render([starts[-1]] * len(story.shots), *size)
            return true_shots(
                truth, starts, story, generator.model.embedder, record.cache.top_k
            ), truth
        shots = film_story(
            generator,
            [shot.prompt for shot in story.shots],
            seed=job.seed,
            num_chunks=self._config.num_chunks,
            variant=VARIANTS[job.variant],
        )
        lengths = [len(shot.frames) for shot in shots]
        return shots, None if render is None else render(lengths, *size)

    def _generator(self, model: ModelConfig) -> StoryGenerator:
        key = model.model_dump_json()
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None  # free the old one first
            self._loaded = (key, StoryGenerator(load_model(model), self._generation))
        return self._loaded[1]

    def _all_judges(self) -> Judges:
        if self._judges is None:
            device = self._model.torch_device()
            self._judges = OutsideJudges.load(self._config, self._model, self._store, device)
        return self._judges.joined(self._toy_judge)

    def _video(self, generator: StoryGenerator, shots: list[FilmedShot]) -> bytes:
        frames = np.concatenate([shot.frames for shot in shots])
        with tempfile.TemporaryDirectory() as folder:
            path = write_video(Path(folder) / "film.mp4", frames, fps=generator.model.record.fps)
            return path.read_bytes()


def true_shots(
    truth: list[Pixels], starts: list[int], story: StoryTruth, embedder: Embedder, top_k: int
) -> list[FilmedShot]:
    """Return the true films as if filmed: keyframes in the middle of chunks, found by prompt.

    `starts` holds the first frame of each chunk and the number of frames.
    """
    middles = [(start + end) // 2 for start, end in zip(starts, starts[1:], strict=False)]
    queries = np.asarray(embedder.embed_text([s.prompt for s in story.shots]), np.float32)
    bank: list[Keyframe] = []
    shots = []
    for index, frames in enumerate(truth):
        found = retrieve(queries[index], bank, top_k)
        cached = tuple(
            CachedFrame(s.keyframe.shot, s.keyframe.frame, s.score, s.keyframe.image) for s in found
        )
        shots.append(FilmedShot(frames, tuple(starts[:-1]), cached))
        images = [frames[middle] for middle in middles]
        rows = np.asarray(embedder.embed_images(images), np.float32)
        bank += [
            Keyframe(f"{index}:{m}", index, m, torch.empty(0), row, "", image)
            for m, row, image in zip(middles, rows, images, strict=True)
        ]
    return shots


def _chunk_starts(generator: StoryGenerator, num_chunks: int) -> list[int]:
    """Return the first frame of each chunk of a shot, and last its number of frames."""
    latents = generator.model.record.cache.chunk_latents
    factor = generator.model.vae.temporal_factor
    first = factor * (latents - 1) + 1
    return [0, *(first + factor * latents * chunk for chunk in range(num_chunks))]
