"""Toy films as files: `film_000123.mp4` and beside it `film_000123.json`, its truth.

A film is complete once its truth is there, because that is written last.
"""

from __future__ import annotations

import itertools
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from fw_model.errors import DataError, StorageError
from fw_model.files.atomic import write_atomic
from fw_model.media.video import VideoWriter
from pipelines.toyfilms.config import ToyFilmsConfig
from pipelines.toyfilms.render import RENDER_VERSION, iter_film
from pipelines.toyfilms.story import sample_film
from pipelines.toyfilms.truth import StoredTruth, film_truth

if TYPE_CHECKING:
    from pipelines.storage.shared_paths import SharedPaths

logger = logging.getLogger(__name__)

_IN_FLIGHT = 256  # tasks: enough to keep a cluster busy, few enough for the scheduler


def write_films(config: ToyFilmsConfig, output: Path) -> list[Path]:
    """Render the films that are not there yet; return all their video files, in seed order."""
    return [write_film(config, seed, output) for seed in config.seeds]


def render_films_on_ray(config: ToyFilmsConfig, output: Path) -> list[Path]:
    """`write_films` on a running Ray, one task per film; all nodes must share `output`."""
    from pipelines.storage.shared_paths import shared_paths

    folder = Path(output).absolute()
    with shared_paths([], str(folder)) as shared:
        return _render_on_ray(config, folder, shared)


def _render_on_ray(config: ToyFilmsConfig, folder: Path, shared: SharedPaths) -> list[Path]:
    import ray

    render = ray.remote(num_cpus=1)(_write_film_alone)
    tasks = (render.remote(config, seed, folder, shared) for seed in config.seeds)
    running = list(itertools.islice(tasks, _IN_FLIGHT))
    videos: list[Path] = []
    while running:
        done, running = ray.wait(running, num_returns=1)
        videos.append(ray.get(done[0]))
        running += itertools.islice(tasks, 1)
    return sorted(videos)


def write_film(config: ToyFilmsConfig, seed: int, output: Path) -> Path:
    """Render the film of `seed` unless the same film is there already; return its video file."""
    video = Path(output) / f"film_{seed:06d}.mp4"
    film = sample_film(seed, config)
    size = {"width": config.width, "height": config.height}
    how = {**size, "crf": config.crf, "renderer": RENDER_VERSION}
    if _is_complete(video, {**how, "film": json.loads(json.dumps(film.to_json()))}):
        logger.debug("film %d is there already", seed)
        return video
    truth_path(video).unlink(missing_ok=True)
    truths = []
    with VideoWriter(video, fps=film.fps, crf=config.crf) as writer:
        for frame, truth in iter_film(film, **size):
            writer.write(frame)
            truths.append(truth)
    content = json.dumps({**film_truth(film, truths), **how, "video": video.name})
    try:
        write_atomic(truth_path(video), content)
    except OSError as error:
        raise StorageError(f"Cannot write {truth_path(video)}: {error}.") from error
    logger.info("rendered film %d: %d frames in %s", seed, len(truths), video)
    return video


def _write_film_alone(config: ToyFilmsConfig, seed: int, output: Path, shared: SharedPaths) -> Path:
    shared.check()
    cv2.setNumThreads(1)  # each core has a task: more threads would only compete
    return write_film(config, seed, output)


def read_truth(video: Path) -> StoredTruth:
    """Return the truth beside a toy film; DataError if it is missing or not readable."""
    path = truth_path(Path(video))
    try:
        truth: StoredTruth = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{video} has no readable truth at {path}: {error}.") from error
    return truth


def truth_path(video: Path) -> Path:
    """Return where the truth of a film is."""
    return video.with_suffix(".json")


def _is_complete(video: Path, expected: dict[str, Any]) -> bool:
    if not (video.is_file() and truth_path(video).is_file()):
        return False
    return expected.items() <= read_truth(video).items()
