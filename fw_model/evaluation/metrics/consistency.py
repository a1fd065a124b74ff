"""The paper's CLIP metrics: consistency between shots and alignment with the text, times 100.

A shot is represented by the middle frames of its chunks, a character by the crop of its box.
S shots.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fw_model.embedders.base import Embedder
from fw_model.evaluation.judges.characters import CharacterBoxes, standing_frames
from fw_model.evaluation.stories.truth import Box, FilmedShot, Pixels, StoryTruth
from fw_model.similarity import unit_rows

_SMALLEST_CROP_PX = 8

Floats = NDArray[np.float32]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class StoryEmbeddings:
    """CLIP embeddings of a film: shots, prompts, and characters by (shot, kind).

    Text embeddings have unit length. A shot, or a character in it, is the mean of its frames' unit
    vectors, not normalised again: the product of two means is the mean of all cosines between their
    frames.
    """

    shots: Floats  # [S, E]
    prompts: Floats  # [S, E]
    characters: dict[tuple[int, str], Floats]  # [E]
    names: dict[str, Floats]  # [E] of "a bear"


def embed_story(
    shots: Sequence[FilmedShot], story: StoryTruth, boxes: CharacterBoxes, embedder: Embedder
) -> StoryEmbeddings:
    """Embed the frames that represent shots, the character crops in `boxes`, and the text."""
    standing = [(index, f) for index, shot in enumerate(shots) for f in standing_frames(shot)]
    return embed_frames([shot.frames for shot in shots], standing, story, boxes, embedder)


def embed_frames(
    shots: Sequence[Pixels],
    standing: Sequence[tuple[int, int]],
    story: StoryTruth,
    boxes: CharacterBoxes,
    embedder: Embedder,
) -> StoryEmbeddings:
    """Embed shots [F, H, W, 3]; `standing` holds (shot, frame), at least one for each shot."""
    frames = [shots[index][f] for index, f in standing]
    crops = {key: crop(shots[key[0]][key[1]], box) for key, box in boxes.items()}
    kinds = sorted({figure.kind for shot in story.shots for figure in shot.figures})
    images = _embedded(embedder.embed_images([*frames, *crops.values()]))
    texts = _embedded(embedder.embed_text([*(s.prompt for s in story.shots), *map(_name, kinds)]))
    own = _means([index for index, _ in standing], images[: len(frames)])
    return StoryEmbeddings(
        shots=np.stack([own[index] for index in range(len(shots))]),
        prompts=texts[: len(shots)],
        characters=_means([(index, kind) for index, _, kind in crops], images[len(frames) :]),
        names=dict(zip(kinds, texts[len(shots) :], strict=True)),
    )


def _means(keys: Sequence[Key], rows: Floats) -> dict[Key, Floats]:
    """Return the mean of the rows of each key."""
    own: dict[Key, list[Floats]] = {}
    for key, row in zip(keys, rows, strict=True):
        own.setdefault(key, []).append(row)
    return {key: np.mean(values, axis=0) for key, values in own.items()}


def clip_measures(embeddings: StoryEmbeddings, story: StoryTruth) -> dict[str, float | None]:
    """Return the four metrics by their names in the scorecard; None if nothing can be compared.

    Consistency compares a character's crops between shots, and shots of one place (each of the
    paper's scenes has one place); alignment compares crops with names, and shots with prompts.
    """
    shots, characters = embeddings.shots, embeddings.characters.items()
    places = [shot.place_index for shot in story.shots]
    same_character = [
        float(first @ second)
        for (a, first), (b, second) in combinations(characters, 2)
        if a[1] == b[1]
    ]
    same_place = [
        float(shots[a] @ shots[b])
        for a, b in combinations(range(len(places)), 2)
        if places[a] == places[b]
    ]
    named = [float(row @ embeddings.names[kind]) for (_, kind), row in characters]
    return {
        "character_consistency": _percent(same_character),
        "overall_consistency": _percent(same_place),
        "character_alignment": _percent(named),
        "overall_alignment": _percent((shots * embeddings.prompts).sum(axis=1).tolist()),
    }


def crop(frame: Pixels, box: Box) -> Pixels:
    """Return the crop of a box in fractions of the frame, at least a few pixels wide and high."""
    height, width = frame.shape[:2]
    x0, y0, x1, y1 = box
    left, right = _span(x0, x1, width)
    top, bottom = _span(y0, y1, height)
    return frame[top:bottom, left:right]


def _span(low: float, high: float, size: int) -> tuple[int, int]:
    start, stop = round(min(low, high) * size), round(max(low, high) * size)
    least = min(_SMALLEST_CROP_PX, size)
    if stop - start < least:
        start = max(0, min(size - least, (start + stop - least) // 2))
        stop = start + least
    return start, stop


def _name(kind: str) -> str:
    return kind if " " in kind else f"a {kind}"  # "a bear"; "an old man in a red coat" is complete


def _embedded(rows: object) -> Floats:
    return unit_rows(np.asarray(rows, dtype=np.float32))


def _percent(cosines: Sequence[float]) -> float | None:
    return 100.0 * float(np.mean(cosines)) if cosines else None
