"""Toy films and other videos as data for pretraining small parts."""
