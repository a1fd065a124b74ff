"""Several detectors at once: a transition counts when enough of them see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fw_model.errors import ConfigError
from pipelines.curation.detectors.base import SmallFrames, Transition, make_detector


class EnsembleDetector:
    """Votes of member detectors. A gradual transition takes its span from whoever gave one."""

    def __init__(
        self,
        *,
        fps: float,
        members: Sequence[Mapping[str, Any]] = (
            {"kind": "learned"},
            {"kind": "adaptive"},
            {"kind": "content_histogram"},
        ),
        min_votes: int = 2,
        tolerance_frames: int = 2,
    ) -> None:
        if not 1 <= min_votes <= len(members):
            raise ConfigError(
                f"detector.options.min_votes is {min_votes} but there are {len(members)} members; "
                f"give a number from 1 to {len(members)}."
            )
        self._members = [make_detector(m["kind"], m.get("options", {}), fps=fps) for m in members]
        self._min_votes = min_votes
        self._tolerance = tolerance_frames
        self._waiting: list[tuple[int, Transition]] = []
        self.max_delay = max(m.max_delay for m in self._members) + 2 * tolerance_frames + 1

    def update(self, frames: SmallFrames) -> list[Transition]:
        # One by one: which votes are in when a group is judged must not hang on the batches.
        return [found for frame in frames.singly() for found in self._take(frame)]

    def _take(self, frame: SmallFrames) -> list[Transition]:
        for number, member in enumerate(self._members):
            self._waiting += [(number, found) for found in member.update(frame)]
        return self._release(frame.last - self.max_delay)

    def finish(self) -> list[Transition]:
        for number, member in enumerate(self._members):
            self._waiting += [(number, found) for found in member.finish()]
        return self._release(None)

    def _release(self, before: int | None) -> list[Transition]:
        """Judge the groups of votes that no further vote can join."""
        self._waiting.sort(key=lambda vote: vote[1].end_frame)
        released = []
        while self._waiting:
            group = [self._waiting[0]]
            for vote in self._waiting[1:]:
                if vote[1].start_frame - self._tolerance > group[-1][1].end_frame:
                    break
                group.append(vote)
            if before is not None and group[-1][1].end_frame >= before:
                break
            self._waiting = self._waiting[len(group) :]
            if len({number for number, _ in group}) >= self._min_votes:
                released.append(_most_telling([found for _, found in group]))
        return released


def _most_telling(votes: Sequence[Transition]) -> Transition:
    """Return the gradual vote if there is one, else the cut that most agree on."""
    gradual = [vote for vote in votes if vote.kind == "gradual"]
    if gradual:
        return max(gradual, key=lambda vote: vote.score)
    frames = [vote.start_frame for vote in votes]
    best = max(frames, key=lambda frame: (frames.count(frame), -frame))
    return next(vote for vote in votes if vote.start_frame == best)
