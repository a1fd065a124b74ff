"""The story that the demo generates: all four modes, an extended shot, an injected reference.

For toy films it is written by hand. For your own films its prompts are their captions and its
reference is one of their keyframes. Both are ordinary story files for `filmweaver generate`.
"""

from __future__ import annotations

import io
from pathlib import Path

import yaml
from PIL import Image

from fw_model.errors import DataError
from fw_model.generation.story_file import StoryFile, load_story
from fw_model.schemas.curated_rows import CaptionRow, ShotRow
from pipelines.curation.ledger.tables import read_published
from pipelines.storage.store import Store
from pipelines.toyfilms.config import ToyFilmsConfig
from pipelines.toyfilms.render import render_shot
from pipelines.toyfilms.story import sample_film

NUM_SHOTS = 4
REFERENCE_KIND = "robot"
REFERENCE_SEARCH = 2000

TOY_STORY = {
    "title": "A day out",
    "seed": 7,
    "shots": [
        {
            "prompt": "Medium shot: a rabbit in a top hat stands in the meadow by day.",
            "num_chunks": 1,
            "extend": [
                {
                    "prompt": "Medium shot: a rabbit in a top hat waves hello in the meadow "
                    "by day.",
                    "num_chunks": 2,
                }
            ],
        },
        {"prompt": "Close-up: a rabbit in a top hat waves in the meadow by day.", "num_chunks": 2},
        {
            "prompt": "Medium shot: a robot is dancing in the city at night.",
            "num_chunks": 2,
            "references": [{"image": "reference.png", "name": "a robot", "weight": 1.0}],
        },
        {"prompt": "Close-up: a robot waves in the city at night.", "num_chunks": 1},
        {"prompt": "Wide shot: a rabbit in a top hat sits in the meadow by day.", "num_chunks": 1},
    ],
}


def write_toy_story(folder: Path, config: ToyFilmsConfig) -> StoryFile:
    """Write the hand-written story and its reference image under `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    _reference_frame(config).save(folder / "reference.png")
    return _write(folder, TOY_STORY)


def write_story_of_captions(folder: Path, curated: Path) -> StoryFile:
    """Write a story whose prompts are captions of `curated`, longest scenes first.

    DataError if nothing was captioned.
    """
    scenes = [
        row
        for row in read_published(Store(str(curated)), CaptionRow, ["status", "shots"])
        if row["status"] == "captioned" and row["shots"]
    ]
    shots = [
        shot for scene in sorted(scenes, key=lambda s: -len(s["shots"])) for shot in scene["shots"]
    ]
    if not shots:
        raise DataError(
            f"No scene of {curated} was captioned, so there are no prompts for a story;"
            " its report.html gives the reasons."
        )
    chosen = [shots[index % len(shots)] for index in range(NUM_SHOTS)]
    folder.mkdir(parents=True, exist_ok=True)
    reference = shots[min(len(shots) - 1, NUM_SHOTS)]
    _keyframe(curated, reference["shot_id"]).save(folder / "reference.png")
    tree: dict[str, object] = {"title": "From your films", "seed": 7}
    story_shots: list[dict[str, object]] = [
        {"prompt": shot["text"], "num_chunks": 1 + index % 2} for index, shot in enumerate(chosen)
    ]
    story_shots[0]["extend"] = [{"prompt": chosen[0]["text"], "num_chunks": 1}]
    story_shots[2]["references"] = [
        {"image": "reference.png", "name": reference["text"][:200], "weight": 1.0}
    ]
    return _write(folder, tree | {"shots": story_shots})


def _write(folder: Path, tree: dict[str, object]) -> StoryFile:
    path = folder / "story.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return load_story(path)


def _reference_frame(config: ToyFilmsConfig) -> Image.Image:
    """Return a medium shot of a lone robot from a film outside the demo's."""
    for seed in range(config.seeds.stop, config.seeds.stop + REFERENCE_SEARCH):
        film = sample_film(seed, config)
        for index, shot in enumerate(film.shots):
            alone = len(shot.roles) == 1 and shot.scale == "medium"
            if alone and film.figures[shot.roles[0].figure].kind == REFERENCE_KIND:
                frames = render_shot(film, index, width=config.width, height=config.height)
                return Image.fromarray(frames[len(frames) // 2])
    raise DataError(
        f"No film of seeds {config.seeds.stop} to {config.seeds.stop + REFERENCE_SEARCH} has a"
        f" medium shot of a lone {REFERENCE_KIND}; loosen the toyfilms section."
    )


def _keyframe(curated: Path, shot_id: str) -> Image.Image:
    """Return the middle keyframe of a curated shot."""
    store = Store(str(curated))
    for row in read_published(store, ShotRow, ["shot_id", "keyframes"]):
        if row["shot_id"] == shot_id and row["keyframes"]:
            keyframe = row["keyframes"][len(row["keyframes"]) // 2]
            with Image.open(io.BytesIO(store.read(keyframe["uri"]))) as image:
                return image.convert("RGB")
    raise DataError(f"Shot {shot_id} of {curated} has no keyframe; curate into a new folder.")
