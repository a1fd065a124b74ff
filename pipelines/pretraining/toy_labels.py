"""Takes of toy films as shots with labels: what the toy judge learns from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fw_model.pretraining.shot_library import ShotLibrary, ShotSource, open_library
from fw_model.pretraining.toy_judge_data import LabelledFigure, LabelledShot
from pipelines.pretraining.config import PretrainConfig
from pipelines.pretraining.takes import Take, iter_takes, split_videos

LabelledLibrary = tuple[ShotLibrary, list[LabelledShot]]


def open_labelled_shots(
    config: PretrainConfig, films: Path, output: Path
) -> tuple[LabelledLibrary, LabelledLibrary]:
    """Return the shots to train on and the shots to measure on, decoded under `output`."""
    training, validation = split_videos(films, config.num_validation_films)
    frames = Path(output) / "frames"
    size = (config.width, config.height)
    return (
        open_labelled(training, frames / "training", size),
        open_labelled(validation, frames / "validation", size),
    )


def open_labelled(videos: Sequence[Path], folder: Path, size: tuple[int, int]) -> LabelledLibrary:
    """Return the shots of toy films and what is true of each."""
    sources, labels = [], []
    for video in videos:
        for take in iter_takes(video):
            span = (take.start_frame, take.end_frame)
            sources.append(ShotSource(str(video), *span, take.shot["prompt"]))
            labels.append(_label(take))
    return open_library(sources, folder, width=size[0], height=size[1]), labels


def _label(take: Take) -> LabelledShot:
    shot = take.shot
    start, end = (frame - shot["start_frame"] for frame in (take.start_frame, take.end_frame))
    return LabelledShot(
        place=shot["place"],
        light=shot["light"],
        scale=shot["scale"],
        figures=tuple(
            LabelledFigure(
                kind=figure["kind"],
                action=figure["action"],
                body_hue_deg=figure["body_hue"],
                trim_hue_deg=figure["trim_hue"],
                boxes=np.asarray(figure["boxes"][start:end], np.float32),
            )
            for figure in shot["figures"]
        ),
    )
