"""Turns a story file into a film: writes each chunk as it comes, and the storyboard last.

The film and the storyboard may be local files or URIs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from cluster.console import Meter
from cluster.film_chunks import FilmChunk
from cluster.storyboard import StoryboardRow, write_storyboard
from fw_model.errors import ConfigError, DataError, StorageError
from fw_model.generation.story_file import StoryFile
from fw_model.media.video import VideoWriter
from pipelines.storage.filesystems import filesystem, is_local, neighbour
from pipelines.storage.store import Store
from pipelines.storage.tempdirs import temporary_folder


@dataclass(frozen=True)
class FilmResult:
    """How much was written."""

    num_frames: int
    duration_s: float


def num_chunks(story: StoryFile) -> int:
    """Return the number of chunks in the story."""
    return sum(segment.num_chunks for shot in story.shots for segment in shot.segments)


def write_film(
    chunks: Iterable[FilmChunk],
    *,
    title: str,
    film: str,
    storyboard: str | None = None,
    progress: Meter,
) -> FilmResult:
    """Write the chunks of a story to `film` and `storyboard`; a failure leaves no file there.

    Both are paths or URIs, checked before the first chunk is asked for.
    """
    with contextlib.ExitStack() as stack:
        film_file = stack.enter_context(file_for(film, ".mp4"))
        board_file = stack.enter_context(file_for(storyboard, ".png")) if storyboard else None
        shown: list[FilmChunk] = []  # kept only for a storyboard: an hour of film is large
        num_frames, fps = _write_frames(chunks, film_file, shown if board_file else None, progress)
        if board_file is not None:
            write_storyboard(board_file, title, storyboard_rows(shown))
    return FilmResult(num_frames, num_frames / fps)


def _write_frames(
    chunks: Iterable[FilmChunk], film: Path, shown: list[FilmChunk] | None, progress: Meter
) -> tuple[int, float]:
    """Write the film and return its frames and frames/s; `shown` collects the chunks."""
    remaining = iter(chunks)
    first = next(remaining, None)
    if first is None:
        raise DataError("The story has no chunk; give at least one shot.")
    num_frames = 0
    with VideoWriter(film, fps=first.fps) as writer:
        for done, chunk in enumerate(_chained(first, remaining), start=1):
            writer.write(chunk.frames)
            num_frames += len(chunk.frames)
            if shown is not None:
                shown.append(chunk)
            progress.update(done, f"shot {chunk.shot + 1} {chunk.mode}")
    return num_frames, first.fps


def _chained(first: FilmChunk, others: Iterator[FilmChunk]) -> Iterator[FilmChunk]:
    yield first
    yield from others


@contextlib.contextmanager
def file_for(address: str, suffix: str) -> Iterator[Path]:
    """Provide the local file whose content goes to `address`, a path or URI, after the block.

    ConfigError or StorageError if nothing can be written there; `suffix` is the format's.
    """
    found, path = filesystem(address)
    local = Path(address)
    if is_local(found) and local.is_dir():
        raise ConfigError(f"{address} is a folder; give the name of a {suffix} file.")
    if PurePosixPath(path).suffix.lower() != suffix:
        raise ConfigError(f"{PurePosixPath(path).name!r} must end with {suffix}; rename it.")
    if is_local(found):
        _make_folder(local)
        yield local
        return
    folder, name = PurePosixPath(path).parent, PurePosixPath(path).name
    store = Store(neighbour(address, str(folder)))
    store.exists(name)  # an address that does not work ends the command before the work
    with temporary_folder() as scratch:
        yield scratch / f"new{suffix}"
        store.write_file(name, scratch / f"new{suffix}")


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"Cannot create the folder of {path}: {error.strerror}; choose another."
        ) from error


def storyboard_rows(chunks: Sequence[FilmChunk]) -> list[StoryboardRow]:
    """Return one row per mode of each segment: a new shot of three chunks also has an extension."""
    groups: dict[tuple[int, int, str], list[FilmChunk]] = {}
    for chunk in chunks:
        groups.setdefault((chunk.shot, chunk.segment, chunk.mode), []).append(chunk)
    return [
        StoryboardRow(
            shot,
            mode,
            members[0].prompt,
            np.concatenate([member.frames for member in members]),
            members[0].retrieved,
        )
        for (shot, _, mode), members in groups.items()
    ]
