"""Measurements of FilmWeaver, one file per question; see README.md."""
