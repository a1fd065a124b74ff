"""Prompts of toy films and what they say: what the small UMT5 learns from. Renders nothing."""

from __future__ import annotations

from collections.abc import Sequence

from fw_model.pretraining.text_encoder import KnownPrompt, SamplePrompts
from pipelines.toyfilms.config import ToyFilmsConfig
from pipelines.toyfilms.prompts import shot_prompt
from pipelines.toyfilms.story import (
    ACTIONS,
    CAMERA_MOVES,
    FIGURE_KINDS,
    HATS,
    LIGHTS,
    PLACE_KINDS,
    PROPS,
    SCALES,
    FilmSpec,
    ShotSpec,
    sample_film,
)

_NONE = "-"
_FIRST_SEED = 20_000_000  # far from the films that are rendered for training and evaluation
_HELD_OUT_SEED = 30_000_000
QUESTIONS: dict[str, tuple[str, ...]] = {
    "place": PLACE_KINDS,
    "light": LIGHTS,
    "scale": SCALES,
    "camera": CAMERA_MOVES,
    "first figure": FIGURE_KINDS,
    "second figure": (_NONE, *FIGURE_KINDS),
    **{f"{kind}: action": (_NONE, *ACTIONS) for kind in FIGURE_KINDS},
    **{f"{kind}: hat": (_NONE, *HATS) for kind in FIGURE_KINDS},
    **{f"{kind}: prop": (_NONE, *PROPS) for kind in FIGURE_KINDS},
}
"""What can be asked about a prompt, and the possible answers; "-" if it does not say."""


def prompt_sampler(films: ToyFilmsConfig) -> SamplePrompts:
    """Return a function that samples numbered batches of prompts of films like `films`.

    In half of the films, both figures are always together: only there can a reader mix up who does
    what.
    """
    pairs = films.model_copy(update={"two_figures_probability": 1.0, "always_together": True})

    def sample(number: int, count: int) -> list[KnownPrompt]:
        first = _FIRST_SEED + number * count if number >= 0 else _HELD_OUT_SEED - number * count
        return sample_prompts(range(first, first + count), (films, pairs))

    return sample


def sample_prompts(seeds: range, kinds_of_films: Sequence[ToyFilmsConfig]) -> list[KnownPrompt]:
    """Return one prompt per seed, from the seed's film, and the facts it states."""
    prompts = []
    for seed in seeds:
        film = sample_film(seed, kinds_of_films[seed % len(kinds_of_films)])
        index = seed // len(kinds_of_films) % len(film.shots)
        text = shot_prompt(film, index)
        prompts.append(KnownPrompt(text, prompt_facts(text, film, film.shots[index])))
    return prompts


def prompt_facts(text: str, film: FilmSpec, shot: ShotSpec) -> dict[str, str]:
    """Return what the prompt `text` of `shot` says: the answer to each of QUESTIONS."""
    place = film.places[shot.place]
    facts = dict.fromkeys(QUESTIONS, _NONE)
    facts |= {"place": place.kind, "light": place.light, "scale": shot.scale, "camera": shot.camera}
    for rank, role in zip(("first", "second"), shot.roles, strict=False):
        figure = film.figures[role.figure]
        facts[f"{rank} figure"] = figure.kind
        facts[f"{figure.kind}: action"] = role.action
        if f"a {figure.kind} in a {figure.hat}" in text.lower():
            facts[f"{figure.kind}: hat"] = figure.hat
        for article in ("a", "an"):
            if f"a {figure.kind} with {article} {figure.prop}" in text.lower():
                facts[f"{figure.kind}: prop"] = str(figure.prop)
    return facts
