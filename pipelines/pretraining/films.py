"""A folder of films as shots to pretrain on.

Every film with its truth beside it (a toy film) gives one captioned shot per take; any other video
counts as one shot without a caption, good for the VAE alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fw_model.errors import DataError
from fw_model.media.video import iter_frames
from fw_model.pretraining.shot_library import ShotLibrary, ShotSource, open_library
from pipelines.pretraining.config import PretrainConfig
from pipelines.toyfilms.write import read_truth, truth_path

_PLACES = {"city": "city street", "mountains": "snowy mountains"}
_SCALES = {"wide": "wide shot", "medium": "medium shot", "close": "close-up"}
_ACTIONS = {
    "walk": "walks",
    "jump": "jumps",
    "wave": "waves",
    "spin": "spins around",
    "sit": "sits",
    "dance": "dances",
    "stand": "stands still",
}
_HUES = (
    "red", "orange", "yellow", "lime", "green", "mint",
    "cyan", "azure", "blue", "violet", "magenta", "pink",
)  # fmt: skip
_VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"}


def open_film_libraries(
    config: PretrainConfig, films: Path, output: Path
) -> tuple[ShotLibrary, ShotLibrary]:
    """Return the shots to train on and the shots to measure on, decoded under `output`."""
    videos = sorted(p for p in Path(films).glob("*") if p.suffix.lower() in _VIDEO_SUFFIXES)
    if len(videos) <= config.num_validation_films:
        raise DataError(
            f"{films} holds {len(videos)} videos; training needs more than the "
            f"{config.num_validation_films} that are kept for validation."
        )
    split = len(videos) - config.num_validation_films
    size = {"width": config.width, "height": config.height}
    training = list_shots(videos[:split], name_hues=config.name_hues)
    validation = list_shots(videos[split:], name_hues=config.name_hues)
    return (
        open_library(training, Path(output) / "frames" / "training", **size),
        open_library(validation, Path(output) / "frames" / "validation", **size),
    )


def list_shots(videos: Sequence[Path], *, name_hues: bool = False) -> list[ShotSource]:
    """Return all shots of the videos; the frames of a transition belong to no shot."""
    shots: list[ShotSource] = []
    for video in videos:
        if not truth_path(video).is_file():
            count = sum(1 for _ in iter_frames(video))
            shots.append(ShotSource(str(video), 0, count))
            continue
        truth = read_truth(video)
        gradual = [(span["start_frame"], span["end_frame"]) for span in truth["gradual"]]
        for shot in truth["shots"]:
            start, end = shot["start_frame"], shot["end_frame"]
            for begin, stop in gradual:
                if begin <= start < stop:
                    start = stop
                if begin < end <= stop:
                    end = begin
            if end > start:
                tags, stated = shot_facts(shot)
                if name_hues:
                    tags += hue_facts(shot)
                shots.append(ShotSource(str(video), start, end, shot["prompt"], tags, stated))
    return shots


def shot_facts(shot: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what is true of a toy shot, and which of it its prompt states.

    First place, light, camera scale and the first figure's kind, in this order.
    """
    figures = shot["figures"]
    said = [_PLACES.get(shot["place"], shot["place"]), shot["light"], _SCALES[shot["scale"]]]
    said += [figure["kind"] for figure in figures]
    said += [_ACTIONS[figure["action"]] for figure in figures]
    worn = [figure[part] for figure in figures for part in ("hat", "prop") if figure[part]]
    words = set(re.findall(r"[a-z]+", shot["prompt"].lower()))  # "flower" is in "flowery"
    said += [extra for extra in worn if words.issuperset(extra.split())]
    stated = tuple(dict.fromkeys(said))
    return tuple(dict.fromkeys([*stated, *worn])), stated


def hue_facts(shot: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the colours of a toy shot's figures, hats, props and landmarks, in words."""
    named = [(figure["body_hue"], figure["kind"]) for figure in shot["figures"]]
    for part, hue in (("hat", "trim_hue"), ("prop", "prop_hue")):
        named += [(figure[hue], figure[part]) for figure in shot["figures"] if figure[part]]
    named += [(mark["hue"], mark["kind"]) for mark in shot["landmarks"]]
    return tuple(dict.fromkeys(f"{_HUES[round(hue / 30) % 12]} {what}" for hue, what in named))
