"""Makes footage for cut_accuracy.py whose cuts are known because this script makes them.

    python -m benchmarks.cut_footage OUT --videos FOLDER [--films N] [--seed N] [--quick]
    python -m benchmarks.cut_accuracy --videos OUT

FOLDER holds videos and GROUND_TRUTH.json (see cut_accuracy.py). Two kinds of film go to OUT, all
480x270 and H.264: `joined_*`, stretches from inside FOLDER's shots, joined by cuts, dissolves,
wipes and fades through black, with flashes and with screens inside the picture whose programme
cuts; and `toy_*`, films of `filmweaver toyfilms`. Without --videos only the toy films are made.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Row, parser, report
from fw_model.media.video import Pixels, iter_frames, write_video
from pipelines.toyfilms.config import ToyFilmsConfig
from pipelines.toyfilms.render import iter_film
from pipelines.toyfilms.story import FilmSpec, sample_film

SIZE = (480, 270)
FPS = 24
SHOTS_PER_FILM = 14
GUARD = 12  # frames left out on each side of a known boundary
SHORTEST, LONGEST = 56, 96  # frames of a stretch
FIRST_TOY_SEED = 5_000_000


@dataclass
class Film:
    """Frames so far, and what is true of them; spans are [first, last]."""

    frames: list[Pixels] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    gradual: list[tuple[int, int]] = field(default_factory=list)

    def truth(self, fps: float) -> dict[str, Any]:
        """Return what GROUND_TRUTH.json says of the film."""
        return {
            "frames": len(self.frames),
            "fps": fps,
            "cuts": self.cuts,
            "gradual": self.gradual,
        }


def stretches(folder: Path, *, most: int | None = None) -> dict[str, list[Pixels]]:
    """Return, for each video, its stretches [F, H, W, 3] that lie inside one shot each.

    `most` limits it to that many of the shortest videos.
    """
    truth = json.loads((folder / "GROUND_TRUTH.json").read_text(encoding="utf-8"))
    found: dict[str, list[Pixels]] = {}
    names = [name for name in truth if not name.startswith("_")]
    for name in sorted(names, key=lambda name: truth[name].get("frames", 0))[:most]:
        judged = truth[name]
        frames = np.stack(list(iter_frames(folder / name, size=SIZE)))
        found[name] = [
            frames[start : start + LONGEST].copy()
            for first, last in _inside(judged, len(frames))
            for start in range(first, last - SHORTEST, 2 * LONGEST)
            if frames[start].std() > 10  # not black
        ]
    return {name: pieces for name, pieces in found.items() if pieces}


def _inside(judged: Mapping[str, Any], num_frames: int) -> list[tuple[int, int]]:
    """Return spans [first, last) away from every cut and every gradual or ambiguous span."""
    bounds = [(0, 0), *((cut, cut) for cut in judged["cuts"]), (num_frames, num_frames)]
    bounds += [tuple(span) for span in (*judged["gradual"], *judged.get("ambiguous", []))]
    bounds = sorted(bounds)
    spans = [
        (left[1] + GUARD, right[0] - GUARD) for left, right in zip(bounds, bounds[1:], strict=False)
    ]
    return [(first, last) for first, last in spans if last - first >= SHORTEST]


def joined(pieces: Mapping[str, Sequence[Pixels]], rng: np.random.Generator) -> Film:
    """Join stretches of different videos; half of all transitions are cuts."""
    film, before = Film(), ""
    for _ in range(SHOTS_PER_FILM):
        name = str(rng.choice([n for n in pieces if n != before]))
        own = pieces[name][int(rng.integers(len(pieces[name])))]
        shot = own[: int(rng.integers(SHORTEST, len(own) + 1))].copy()
        other = pieces[before or name][0]
        _distract(shot, other, rng)
        _join(film, shot, rng)
        before = name
    return film


def _distract(shot: Pixels, other: Pixels, rng: np.random.Generator) -> None:
    """Add what is not a cut: a flash of two frames, or a screen whose programme changes."""
    middle = len(shot) // 2
    choice = rng.random()
    if choice < 0.25:
        shot[middle : middle + 2] = (0.25 * shot[middle : middle + 2] + 191).astype(np.uint8)
    elif choice < 0.4:
        height, width = SIZE[1] // 3, SIZE[0] // 3
        programmes = (other[0], 255 - other[-1])
        for number, frame in enumerate(shot):
            frame[20 : 20 + height, 30 : 30 + width] = programmes[number >= middle][::3, ::3][
                :height, :width
            ]


def _join(film: Film, shot: Pixels, rng: np.random.Generator) -> None:
    start = len(film.frames)
    choice = rng.random()
    if not film.frames or choice < 0.5:
        film.cuts += [start] if film.frames else []
        film.frames += list(shot)
        return
    length = int(rng.integers(8, 25))
    tail = np.stack(film.frames[-length:]).astype(np.float32)
    head = shot[:length].astype(np.float32)
    weight = ((np.arange(length) + 1) / (length + 1)).astype(np.float32)[:, None, None, None]
    if choice < 0.75:
        mixed = (1 - weight) * tail + weight * head
    elif choice < 0.88:
        mixed = np.where(np.arange(SIZE[0])[:, None] < weight * SIZE[0], head, tail)
    else:
        down, up = (1 - 2 * weight).clip(0), (2 * weight - 1).clip(0)
        mixed = down * tail + up * head
    film.gradual.append((start - length, start - 1))
    film.frames[-length:] = list(mixed.round().astype(np.uint8))
    film.frames += list(shot[length:])


def rendered(spec: FilmSpec) -> Film:
    """Render a toy film; half of each transition lies on either side of the new shot's start."""
    film = Film([frame for frame, _ in iter_film(spec, width=SIZE[0], height=SIZE[1])])
    start = 0
    for shot in spec.shots:
        half = shot.transition_frames // 2
        if start and half:
            film.gradual.append((start - half, start + half - 1))
        elif start:
            film.cuts.append(start)
        start += shot.num_frames
    return film


def main() -> None:
    """Make the films and their truth."""
    arguments = _arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    quick, videos = arguments.quick, arguments.videos
    pieces = {} if videos is None else stretches(videos, most=4 if quick else None)
    truth: dict[str, Any] = {}
    for number in range(1 if quick else arguments.films):
        if pieces:
            film = joined(pieces, np.random.default_rng([arguments.seed, number]))
            _write(arguments.out, f"joined_{number:02d}.mp4", film, FPS, truth)
        spec = sample_film(FIRST_TOY_SEED + 1000 * arguments.seed + number, ToyFilmsConfig())
        _write(arguments.out, f"toy_{number:02d}.mp4", rendered(spec), spec.fps, truth)
    content = json.dumps(truth, indent=1) + "\n"
    (arguments.out / "GROUND_TRUTH.json").write_text(content, encoding="utf-8")
    counts = {kind: sum(len(t[kind]) for t in truth.values()) for kind in ("cuts", "gradual")}
    rows = [Row("films", len(truth)), *(Row(kind, count) for kind, count in counts.items())]
    report(arguments, "cut_footage", rows)


def _write(out: Path, name: str, film: Film, fps: float, truth: dict[str, Any]) -> None:
    write_video(out / name, np.stack(film.frames), fps=fps)
    truth[name] = film.truth(fps)


def _arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("out", type=Path, help="folder to write")
    made.add_argument("--videos", type=Path, help="folder of videos and GROUND_TRUTH.json")
    made.add_argument("--films", type=int, default=8, help="of each kind")
    made.add_argument("--seed", type=int, default=0, help="of what is joined and rendered")
    return made.parse_args()


if __name__ == "__main__":
    main()
