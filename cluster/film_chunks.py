"""The chunks of a story's film, generated in this process or by a task on a cluster.

A task gets the story with its reference images and sends back frames, so the nodes need no common
disk. Knows nothing about files of films.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.storyboard import Retrieved
from fw_model.cache.context import Mode
from fw_model.generation.generator import StoryChunk, StoryGenerator
from fw_model.generation.request import Pixels
from fw_model.generation.story_file import StoryFile, packed_references, unpack_references
from fw_model.loading.folders import model_paths, with_whole_paths
from fw_model.loading.load import load_model

if TYPE_CHECKING:
    from cluster.config import FilmWeaverConfig

TASK_RETRIES = 3  # the chunks that were sent before a node died are not sent again


@dataclass(frozen=True)
class FilmChunk:
    """A finished chunk: its place, its frames uint8 [F, H, W, 3], and what was retrieved for it.

    `segment` counts the prompts of a shot.
    """

    shot: int
    segment: int
    mode: Mode
    prompt: str
    frames: Pixels
    fps: float
    retrieved: tuple[Retrieved, ...]


def chunks_here(
    settings: FilmWeaverConfig, story: StoryFile, base_dir: Path
) -> Iterator[FilmChunk]:
    """Yield the chunks of `story`; its reference images are relative to `base_dir`."""
    model = load_model(settings.model)
    generator = StoryGenerator(model, settings.generation)
    for chunk in generator.generate_story(story, base_dir=base_dir):
        yield _film_chunk(chunk, model.record.fps)


def chunks_on_cluster(
    settings: FilmWeaverConfig, story: StoryFile, base_dir: Path
) -> Iterator[FilmChunk]:
    """Yield the same chunks from a task of the running Ray that has `ray.process_cpus` and
    `ray.process_gpus`; StorageError if a node does not see the model's folder."""
    import ray

    from pipelines.storage.shared_paths import shared_paths

    sent = settings.model_copy(update={"model": with_whole_paths(settings.model)})
    device = settings.model.device
    has_gpus = ray.cluster_resources().get("GPU", 0) > 0
    gpus = settings.ray.gpus_for(device, cluster_has_gpus=has_gpus)
    generate: Any = ray.remote(_chunks_of_task).options(
        num_returns="streaming",
        num_cpus=settings.ray.process_cpus,
        num_gpus=gpus,
        max_retries=TASK_RETRIES,
    )
    with shared_paths(model_paths(sent.model)) as shared:
        for reference in generate.remote(sent, *packed_references(story, base_dir), shared):
            yield ray.get(reference)


def _chunks_of_task(
    settings: FilmWeaverConfig, story: StoryFile, images: Mapping[str, bytes], shared: Any
) -> Iterator[FilmChunk]:
    shared.check()
    with tempfile.TemporaryDirectory() as folder:
        unpack_references(images, Path(folder))
        yield from chunks_here(settings, story, Path(folder))


def _film_chunk(chunk: StoryChunk, fps: float) -> FilmChunk:
    retrieved = tuple(
        Retrieved(k.keyframe.image, k.score, k.keyframe.name or f"shot {k.keyframe.shot + 1}")
        for k in chunk.request.keyframes
    )
    place = (chunk.shot, chunk.segment, chunk.mode, chunk.request.prompt)
    return FilmChunk(*place, chunk.result.frames, fps, retrieved)
