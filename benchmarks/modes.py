"""Does an extension do what its new prompt says, and do two injected references both appear?

    python benchmarks/modes.py [--stories N] [--checkpoint DIR] [--out FOLDER] [--json FILE]

Extension (FilmWeaver, Figure 8): a shot under one action goes on under another; the toy judge reads
each part by itself. References (multi-concept injection): one figure of each of two true films is
injected, and one prompt asks for both; the toy judge says whether both are there, and how far their
hues are from the injected ones; and the same filmed without them, which shows what the prompt alone
brings. A story of all four modes is drawn as well. Pictures go to FOLDER.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

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
    """What a story is about, drawn from its seed."""

    seed: int
    kinds: tuple[str, str]
    actions: tuple[str, str]
    place: str
    light: str

    @classmethod
    def of(cls, seed: int) -> Setting:
        """Draw the setting of `seed`."""
        rng = np.random.default_rng([seed, 0x30DE5])
        kinds, actions = rng.permutation(FIGURE_KINDS)[:2], rng.permutation(ACTIONS)[:2]
        place, light = rng.choice(PLACE_KINDS), rng.choice(LIGHTS)
        return cls(seed, tuple(kinds.tolist()), tuple(actions.tolist()), str(place), str(light))

    @property
    def where(self) -> str:
        """Place and light in words."""
        return f"{PLACES[self.place]} {WHEN[self.light]}"


def main() -> None:
    """Generate, read, print, file."""
    arguments = _arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    generator = StoryGenerator(load_model(ModelConfig(checkpoint=arguments.checkpoint)))
    toy_judge = ToyJudge.load(arguments.toy_judge)
    settings = [Setting.of(FIRST_SEED + n) for n in range(arguments.stories)]
    found = {
        "extension": _extensions(generator, toy_judge, settings, arguments.out),
        "references": _references(generator, toy_judge, settings, arguments.out, injected=True),
        "no references": _references(generator, toy_judge, settings, arguments.out, injected=False),
    }
    _four_modes(generator, settings[0], arguments.out)
    for name, figures in found.items():
        words = "  ".join(f"{key} {value:.2f}" for key, value in figures.items())
        print(f"{name:12} {words}")
    if arguments.json:
        content = {
            "stories": arguments.stories,
            "toy_judge": toy_judge.card.get("held_out"),
            **found,
        }
        arguments.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _extensions(
    generator: StoryGenerator, toy_judge: ToyJudge, settings: list[Setting], out: Path
) -> dict[str, float]:
    """Film a figure that does one thing and then another; return how often each is seen."""
    rights: dict[str, list[bool]] = {"before": [], "after": [], "same_figure": []}
    rows = []
    for setting in settings:
        kind = setting.kinds[0]
        prompts = [f"Medium shot: a {kind} {WORDS[a]} {setting.where}." for a in setting.actions]
        shot = ShotSpec(
            prompt=prompts[0], num_chunks=2, extend=(ExtendSpec(prompt=prompts[1], num_chunks=2),)
        )
        parts = _segments(generator, StoryFile(seed=setting.seed, shots=(shot,)))
        readings = [toy_judge.read(part) for part in parts]
        rights["before"].append(_does(readings[0], kind, setting.actions[0]))
        rights["after"].append(_does(readings[1], kind, setting.actions[1]))
        rights["same_figure"].append(all(set(r.figures_in()) == {kind} for r in readings))
        rows.append(parts)
    _save(out / "extensions.png", rows[:6])
    return {name: float(np.mean(claims)) for name, claims in rights.items()}


def _references(
    generator: StoryGenerator,
    toy_judge: ToyJudge,
    settings: list[Setting],
    out: Path,
    *,
    injected: bool,
) -> dict[str, float]:
    """Ask for two figures; return how often they are seen, and how far their hues are from those
    of two pictures, which are injected, or, to compare with, are not.
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
        "both_appear": float(np.mean(both)),
        "hue_error_median_deg": float(np.median(gaps)) if gaps else float("nan"),
    }


def _four_modes(generator: StoryGenerator, setting: Setting, out: Path) -> None:
    """Draw one story of two shots, each extended: all four modes in a row."""
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stories", type=int, default=24, help="of each kind")
    parser.add_argument("--checkpoint", help="model folder; default: the packaged model")
    parser.add_argument("--toy-judge", type=Path, default=PACKAGED_TOY_JUDGE, help="its folder")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--out", type=Path, default=Path("out/modes"), help="for pictures")
    parser.add_argument("--json", type=Path, help="file to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
