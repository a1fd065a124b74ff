"""What a person would ask for: a shot in one English sentence.

It names kind, place, light, camera scale and action, sometimes the hat or the prop. It never
mentions a hue, a pattern, the side of a prop or where a landmark stands: only earlier shots show
those.
"""

from __future__ import annotations

import numpy as np

from pipelines.toyfilms.story import FilmSpec, Role, ShotSpec

_SCALES = {
    "wide": ("Wide shot", "A wide shot", "Wide view", "Long shot"),
    "medium": ("Medium shot", "A medium shot", "Mid shot"),
    "close": ("Close-up", "A close-up", "Close shot"),
}
_PLACES = {
    "meadow": ("in the meadow", "on a flowery meadow", "in a meadow with trees"),
    "beach": ("on the beach", "at the beach by the sea", "on a sandy beach"),
    "city": ("in the city", "on a city street", "in a street between tall buildings"),
    "desert": ("in the desert", "in a sandy desert", "among the cacti of the desert"),
    "mountains": ("in the snowy mountains", "on a snowy mountain", "in the snow before mountains"),
    "room": ("in the room", "in a room with a window", "inside, in a room"),
}
_LIGHTS = {
    "day": ("by day", "in daylight", "during the day"),
    "dusk": ("at dusk", "at sunset", "in the evening"),
    "night": ("at night", "by night", "in the night"),
}
_ACTIONS = {
    "walk": ("walks along", "is walking", "walks to and fro"),
    "jump": ("jumps", "is jumping", "jumps up and down"),
    "wave": ("waves", "is waving", "waves hello"),
    "spin": ("spins around", "is spinning", "turns round and round"),
    "sit": ("sits", "is sitting", "sits down"),
    "dance": ("dances", "is dancing", "dances along"),
    "stand": ("stands still", "is standing", "stands and waits"),
}
_PANS = ("as the camera pans", "while the camera pans", "with a panning camera")

MAX_PROMPT_WORDS = 24
_MAX_ATTEMPTS = 8


def shot_prompt(film: FilmSpec, index: int) -> str:
    """Return the prompt of a shot; the same film always gives the same words.

    A long sentence is sampled again; if all attempts are long, the shortest is taken.
    """
    rng = np.random.default_rng([film.seed, index, 0x9A0])
    prompts: list[str] = []
    while len(prompts) < _MAX_ATTEMPTS:
        prompts.append(_sample_prompt(rng, film, index))
        if len(prompts[-1].split()) <= MAX_PROMPT_WORDS:
            break
    return min(prompts, key=lambda prompt: len(prompt.split()))


def _sample_prompt(rng: np.random.Generator, film: FilmSpec, index: int) -> str:
    shot = film.shots[index]
    place = film.places[shot.place]
    scale = _pick(rng, _SCALES[shot.scale])
    where = _pick(rng, _PLACES[place.kind])
    when = _pick(rng, _LIGHTS[place.light])
    what = _who_does_what(rng, film, shot)
    tail = f" {_pick(rng, _PANS)}" if shot.camera == "pan" else ""
    order = int(rng.integers(4))
    if order == 0:
        return f"{_capital(where)} {when}, {_lower_scale(scale)}: {what}{tail}."
    if order == 1:
        return f"{_capital(what)} {where} {when}{tail}, {_lower_scale(scale)}."
    return f"{scale}: {what} {where} {when}{tail}."


def _who_does_what(rng: np.random.Generator, film: FilmSpec, shot: ShotSpec) -> str:
    """Say who does what: 'a bear in a cap waves and a cat sits'."""
    if len(shot.roles) == 2 and shot.roles[0].action == shot.roles[1].action:
        first, second = (_name(rng, film, role) for role in shot.roles)
        is_doing = _ACTIONS[shot.roles[0].action][1]
        return f"{first} and {second} are{is_doing.removeprefix('is')}"
    return " and ".join(
        f"{_name(rng, film, role)} {_pick(rng, _ACTIONS[role.action])}" for role in shot.roles
    )


def _name(rng: np.random.Generator, film: FilmSpec, role: Role) -> str:
    figure = film.figures[role.figure]
    name = f"a {figure.kind}"
    chance = rng.random()
    if chance >= film.name_extras_probability:
        return name
    if figure.prop is not None and chance < film.name_extras_probability / 2:
        return f"{name} with {_with_article(figure.prop)}"
    return f"{name} in {_with_article(figure.hat)}"


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _lower_scale(scale: str) -> str:
    plain = scale.lower()
    return plain if plain.startswith("a ") else f"a {plain}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]
