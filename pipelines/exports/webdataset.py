"""WebDataset: tar shards of bounded size, one sample per scene.

    SCENE.json            the scene and its shots, with the names of the files below
    SCENE.s000.k0.jpg     the keyframes of its first shot
    SCENE.s000.mp4        its video file, if one was cut

The same snapshot gives the same shards, byte for byte. A small file beside each shard lists its
scenes and is written last, so an interrupted export continues after the last of them.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.exports.rows import scene_row, shot_rows
from pipelines.exports.snapshot import CuratedScene, Snapshot
from pipelines.storage.store import Store
from pipelines.storage.tempdirs import temporary_folder

BLOCK = 512  # a tar file's unit, bytes


@dataclass
class _Shard:
    """A shard being written to a local file."""

    file: Path
    tar: tarfile.TarFile
    size_bytes: int = 0
    scene_ids: list[str] = field(default_factory=list)


def export_webdataset(snapshot: Snapshot, target: Store, *, max_shard_bytes: int) -> None:
    """Write the shards that are not there yet."""
    done = _finished(target)
    num_done = sum(len(scene_ids) for scene_ids in done)
    samples = (
        (scene.scene["scene_id"], _sample(scene, media, snapshot.store))
        for scene, media in snapshot.with_media(num_done)
    )
    with temporary_folder() as folder:
        for number, shard in enumerate(_packed(samples, max_shard_bytes, folder), len(done)):
            target.write_file(f"{_name(number)}.tar", shard.file)
            index = {"num_scenes": len(shard.scene_ids), "scene_ids": shard.scene_ids}
            target.write(f"{_name(number)}.json", (json.dumps(index) + "\n").encode())
            shard.file.unlink()


def _name(number: int) -> str:
    return f"scenes-{number:06d}"


def _finished(target: Store) -> list[list[str]]:
    """Return the scenes of each finished shard, up to the first that is missing."""
    done: list[list[str]] = []
    while target.exists(f"{_name(len(done))}.json"):
        done.append(json.loads(target.read(f"{_name(len(done))}.json"))["scene_ids"])
    return done


def _packed(
    samples: Iterable[tuple[str, dict[str, bytes]]], max_bytes: int, folder: Path
) -> Iterator[_Shard]:
    """Yield closed shards of at most `max_bytes`; a larger sample has a shard of its own."""
    shard: _Shard | None = None
    for scene_id, files in samples:
        size_bytes = sum(BLOCK + -(-len(data) // BLOCK) * BLOCK for data in files.values())
        if shard is not None and shard.size_bytes + size_bytes > max_bytes:
            shard.tar.close()
            yield shard
            shard = None
        if shard is None:
            file = folder / "shard.tar"
            # Closed when a later sample does not fit.
            tar = tarfile.open(file, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
            shard = _Shard(file, tar)
        for name, data in files.items():
            about = tarfile.TarInfo(name)  # date, owner and mode are the same in every run
            about.size = len(data)
            shard.tar.addfile(about, io.BytesIO(data))
        shard.size_bytes += size_bytes
        shard.scene_ids.append(scene_id)
    if shard is not None:
        shard.tar.close()
        yield shard


def _sample(scene: CuratedScene, found: Mapping[str, bytes], store: Store) -> dict[str, bytes]:
    """Return the files of a scene by name."""
    scene_id = scene.scene["scene_id"]
    media: dict[str, bytes] = {}
    shots: list[dict[str, Any]] = []
    for shot, row in zip(scene.shots, shot_rows(scene, store), strict=True):
        stem = f"{scene_id}.s{row['position']:03d}"
        pictures = {f"{stem}.k{i}.jpg": k for i, k in enumerate(shot.measured["keyframes"])}
        media |= {name: found[k["uri"]] for name, k in pictures.items()}
        clip = shot.measured.get("clip_uri")
        if clip:
            media[f"{stem}.mp4"] = found[clip]
        named = [k | {"file": name} for name, k in zip(pictures, row["keyframes"], strict=True)]
        left_out = ("embedding", "entities")  # hundreds of numbers; already in the scene
        about = {name: value for name, value in row.items() if name not in left_out}
        shots.append(about | {"keyframes": named, "clip": f"{stem}.mp4" if clip else None})
    text = json.dumps(scene_row(scene) | {"shots": shots}, sort_keys=True)
    return {f"{scene_id}.json": text.encode(), **media}
