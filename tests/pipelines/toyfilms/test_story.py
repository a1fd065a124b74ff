import json
import re

import pytest

from fw_model.config import validate
from fw_model.errors import ConfigError
from pipelines.toyfilms.config import ToyFilmsConfig
from pipelines.toyfilms.prompts import MAX_PROMPT_WORDS, shot_prompt
from pipelines.toyfilms.story import CLOSE_ACTIONS, film_from_json, sample_film

_FILMS = [sample_film(seed, ToyFilmsConfig()) for seed in range(200)]
_COLOUR_WORDS = set(
    re.findall(
        r"\w+",
        "red orange yellow green blue purple violet pink magenta cyan teal turquoise brown golden "
        "grey gray black white hue colour color left right striped stripes dots dotted star plain",
    )
)


def test_a_seed_always_gives_the_same_film():
    assert sample_film(7, ToyFilmsConfig()) == sample_film(7, ToyFilmsConfig())


def test_a_film_does_not_depend_on_the_batch_it_is_in():
    assert sample_film(7, ToyFilmsConfig(first_seed=5, num_films=3, width=256)) == _FILMS[7]


def test_other_seeds_give_other_films():
    assert len({json.dumps(film.to_json()["figures"]) for film in _FILMS}) == len(_FILMS)


def test_a_film_survives_json():
    for film in _FILMS[:20]:
        assert film_from_json(json.loads(json.dumps(film.to_json()))) == film


def test_batches_with_their_own_first_seeds_share_no_film():
    train, test = ToyFilmsConfig(num_films=100), ToyFilmsConfig(first_seed=100, num_films=50)
    assert not set(train.seeds) & set(test.seeds)


def test_scenes_are_runs_of_one_place_and_neighbours_differ():
    for film in _FILMS:
        for before, shot in zip(film.shots, film.shots[1:], strict=False):
            assert shot.scene - before.scene in (0, 1)
            assert (shot.place == before.place) == (shot.scene == before.scene)


def test_some_films_return_to_an_earlier_place():
    returns = [
        film
        for film in _FILMS
        if len({shot.place for shot in film.shots}) < len({shot.scene for shot in film.shots})
    ]
    assert len(returns) > 20


def test_figures_of_a_film_differ_in_kind_and_hue():
    for film in _FILMS:
        assert len({figure.kind for figure in film.figures}) == len(film.figures)
        hues = [figure.body_hue for figure in film.figures]
        hues += [figure.trim_hue for figure in film.figures[:1]]
        first = hues[0]
        assert all(59.9 <= (hue - first) % 360 <= 300.1 for hue in hues[1:])


def test_two_shots_in_a_row_are_never_framed_alike():
    for film in _FILMS:
        for before, shot in zip(film.shots, film.shots[1:], strict=False):
            if shot.scene == before.scene:
                framings = [(s.scale, [r.figure for r in s.roles]) for s in (before, shot)]
                assert framings[0] != framings[1]


def test_close_shots_show_one_figure_whose_action_can_be_seen():
    for film in _FILMS:
        for shot in film.shots:
            if shot.scale == "close":
                assert len(shot.roles) == 1
                assert shot.roles[0].action in CLOSE_ACTIONS


def test_figures_that_are_always_together_part_only_near_the_camera():
    alone, together = (
        ToyFilmsConfig(two_figures_probability=1.0, always_together=always)
        for always in (False, True)
    )
    for seed in range(20):
        film, parted = sample_film(seed, together), sample_film(seed, alone)
        assert (film.figures, film.places) == (parted.figures, parted.places)
        wide = [shot for shot in film.shots if shot.scale == "wide"]
        assert all(len(shot.roles) == 2 for shot in wide)
    assert any(len(s.roles) == 1 for s in sample_film(0, alone).shots if s.scale == "wide")


def test_transitions_fit_into_their_shots():
    for film in _FILMS:
        assert film.shots[0].transition_frames == 0
        for before, shot in zip(film.shots, film.shots[1:], strict=False):
            assert shot.transition_frames % 2 == 0
            assert (shot.transition_in == "cut") == (shot.transition_frames == 0)
            assert shot.transition_frames <= min(before.num_frames, shot.num_frames)


def test_everything_happens_somewhere():
    shots = [shot for film in _FILMS for shot in film.shots]
    assert {s.transition_in for s in shots} == {"cut", "dissolve", "fade"}
    assert {s.scale for s in shots} == {"wide", "medium", "close"}
    assert {s.camera for s in shots} == {"still", "pan"}
    assert len({r.action for s in shots for r in s.roles}) == 7
    assert len({p.kind for f in _FILMS for p in f.places}) == 6
    assert len({g.kind for f in _FILMS for g in f.figures}) == 6


def test_prompts_name_the_figures_and_leave_identity_unsaid():
    for film in _FILMS:
        for index, shot in enumerate(film.shots):
            words = shot_prompt(film, index).lower().replace(".", "").replace(",", "").split()
            assert not set(words) & _COLOUR_WORDS, words
            assert all(film.figures[role.figure].kind in words for role in shot.roles)
            assert len(words) <= MAX_PROMPT_WORDS


def test_prompts_are_varied_and_repeatable():
    prompts = [shot_prompt(film, i) for film in _FILMS for i in range(len(film.shots))]
    again = [shot_prompt(film, i) for film in _FILMS for i in range(len(film.shots))]
    assert prompts == again
    assert len(set(prompts)) > 0.9 * len(prompts)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"min_shots": 6, "max_shots": 4}, "max_shots"),
        ({"min_shot_s": 6.0}, "max_shot_s"),
        ({"width": 8}, "width"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_bad_settings_are_told(settings, said):
    with pytest.raises(ConfigError, match=said):
        validate(ToyFilmsConfig, settings, "toyfilms")
