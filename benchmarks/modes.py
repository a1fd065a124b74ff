"""Does an extension follow its new prompt, and do two injected references both appear?

    python -m benchmarks.modes [--stories N] [--checkpoint DIR] [--out FOLDER] [--json FILE]

Extension (FilmWeaver, Figure 8): a shot under one action is extended under another; the toy judge
reads each part by itself. References (multi-concept injection): one figure of each of two true
films is injected, and one prompt asks for both; the toy judge says whether both are there, and how
far their hues are from the injected ones. The same prompts without references show what the prompt
alone brings. A story of all four modes is generated as well. Pictures go to FOLDER. --quick
generates one story of each kind.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.report import Row, parser, report
from fw_model.evaluation.judges.toy_judge import (
    PACKAGED_TOY_JUDGE,
    ShotReading,
    ToyJudge,
    hue_gap_deg,
)
from fw_model.evaluation.report.films import film_strip
from fw_model.evaluation.stories.truth import Pixels
from fw_model.generation.generator import StoryGenerator
from fw_model.generation.story_file import ExtendSpec, ReferenceSpec, ShotSpec, StoryFile
from fw_model.loading.config import ModelConfig
from fw_model.loading.load import load_model
from fw_model.media.images import read_image
from fw_model.media.keyframes import encode_png
from pipelines.toyfilms.config import ToyFilmsConfig
from pipelines.toyfilms.render import render_shot
from pipelines.toyfilms.story import (
    ACTIONS,
    FIGURE_KINDS,
    LIGHTS,
    PLACE_KINDS,
    FigureSpec,
    FilmSpec,
    sample_film,
)

FIRST_SEED = 3_000_000
UNITS = {
    "first action seen": "share", "new action seen": "share", "same figure": "share",
    "both figures appear": "share", "median hue error": "degrees",
}  # fmt: skip
WORDS = {
    "walk": "is walking", "jump": "is jumping", "wave": "is waving", "spin": "is spinning",
    "sit": "is sitting", "dance": "is dancing", "stand": "is standing",
}  # fmt: skip
PLACES = {
    "meadow": "in the meadow", "beach": "on the beach", "city": "in the city",
    "desert": "in the desert", "mountains": "in the snowy mountains", "room": "in the room",
}  # fmt: skip
WHEN = {"day": "by day", "dusk": "at dusk", "night": "at night"}


@dataclass(frozen=True)
class Setting:
    """What a story is about, sampled from its seed."""

    seed: int
    kinds: tuple[str, str]
    actions: tuple[str, str]
    place: str
    light: str

    @classmethod
    def of(cls, seed: int) -> Setting:
        """Sample the setting of `seed`."""
        rng = np.random.default_rng([seed, 0x30DE5])
        kinds, actions = rng.permutation(FIGURE_KINDS)[:2], rng.permutation(ACTIONS)[:2]
        place, light = rng.choice(PLACE_KINDS), rng.choice(LIGHTS)
        return cls(seed, tuple(kinds.tolist()), tuple(actions.tolist()), str(place), str(light))

    @property
    def where(self) -> str:
        """Place and light in words."""
        return f"{PLACES[self.place]} {WHEN[self.light]}"


def main() -> None:
    """Generate and read."""
    arguments = _arguments()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    generator = StoryGenerator(load_model(ModelConfig(checkpoint=arguments.checkpoint)))
    judge = ToyJudge.load(arguments.toy_judge)
    num_stories = 1 if arguments.quick else arguments.stories
    settings = [Setting.of(FIRST_SEED + n) for n in range(num_stories)]
    found: dict[str, Mapping[str, float]] = {
        "extension": _extensions(generator, judge, settings, out),
        "references": _references(generator, judge, settings, out, injected=True),
        "no references": _references(generator, judge, settings, out, injected=False),
    }
    _four_modes(generator, settings[0], out)
    rows = [
        Row(
            f"{kind}: {what}", None if math.isnan(value) else round(value, 3), UNITS[what], True,
            f"{num_stories} shots",
        )
        for kind, figures in found.items()
        for what, value in figures.items()
    ]  # fmt: skip
    report(arguments, "modes", rows)


def _extensions(
    generator: StoryGenerator, toy_judge: ToyJudge, settings: list[Setting], out: Path
) -> dict[str, float]:
    """Film a figure that does one thing and then another; return how often each is seen."""
    seen: dict[str, list[bool]] = {
        "first action seen": [],
        "new action seen": [],
        "same figure": [],
    }
    rows = []
    for setting in settings:
        kind = setting.kinds[0]
        prompts = [f"Medium shot: a {kind} {WORDS[a]} {setting.where}." for a in setting.actions]
        shot = ShotSpec(
            prompt=prompts[0], num_chunks=2, extend=(ExtendSpec(prompt=prompts[1], num_chunks=2),)
        )
        parts = _segments(generator, StoryFile(seed=setting.seed, shots=(shot,)))
        readings = [toy_judge.read(part) for part in parts]
        seen["first action seen"].append(_does(readings[0], kind, setting.actions[0]))
        seen["new action seen"].append(_does(readings[1], kind, setting.actions[1]))
        seen["same figure"].append(all(set(r.figures_in()) == {kind} for r in readings))
        rows.append(parts)
    _save(out / "extensions.png", rows[:6])
    return {name: float(np.mean(claims)) for name, claims in seen.items()}


def _references(
    generator: StoryGenerator,
    toy_judge: ToyJudge,
    settings: list[Setting],
    out: Path,
    *,
    injected: bool,
) -> dict[str, float]:
    """Ask for two figures; return how often they are seen, and how far their hues are from those
    of two pictures, which are injected if `injected`.
    """
    both: list[bool] = []
    gaps: list[float] = []
    rows = []
    for setting in settings:
        figures = [
            _figure_of(kind, setting.seed + 7919 * i) for i, kind in enumerate(setting.kinds)
        ]
        pictures = [_portrait(film) for film in figures]
        references = []
        for kind, picture in zip(setting.kinds, pictures, strict=True):
            path = out / f"reference_{kind}.png"
            path.write_bytes(encode_png(picture))
            references.append(ReferenceSpec(image=path.name, name=f"a {kind}"))
        first, second = setting.kinds
        prompt = f"Wide shot: a {first} and a {second} are standing {setting.where}."
        shot = ShotSpec(
            prompt=prompt, num_chunks=2, references=tuple(references) if injected else ()
        )
        (frames,) = _segments(generator, StoryFile(seed=setting.seed, shots=(shot,)), out)
        seen = toy_judge.read(frames).figures_in()
        both.append(set(seen) == set(setting.kinds))
        gaps += [
            hue_gap_deg(hue, asked)
            for film in figures
            if (figure := film.figures[0]).kind in seen
            for hue, asked in _hue_pairs(seen[figure.kind], figure)
        ]
        rows.append([*(p[None] for p in pictures), frames])
    _save(out / ("references.png" if injected else "no_references.png"), rows[:6])
    return {
        "both figures appear": float(np.mean(both)),
        "median hue error": float(np.median(gaps)) if gaps else float("nan"),
    }


def _four_modes(generator: StoryGenerator, setting: Setting, out: Path) -> None:
    """Generate one story of two shots, each extended: all four modes in a row."""
    kind = setting.kinds[0]
    shots = [
        ShotSpec(prompt=f"{scale} shot: a {kind} {WORDS[action]} {setting.where}.", num_chunks=2)
        for scale, action in zip(("Wide", "Medium"), setting.actions, strict=True)
    ]
    story = StoryFile(seed=setting.seed, shots=tuple(shots))
    chunks = [(c.mode, c.result.frames) for c in generator.generate_story(story)]
    print("modes:       " + ", ".join(mode for mode, _ in chunks))
    _save(out / "four_modes.png", [[frames for _, frames in chunks]])


def _segments(generator: StoryGenerator, story: StoryFile, base: Path = Path()) -> list[Pixels]:
    """Return the frames of each prompt's chunks, [F, H, W, 3]."""
    parts: dict[tuple[int, int], list[Pixels]] = {}
    for chunk in generator.generate_story(story, base_dir=base):
        parts.setdefault((chunk.shot, chunk.segment), []).append(chunk.result.frames)
    return [np.concatenate(frames) for frames in parts.values()]


