"""What is true of a film, as JSON: cuts, scenes, prompts, and who is where in each frame.

Frame numbers form half-open spans; hues are in degrees; boxes and x positions are fractions of the
frame. Knows nothing about pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, TypedDict

from pipelines.toyfilms.prompts import shot_prompt
from pipelines.toyfilms.story import FilmSpec

TRUTH_VERSION = 1

Box = list[float]  # [x0, y0, x1, y1], clipped to the frame


class FrameTruth(TypedDict):
    """Where the camera and the landmarks are, and the boxes of each role: figure, hat, prop."""

    camera_x: float
    landmark_xs: list[float]
    boxes: list[dict[str, Box]]


class TrueFigure(TypedDict):
    """A figure in a shot; boxes have one entry per frame."""

    figure: int
    kind: str
    body_hue: float
    trim_hue: float
    prop_hue: float
    hat: str
    prop: str | None
    action: str
    boxes: list[Box]
    hat_boxes: list[Box]
    prop_boxes: list[Box | None]


class TrueLandmark(TypedDict):
    """A landmark in a shot; `xs` has one entry per frame."""

    kind: str
    hue: float
    xs: list[float]


class TrueShot(TypedDict):
    """A shot; `camera_x` has one entry per frame."""

    index: int
    start_frame: int
    end_frame: int
    scene: int
    prompt: str
    place: str
    place_index: int
    light: str
    scale: str
    camera: str
    transition_in: str
    landmarks: list[TrueLandmark]
    camera_x: list[float]
    figures: list[TrueFigure]


class TrueScene(TypedDict):
    """Contiguous shots in one place."""

    scene: int
    place: int
    start_shot: int
    end_shot: int


class GradualSpan(TypedDict):
    """The frames of a dissolve or a fade."""

    kind: str
    start_frame: int
    end_frame: int


class FilmTruth(TypedDict):
    """A film; `cuts` holds the first frame of each shot that begins with a hard cut."""

    version: int
    seed: int
    fps: int
    num_frames: int
    cuts: list[int]
    gradual: list[GradualSpan]
    scenes: list[TrueScene]
    shots: list[TrueShot]
    film: dict[str, Any]


class StoredTruth(FilmTruth):
    """The truth of a film in a file, and how the film was rendered."""

    width: int
    height: int
    crf: int
    renderer: int
    video: str


def film_truth(film: FilmSpec, frames: Sequence[FrameTruth]) -> FilmTruth:
    """Return the truth of a film from the truths of its frames, in order."""
    starts = [0, *accumulate(shot.num_frames for shot in film.shots)]
    shots = [_shot_truth(film, i, starts[i], frames) for i in range(len(film.shots))]
    return {
        "version": TRUTH_VERSION,
        "seed": film.seed,
        "fps": film.fps,
        "num_frames": len(frames),
        "cuts": [s["start_frame"] for s in shots[1:] if s["transition_in"] == "cut"],
        "gradual": [
            {
                "kind": shot.transition_in,
                "start_frame": start - shot.transition_frames // 2,
                "end_frame": start + shot.transition_frames // 2,
            }
            for shot, start in zip(film.shots, starts, strict=False)
            if shot.transition_frames
        ],
        "scenes": _scenes(film),
        "shots": shots,
        "film": film.to_json(),
    }


def _scenes(film: FilmSpec) -> list[TrueScene]:
    scenes: dict[int, list[int]] = {}
    for index, shot in enumerate(film.shots):
        scenes.setdefault(shot.scene, []).append(index)
    return [
        {
            "scene": scene,
            "place": film.shots[members[0]].place,
            "start_shot": members[0],
            "end_shot": members[-1] + 1,
        }
        for scene, members in scenes.items()
    ]


def _shot_truth(film: FilmSpec, index: int, start: int, frames: Sequence[FrameTruth]) -> TrueShot:
    shot = film.shots[index]
    place = film.places[shot.place]
    end = start + shot.num_frames
    own = frames[start:end]
    return {
        "index": index,
        "start_frame": start,
        "end_frame": end,
        "scene": shot.scene,
        "prompt": shot_prompt(film, index),
        "place": place.kind,
        "place_index": shot.place,
        "light": place.light,
        "scale": shot.scale,
        "camera": shot.camera,
        "transition_in": shot.transition_in,
        "landmarks": [
            {"kind": mark.kind, "hue": mark.hue, "xs": [f["landmark_xs"][number] for f in own]}
            for number, mark in enumerate(place.landmarks)
        ],
        "camera_x": [frame["camera_x"] for frame in own],
        "figures": [
            {
                "figure": role.figure,
                "kind": film.figures[role.figure].kind,
                "body_hue": film.figures[role.figure].body_hue,
                "trim_hue": film.figures[role.figure].trim_hue,
                "prop_hue": film.figures[role.figure].prop_hue,
                "hat": film.figures[role.figure].hat,
                "prop": film.figures[role.figure].prop,
                "action": role.action,
                "boxes": [frame["boxes"][number]["figure"] for frame in own],
                "hat_boxes": [frame["boxes"][number]["hat"] for frame in own],
                "prop_boxes": [frame["boxes"][number].get("prop") for frame in own],
            }
            for number, role in enumerate(shot.roles)
        ],
    }
