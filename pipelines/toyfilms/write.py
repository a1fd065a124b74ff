"""Toy films as files: `film_000123.mp4` and beside it `film_000123.json`, its truth.

A film is whole once its truth is there: the video is written first, each by temp + rename.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
from pathlib import Path
from typing import Any

import cv2

from fw_model.errors import DataError, StorageError
from fw_model.media.video import VideoWriter
from pipelines.toyfilms.config import ToyFilmsConfig
from pipelines.toyfilms.render import RENDER_VERSION, iter_film
from pipelines.toyfilms.story import sample_film
from pipelines.toyfilms.truth import film_truth

logger = logging.getLogger(__name__)

_IN_FLIGHT = 256  # tasks: enough to keep a cluster busy, few enough for the scheduler


def write_films(config: ToyFilmsConfig, output: Path) -> list[Path]:
    """Render the films that are not there yet; return all their video files, in seed order."""
    return [write_film(config, seed, output) for seed in config.seeds]


def render_films_on_ray(config: ToyFilmsConfig, output: Path) -> list[Path]:
    """`write_films` with a task a film on a running Ray; `output` must be shared by all nodes."""
    import ray

    folder = Path(output).absolute()
    render = ray.remote(num_cpus=1)(_write_film_alone)
    waiting = iter(config.seeds)
    running = [
        render.remote(config, seed, folder) for seed in itertools.islice(waiting, _IN_FLIGHT)
    ]
    videos: list[Path] = []
    while running:
        done, running = ray.wait(running, num_returns=1)
        videos.append(ray.get(done[0]))
        running += [render.remote(config, seed, folder) for seed in itertools.islice(waiting, 1)]
    return sorted(videos)


def write_film(config: ToyFilmsConfig, seed: int, output: Path) -> Path:
    """Render the film of `seed` unless the same film is there already; return its video file."""
    video = Path(output) / f"film_{seed:06d}.mp4"
    film = sample_film(seed, config)
    picture = {
        "width": config.width,
        "height": config.height,
        "crf": config.crf,
        "renderer": RENDER_VERSION,
    }
    if _is_whole(video, film.to_json(), picture):
        logger.debug("film %d is there already", seed)
        return video
    truth_path(video).unlink(missing_ok=True)
    truths = []
    with VideoWriter(video, fps=film.fps, crf=config.crf) as writer:
        for frame, truth in iter_film(film, width=config.width, height=config.height):
            writer.write(frame)
            truths.append(truth)
    _write_json(truth_path(video), {**film_truth(film, truths), **picture, "video": video.name})
    logger.info("rendered film %d: %d frames in %s", seed, len(truths), video)
    return video


def _write_film_alone(config: ToyFilmsConfig, seed: int, output: Path) -> Path:
    cv2.setNumThreads(1)  # a task a core: more threads would only get in each other's way
    return write_film(config, seed, output)


def read_truth(video: Path) -> dict[str, Any]:
    """Return the truth beside a toy film; DataError if it is not there or not readable."""
    path = truth_path(Path(video))
    try:
        truth: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{video} has no readable truth at {path}: {error}.") from error
    return truth


def truth_path(video: Path) -> Path:
    """Where the truth of a film is."""
    return video.with_suffix(".json")


def _is_whole(video: Path, film: dict[str, Any], picture: dict[str, int]) -> bool:
    if not (video.is_file() and truth_path(video).is_file()):
        return False
    truth = read_truth(video)
    return truth.get("film") == json.loads(json.dumps(film)) and all(
        truth.get(key) == value for key, value in picture.items()
    )


def _write_json(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(value), encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(f"Cannot write {path}: {error}.") from error
