"""`filmweaver pretrain toy-judge`: toy films and their truth become labelled shots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fw_model.errors import DataError
from fw_model.pretraining.shot_library import ShotLibrary, ShotSource, open_library
from fw_model.pretraining.toy_judge import pretrain_toy_judge
from fw_model.pretraining.toy_judge_data import LabelledFigure, LabelledShot
from pipelines.pretraining.config import PretrainConfig
from pipelines.toyfilms.write import read_truth


def run_pretrain_toy_judge(config: PretrainConfig, films: Path, output: Path) -> dict[str, float]:
    """Train the toy judge on toy films; `output/toy_judge` holds it. Goes on where it was stopped.

    The last films by name are held out; returns the accuracy on them.
    """
    import torch

    videos = sorted(Path(films).glob("*.mp4"))
    if len(videos) <= config.num_validation_films:
        raise DataError(
            f"{films} holds {len(videos)} toy films; training needs more than the "
            f"{config.num_validation_films} that are kept for validation."
        )
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    split = len(videos) - config.num_validation_films
    frames = Path(output) / "frames"
    size = (config.width, config.height)
    training = open_labelled(videos[:split], frames / "training", size)
    held_out = open_labelled(videos[split:], frames / "validation", size)
    return pretrain_toy_judge(config.toy_judge, training, held_out, Path(output))


def open_labelled(
    videos: Sequence[Path], folder: Path, size: tuple[int, int]
) -> tuple[ShotLibrary, list[LabelledShot]]:
    """Return the shots of toy films, transitions cut off, and what is true of them."""
    sources, labels = [], []
    for video in videos:
        truth = read_truth(video)
        gradual = [(span["start_frame"], span["end_frame"]) for span in truth["gradual"]]
        for shot in truth["shots"]:
            start, end = shot["start_frame"], shot["end_frame"]
            start = max([start, *(stop for begin, stop in gradual if begin <= start < stop)])
            end = min([end, *(begin for begin, stop in gradual if begin < end <= stop)])
            if end > start:
                sources.append(ShotSource(str(video), start, end, shot["prompt"]))
                first = start - shot["start_frame"]
                labels.append(_labelled(shot, first, first + end - start))
    library = open_library(sources, folder, width=size[0], height=size[1])
    return library, labels


def _labelled(shot: dict[str, Any], start: int, end: int) -> LabelledShot:
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
