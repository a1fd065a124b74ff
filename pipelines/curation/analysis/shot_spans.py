"""Splits a video into shots at its transitions: where each shot starts and ends, and which of its
frames are free of transitions.

Knows nothing about pictures; all numbers are frame indices.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.curation.detectors.base import Transition


@dataclass(frozen=True)
class DetectedShot:
    """A shot `[start, end)`, its content between the transitions, and the transition before it.

    `next_start` is where the closing transition begins: no frame before it belongs to a later shot.
    """

    start: int
    end: int
    content_start: int
    content_end: int
    next_start: int
    opening: Transition
    is_first: bool


class ShotSplitter:
    """Takes transitions in order of time and returns each shot as it closes.

    `first` is the index of the first frame.
    """

    def __init__(self, min_shot_frames: int, *, first: int = 0) -> None:
        self._min_shot_frames = min_shot_frames
        self._first = first
        self._opening = Transition("cut", first, first, 0.0)
        self._fade_out: Transition | None = None
        self._num_closed = 0

    def take(self, closing: Transition, num_frames: int) -> DetectedShot | None:
        """Return the shot that `closing` ends, if it ends one.

        `num_frames` is the index after the last frame seen.
        """
        if closing.start_frame == self._first and not self._num_closed:
            self._opening = closing  # the video fades in: there is no shot before
            return None
        if closing.end_frame >= num_frames:
            self._fade_out = closing  # the video fades out: there is no shot after
            return None
        end = _middle(closing)
        too_close = end - self._start < self._min_shot_frames and closing.kind == "cut"
        return None if end <= self._start or too_close else self._close(closing, end)

    def finish(self, num_frames: int) -> DetectedShot | None:
        """Return the last shot of a video of `num_frames` frames."""
        closing = self._fade_out or Transition("cut", num_frames, num_frames, 0.0)
        return self._close(closing, num_frames) if num_frames > self._start else None

    @property
    def _start(self) -> int:
        return _middle(self._opening) if self._num_closed else self._first

    def _close(self, closing: Transition, end: int) -> DetectedShot:
        opening, start = self._opening, self._start
        content_start = max(start, opening.end_frame)
        content_end = max(content_start + 1, min(end, closing.start_frame))
        shot = DetectedShot(
            start, end, content_start, content_end, closing.start_frame, opening,
            is_first=self._num_closed == 0,
        )  # fmt: skip
        self._opening = closing
        self._num_closed += 1
        return shot


def _middle(transition: Transition) -> int:
    return (transition.start_frame + transition.end_frame + 1) // 2
