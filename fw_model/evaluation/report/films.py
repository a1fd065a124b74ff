"""The films of a scorecard's page: strips side by side, the films as one, what a return found."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fw_model.evaluation.metrics.retrieval import returning_shots
from fw_model.evaluation.stories.truth import FilmedShot, Pixels, StoryTruth
from fw_model.media.keyframes import encode_jpeg, select_keyframe_indices

_TILES = 3
_GAP_PX = 4


@dataclass(frozen=True)
class Return:
    """A shot that comes back to a place: its picture beside the keyframes that it was given."""

    shot: int
    jpeg: bytes
    keyframes: Sequence[str]  # "shot 1, score 0.42", best first
    hit: bool


@dataclass(frozen=True)
class StoryFilms:
    """A story's films: prompts, a JPEG strip for each variant, all of them in one MP4, returns."""

    title: str
    prompts: Sequence[str]
    strips: Mapping[str, bytes]
    grid: bytes | None = None
    returns: Sequence[Return] = field(default_factory=tuple)


def film_strip(shots: Sequence[Pixels]) -> bytes:
    """Return a JPEG with a few frames of each shot [F, H, W, 3], shots apart by a gap."""
    parts: list[Pixels] = []
    for frames in shots:
        parts += [frames[i] for i in select_keyframe_indices(len(frames), _TILES)]
        parts.append(_gap(frames))
    return encode_jpeg(np.concatenate(parts[:-1], axis=1), quality=88)


def return_strips(shots: Sequence[FilmedShot], story: StoryTruth) -> dict[int, bytes]:
    """Return, for each shot that comes back to a place, a JPEG: the shot, then its keyframes."""
    strips = {}
    for index in returning_shots(story):
        cached = [frame.image for frame in shots[index].cached]
        if cached:
            frames = shots[index].frames
            parts = [frames[len(frames) // 2], _gap(frames), *cached]
            strips[index] = encode_jpeg(np.concatenate(parts, axis=1), quality=88)
    return strips


def story_html(story: StoryFilms) -> str:
    """Return the story's part of the page."""
    prompts = "".join(f"<li>{html.escape(prompt)}</li>" for prompt in story.prompts)
    rows = "".join(
        f"<div>{html.escape(name)}</div>{_picture(strip, name)}"
        for name, strip in story.strips.items()
    )
    return (
        f"<h3>{html.escape(story.title)}</h3><ol>{prompts}</ol>"
        f'<div class="film">{rows}</div>{_grid_html(story.grid)}{_returns_html(story.returns)}'
    )


def _grid_html(grid: bytes | None) -> str:
    if grid is None:
        return ""
    data = base64.b64encode(grid).decode()
    return (
        f'<video controls loop muted playsinline src="data:video/mp4;base64,{data}"></video>'
        '<p class="muted">All films of this story at once.</p>'
    )


def _returns_html(returns: Sequence[Return]) -> str:
    if not returns:
        return ""
    items = "".join(
        f'<figure class="return">{_picture(r.jpeg, f"return in shot {r.shot + 1}")}<figcaption>'
        f"Shot {r.shot + 1}; keyframes found: {html.escape('; '.join(r.keyframes))}. "
        f"{'The right place.' if r.hit else '<b>Another place.</b>'}</figcaption></figure>"
        for r in returns
    )
    return (
        f'<p class="muted">Returns to a place in the full film: the shot, then what its shot cache '
        f'found.</p><div class="plots">{items}</div>'
    )


def _picture(jpeg: bytes, name: str) -> str:
    data = base64.b64encode(jpeg).decode()
    return f'<img alt="{html.escape(name)}" src="data:image/jpeg;base64,{data}">'


def _gap(frames: Pixels) -> Pixels:
    return np.full((frames.shape[1], _GAP_PX, 3), 250, np.uint8)
