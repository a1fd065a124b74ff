"""What is true of a film, as JSON: cuts, scenes, prompts, and who is where in each frame."""

from __future__ import annotations

from typing import Any

from pipelines.toyfilms.prompts import shot_prompt
from pipelines.toyfilms.story import FilmSpec

TRUTH_VERSION = 1


def film_truth(film: FilmSpec, frames: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the truth of a film from the truths of its frames, in order.

    Spans are half-open frame numbers. `cuts` holds the first frame of each shot entered by a
    hard cut; `gradual` the span of each dissolve and fade. Boxes are [x0, y0, x1, y1], and
    landmarks' `xs`, in fractions of the frame, one for each frame of the shot.
    """
    starts = shot_starts(film)
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
            for shot, start in zip(film.shots, starts, strict=True)
            if shot.transition_frames
        ],
        "scenes": _scenes(film),
        "shots": shots,
        "film": film.to_json(),
    }


def shot_starts(film: FilmSpec) -> list[int]:
    """Return the first frame of each shot."""
    starts = [0]
    for shot in film.shots[:-1]:
        starts.append(starts[-1] + shot.num_frames)
    return starts


def _scenes(film: FilmSpec) -> list[dict[str, Any]]:
    """Contiguous groups of shots, with the place of each."""
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


def _shot_truth(
    film: FilmSpec, index: int, start: int, frames: list[dict[str, Any]]
) -> dict[str, Any]:
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
            {
                "kind": mark.kind,
                "hue": mark.hue,
                "xs": [frame["landmark_xs"][number] for frame in own],
            }
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