def _does(reading: ShotReading, kind: str, action: str) -> bool:
    return kind in reading.figures_in() and reading.action_of(kind) == action


def _hue_pairs(seen: Any, figure: FigureSpec) -> Iterator[tuple[float, float]]:
    yield seen.body_hue_deg, figure.body_hue
    yield seen.trim_hue_deg, figure.trim_hue


def _figure_of(kind: str, seed: int) -> FilmSpec:
    """Return a film of one figure of `kind`: the first at or after `seed` that opens with it."""
    while True:
        film = sample_film(seed, ToyFilmsConfig(two_figures_probability=0.0))
        if film.figures[0].kind == kind:
            return film
        seed += 1


def _portrait(film: FilmSpec) -> Pixels:
    """Return a picture of the film's figure, standing in the middle, 64x64."""
    shot = film.shots[0]
    role = replace(shot.roles[0], action="stand", x=0.5)
    shot = replace(shot, scale="medium", camera="still", roles=(role,), num_frames=2)
    frames: Pixels = render_shot(replace(film, shots=(shot,)), 0, width=64, height=64)
    return frames[0]


def _save(path: Path, rows: list[list[Pixels]]) -> None:
    strips = [read_image(film_strip(row)) for row in rows]
    width = max(strip.shape[1] for strip in strips)
    padded = [
        np.pad(s, ((0, 4), (0, width - s.shape[1]), (0, 0)), constant_values=250) for s in strips
    ]
    picture = np.concatenate(padded).repeat(2, axis=0).repeat(2, axis=1)
    path.write_bytes(encode_png(picture))


def _arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--stories", type=int, default=24, help="stories of each kind")
    made.add_argument("--checkpoint", help="model folder; default: the packaged model")
    made.add_argument("--toy-judge", type=Path, default=PACKAGED_TOY_JUDGE, help="its folder")
    made.add_argument("--threads", type=int, default=2, help="threads of torch")
    made.add_argument("--out", type=Path, default=Path("out/modes"), help="folder for pictures")
    return made.parse_args()


if __name__ == "__main__":
    main()
