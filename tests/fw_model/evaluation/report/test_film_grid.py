"""Films side by side: every pixel of every film is there, under its name."""

import numpy as np

from fw_model.evaluation.report.film_grid import film_grid


def film(level, num_frames):
    return np.full((num_frames, 64, 64, 3), level, np.uint8)


def test_every_film_has_its_tile_enlarged_by_whole_steps():
    films = {f"film_{n}": [film(40 * n, 3)] for n in range(5)}
    films["film_4"][0][1, 10, 20] = (9, 8, 7)
    grid = film_grid(films, columns=4)
    assert grid.shape == (3, 2 * (128 + 16 + 4), 4 * (128 + 4), 3)
    for number in range(4):
        tile = grid[:, 16 : 16 + 128, number * 132 : number * 132 + 128]
        assert (tile == 40 * number).all()
    second_row = grid[1, 148 + 16 :, :128]
    assert (second_row[20:22, 40:42] == (9, 8, 7)).all()


def test_names_are_written_above():
    with_name = film_grid({"full": [film(0, 1)]})
    without = film_grid({"": [film(0, 1)]})
    assert (with_name != without)[:, :16].any()
    assert (with_name == without)[:, 16:].all()


def test_a_short_shot_rests_on_its_last_frame_so_that_the_next_begins_with_the_others():
    short = film(10, 2)
    short[1] = 99
    grid = film_grid({"short": [short, film(20, 1)], "long": [film(50, 4), film(60, 1)]})
    assert len(grid) == 5
    assert (grid[3, 16:144, :128] == 99).all()
    assert (grid[4, 16:144, :128] == 20).all()


def test_sizes_are_even():
    odd = np.zeros((1, 65, 131, 3), np.uint8)
    grid = film_grid({"odd": [odd]})
    assert grid.shape[1] % 2 == 0 and grid.shape[2] % 2 == 0
