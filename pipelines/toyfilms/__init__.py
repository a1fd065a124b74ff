"""Procedural films with ground truth: demo, tests, ablations, and what the tiny model learns."""
