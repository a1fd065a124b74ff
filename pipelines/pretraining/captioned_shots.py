"""Films as shots with a caption and tags: what the small VAE and CLIP learn from.

A film with its truth beside it (a toy film) gives one captioned shot per take; any other video
is one shot without a caption, which only the VAE can learn from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from fw_model.media.video import iter_frames
from fw_model.pretraining.shot_library import ShotLibrary, ShotSource, open_library
from pipelines.pretraining.config import PretrainConfig
from pipelines.pretraining.takes import iter_takes, split_videos
from pipelines.toyfilms.truth import TrueShot
from pipelines.toyfilms.write import truth_path

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


def open_shots(
    config: PretrainConfig, films: Path, output: Path
) -> tuple[ShotLibrary, ShotLibrary]:
    """Return the shots to train on and the shots to measure on, decoded under `output`."""
    training, validation = (
        list_shots(videos, name_hues=config.name_hues)
        for videos in split_videos(films, config.num_validation_films)
    )
    frames = Path(output) / "frames"
    size = {"width": config.width, "height": config.height}
    return (
        open_library(training, frames / "training", **size),
        open_library(validation, frames / "validation", **size),
    )


def list_shots(videos: Sequence[Path], *, name_hues: bool = False) -> list[ShotSource]:
    """Return all shots of the videos."""
    shots = []
    for video in videos:
        if not truth_path(video).is_file():
            shots.append(ShotSource(str(video), 0, sum(1 for _ in iter_frames(video))))
            continue
        for take in iter_takes(video):
            tags, stated = shot_tags(take.shot)
            tags += hue_tags(take.shot) if name_hues else ()
            span = (take.start_frame, take.end_frame)
            shots.append(ShotSource(str(video), *span, take.shot["prompt"], tags, stated))
    return shots


def shot_tags(shot: TrueShot) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what is true of a toy shot in words, and the part that its prompt states.

    The facts begin with place, light, camera scale and the first figure's kind.
    """
    figures = shot["figures"]
    said = [_PLACES.get(shot["place"], shot["place"]), shot["light"], _SCALES[shot["scale"]]]
    said += [figure["kind"] for figure in figures]
    said += [_ACTIONS[figure["action"]] for figure in figures]
    worn = [item for figure in figures for item in (figure["hat"], figure["prop"]) if item]
    words = set(re.findall(r"[a-z]+", shot["prompt"].lower()))  # "flower" is in "flowery"
    said += [extra for extra in worn if words.issuperset(extra.split())]
    stated = tuple(dict.fromkeys(said))
    return tuple(dict.fromkeys([*stated, *worn])), stated


def hue_tags(shot: TrueShot) -> tuple[str, ...]:
    """Return the colours of a toy shot's figures, hats, props and landmarks, in words."""
    figures = shot["figures"]
    named = [(figure["body_hue"], figure["kind"]) for figure in figures]
    named += [(figure["trim_hue"], figure["hat"]) for figure in figures if figure["hat"]]
    named += [(figure["prop_hue"], figure["prop"]) for figure in figures if figure["prop"]]
    named += [(mark["hue"], mark["kind"]) for mark in shot["landmarks"]]
    return tuple(dict.fromkeys(f"{_HUES[round(hue / 30) % 12]} {what}" for hue, what in named))
