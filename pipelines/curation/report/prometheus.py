"""Metrics of a running curation for Prometheus; Ray exports them with its own.

Knows nothing about how curation works: it gets the same progress and summary as the command.
"""

from __future__ import annotations

from collections.abc import Mapping

from ray.util.metrics import Gauge

from pipelines.curation.report.summary import CurationSummary


class CurationSeries:
    """The progress of each phase and, at the end, the counts of the tables."""

    def __init__(self) -> None:
        self._done = _gauge("phase_done", "Finished rows of a phase.", "phase")
        self._total = _gauge("phase_total", "All rows of a phase.", "phase")
        self._videos = _gauge("videos", "Videos of the finished tables.", "status", "reason")
        self._shots = _gauge("shots", "Shots of the finished tables.", "status", "reason")
        self._scenes = _gauge("scenes", "Scenes of the finished tables.", "status", "reason")
        self._cost = _gauge("cost_usd", "Spent on captions by all runs on this output, USD.")

    def on_progress(self, phase: str, done: int, total: int) -> None:
        """Export the progress of a phase."""
        self._done.set(done, {"phase": phase})
        self._total.set(total, {"phase": phase})

    def on_summary(self, summary: CurationSummary) -> None:
        """Export the counts of the finished tables."""
        self._cost.set(summary.cost_usd)
        _count(self._videos, "kept", summary.videos_kept, "quarantined", summary.video_reasons)
        _count(self._shots, "kept", summary.shots_kept, "dropped", summary.shot_reasons)
        captioned, rejected = summary.scenes_captioned, summary.caption_reasons
        _count(self._scenes, "captioned", captioned, "rejected", rejected)


def _gauge(name: str, description: str, *tags: str) -> Gauge:
    return Gauge(f"filmweaver_curation_{name}", description=description, tag_keys=tags)


def _count(gauge: Gauge, good: str, number: int, bad: str, by_reason: Mapping[str, int]) -> None:
    gauge.set(number, {"status": good, "reason": ""})
    for reason, count in by_reason.items():
        gauge.set(count, {"status": bad, "reason": reason})
