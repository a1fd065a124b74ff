"""Who is where and does what: a film as plain data, sampled from a seed.

Hues, patterns, the side of a prop and the positions of landmarks are sampled once per film and
stay the same in all its shots; prompts never mention them. Knows nothing about pixels.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from pipelines.toyfilms.config import ToyFilmsConfig

FIGURE_KINDS = ("bear", "rabbit", "robot", "ghost", "cat", "bird")
HATS = ("top hat", "cap", "party hat", "crown")
PROPS = ("balloon", "umbrella", "flower", "flag")
PATTERNS = ("plain", "stripes", "dots", "star")
PLACE_KINDS = ("meadow", "beach", "city", "desert", "mountains", "room")
LIGHTS = ("day", "dusk", "night")
SCALES = ("wide", "medium", "close")
ACTIONS = ("walk", "jump", "wave", "spin", "sit", "dance", "stand")
CLOSE_ACTIONS = ("wave", "dance", "stand")  # the others leave the frame or fill all of it
CAMERA_MOVES = ("still", "pan")

_MIN_HUE_GAP_DEG = 60.0
_SKY_HUES_DEG = {"day": (185.0, 240.0), "dusk": (255.0, 335.0), "night": (215.0, 275.0)}
_GROUND_HUES_DEG = {
    "meadow": (75.0, 150.0),
    "beach": (36.0, 56.0),
    "city": (200.0, 300.0),
    "desert": (14.0, 38.0),
    "mountains": (185.0, 260.0),
    "room": (10.0, 50.0),
}
_LANDMARKS = {
    "meadow": ("tree", "tree"),
    "beach": ("palm", "boat"),
    "city": ("tower", "house", "tower"),
    "desert": ("cactus", "mesa"),
    "mountains": ("peak", "peak", "pine"),
    "room": ("window", "picture"),
}


@dataclass(frozen=True)
class FigureSpec:
    """A character. Hues are in degrees of the HSV circle."""

    kind: str
    body_hue: float
    trim_hue: float  # hat and clothes
    prop_hue: float
    hat: str
    prop: str | None
    prop_side: int  # -1 left, +1 right, as seen on screen
    pattern: str


@dataclass(frozen=True)
class Landmark:
    """An object in a place; x is in frame widths, size is relative to 1."""

    kind: str
    x: float
    size: float
    hue: float


@dataclass(frozen=True)
class PlaceSpec:
    """A place. Horizon, sun_x and sun_y are fractions of the frame (y grows downwards)."""

    kind: str
    light: str
    sky_hue: float
    ground_hue: float
    accent_hue: float
    horizon: float
    sun_x: float
    sun_y: float
    landmarks: tuple[Landmark, ...]


@dataclass(frozen=True)
class Role:
    """What one figure of the film does in one shot."""

    figure: int  # index into FilmSpec.figures
    action: str
    x: float  # where it stands, in frame widths
    facing: int  # -1 left, +1 right
    phase: float  # where its movement starts, in periods, [0, 1)


@dataclass(frozen=True)
class ShotSpec:
    """One uninterrupted take. `transition_frames` is even, half on each side of its start."""

    scene: int
    place: int  # index into FilmSpec.places
    roles: tuple[Role, ...]
    scale: str
    camera: str
    pan_direction: int
    num_frames: int
    transition_in: str
    transition_frames: int


@dataclass(frozen=True)
class FilmSpec:
    """A whole film."""

    seed: int
    fps: int
    figures: tuple[FigureSpec, ...]
    places: tuple[PlaceSpec, ...]
    shots: tuple[ShotSpec, ...]
    name_extras_probability: float

    def to_json(self) -> dict[str, Any]:
        """Return the film as plain JSON values."""
        return asdict(self)


def film_from_json(data: dict[str, Any]) -> FilmSpec:
    """Rebuild what `FilmSpec.to_json` returned."""
    return TypeAdapter(FilmSpec).validate_python(data)


def sample_film(seed: int, config: ToyFilmsConfig) -> FilmSpec:
    """Sample the film of `seed`; the same seed and settings always give the same film."""
    rng = np.random.default_rng([seed, 0xF11])
    num_shots = int(rng.integers(config.min_shots, config.max_shots + 1))
    figures = _sample_cast(rng, config)
    places, scene_places = _sample_places(rng, config, num_shots)
    scene_lengths = _partition(rng, num_shots, len(scene_places))

    shots: list[ShotSpec] = []
    for scene, (place, length) in enumerate(zip(scene_places, scene_lengths, strict=True)):
        cast = _sample_scene_cast(rng, len(figures), config.always_together)
        for number in range(length):
            before = shots[-1] if number > 0 else None
            shots.append(_sample_shot(rng, config, scene, place, cast, before))
    return FilmSpec(
        seed=seed,
        fps=config.fps,
        figures=figures,
        places=places,
        shots=_fit_transitions(shots),
        name_extras_probability=config.name_extras_probability,
    )


def _sample_cast(rng: np.random.Generator, config: ToyFilmsConfig) -> tuple[FigureSpec, ...]:
    count = 2 if rng.random() < config.two_figures_probability else 1
    kinds = rng.permutation(FIGURE_KINDS)[:count]
    first_hue = rng.uniform(0, 360)
    body_hues = (first_hue, first_hue + rng.uniform(_MIN_HUE_GAP_DEG, 360 - _MIN_HUE_GAP_DEG))
    figures = []
    for kind, body_hue in zip(kinds, body_hues, strict=False):
        trim_hue = body_hue + rng.uniform(_MIN_HUE_GAP_DEG, 360 - _MIN_HUE_GAP_DEG)
        has_prop = rng.random() < config.prop_probability
        prop = _choice(rng, PROPS)
        figures.append(
            FigureSpec(
                kind=str(kind),
                body_hue=_round(body_hue % 360),
                trim_hue=_round(trim_hue % 360),
                prop_hue=_round(rng.uniform(0, 360)),
                hat=_choice(rng, HATS),
                prop=prop if has_prop else None,
                prop_side=_sign(rng),
                pattern=_choice(rng, PATTERNS),
            )
        )
    return tuple(figures)


def _sample_places(
    rng: np.random.Generator, config: ToyFilmsConfig, num_shots: int
) -> tuple[tuple[PlaceSpec, ...], list[int]]:
    """Return the places and, for each scene, the index of its place; neighbours differ."""
    most = max(1, min(config.max_scenes, num_shots // 2 + 1, num_shots))
    num_scenes = int(rng.integers(1, most + 1))
    kinds = rng.permutation(PLACE_KINDS)
    scene_places: list[int] = [0]
    num_places = 1
    for scene in range(1, num_scenes):
        old = [place for place in range(num_places) if place != scene_places[-1]]
        returns = scene >= 2 and rng.random() < config.place_return_probability
        if (returns or num_places == len(kinds)) and old:
            scene_places.append(int(rng.choice(old)))
        else:
            scene_places.append(num_places)
            num_places += 1
    return tuple(_sample_place(rng, str(kind)) for kind in kinds[:num_places]), scene_places


def _sample_place(rng: np.random.Generator, kind: str) -> PlaceSpec:
    light = _choice(rng, LIGHTS)
    names = _LANDMARKS[kind]
    slots = rng.permutation(len(names))
    landmarks = tuple(
        Landmark(
            kind=name,
            x=_round((slot + 0.5) / len(names) + rng.uniform(-0.34, 0.34) / len(names)),
            size=_round(rng.uniform(0.8, 1.2)),
            hue=_round(rng.uniform(0, 360)),
        )
        for name, slot in zip(names, slots, strict=True)
    )
    return PlaceSpec(
        kind=kind,
        light=light,
        sky_hue=_round(rng.uniform(*_SKY_HUES_DEG[light])),
        ground_hue=_round(rng.uniform(*_GROUND_HUES_DEG[kind])),
        accent_hue=_round(rng.uniform(0, 360)),
        horizon=_round(rng.uniform(0.54, 0.66)),
        sun_x=_round(rng.uniform(0.12, 0.88)),
        sun_y=_round(rng.uniform(0.12, 0.26)),
        landmarks=landmarks,
    )


def _sample_scene_cast(
    rng: np.random.Generator, num_figures: int, always_together: bool
) -> tuple[int, ...]:
    if num_figures == 1:
        return (0,)
    # Sampled in any case, so that the setting does not change the rest of the film.
    cast = ((0,), (1,), (0, 1), (0, 1))[int(rng.integers(4))]
    return (0, 1) if always_together else cast


def _sample_shot(
    rng: np.random.Generator,
    config: ToyFilmsConfig,
    scene: int,
    place: int,
    cast: tuple[int, ...],
    before: ShotSpec | None,
) -> ShotSpec:
    """Sample a shot of a scene; `before` is the shot before it in the same scene, if any."""
    scale, shown = _sample_framing(rng, cast, before)
    actions = CLOSE_ACTIONS if scale == "close" else ACTIONS
    centres = (0.5 + rng.uniform(-0.1, 0.1),) if len(shown) == 1 else (0.26, 0.74)
    roles = tuple(
        Role(
            figure=figure,
            action=_choice(rng, actions),
            x=_round(centre if scale != "close" else 0.5 + (centre - 0.5) * 0.5),
            facing=_sign(rng),
            phase=_round(rng.random()),
        )
        for figure, centre in zip(shown, centres, strict=True)
    )
    seconds = rng.uniform(config.min_shot_s, config.max_shot_s)
    transition = _sample_transition(rng, config, between_scenes=before is None)
    half = max(1, round(config.fps * rng.uniform(0.25, 0.4)))
    return ShotSpec(
        scene=scene,
        place=place,
        roles=roles,
        scale=scale,
        camera="pan" if rng.random() < config.pan_probability else "still",
        pan_direction=_sign(rng),
        num_frames=max(2, round(seconds * config.fps)),
        transition_in=transition,
        transition_frames=0 if transition == "cut" else 2 * half,
    )


def _sample_framing(
    rng: np.random.Generator, cast: tuple[int, ...], before: ShotSpec | None
) -> tuple[str, tuple[int, ...]]:
    """Choose scale and who is seen, never as in the shot before: that would be a jump cut."""
    weights = (0.6, 0.25, 0.15) if before is None else (0.35, 0.4, 0.25)
    taken = before and (before.scale, tuple(role.figure for role in before.roles))
    while True:
        scale = str(rng.choice(SCALES, p=weights))
        shown = cast
        if len(cast) == 2 and (scale == "close" or (scale == "medium" and rng.random() < 0.5)):
            shown = (cast[int(rng.integers(2))],)
        if (scale, shown) != taken:
            return scale, shown


def _sample_transition(
    rng: np.random.Generator, config: ToyFilmsConfig, *, between_scenes: bool
) -> str:
    dissolve = config.dissolve_probability * (2 if between_scenes else 1)
    fade = config.fade_probability if between_scenes else 0.0
    chance = rng.random()
    if chance < dissolve:
        return "dissolve"
    return "fade" if chance < dissolve + fade else "cut"


def _fit_transitions(shots: list[ShotSpec]) -> tuple[ShotSpec, ...]:
    """Shorten transitions until the two of a shot do not overlap; the first shot gets none."""
    fitted = []
    for index, shot in enumerate(shots):
        room = min(shot.num_frames, shots[index - 1].num_frames) // 3 if index else 0
        frames = min(shot.transition_frames, 2 * room)
        kind = shot.transition_in if frames else "cut"
        fitted.append(replace(shot, transition_in=kind, transition_frames=frames))
    return tuple(fitted)


def _partition(rng: np.random.Generator, total: int, parts: int) -> list[int]:
    """Split `total` into `parts` positive lengths."""
    cuts = np.sort(rng.permutation(np.arange(1, total))[: parts - 1])
    return np.diff([0, *cuts.tolist(), total]).tolist()


def _choice(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _sign(rng: np.random.Generator) -> int:
    return 1 if rng.random() < 0.5 else -1


def _round(value: float) -> float:
    return round(float(value), 4)
