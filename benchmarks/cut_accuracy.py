"""How well are cuts found? Our detectors and PySceneDetect's on videos with judged cuts.

    python benchmarks/cut_accuracy.py FOLDER [--json FILE] [--quick]

FOLDER holds videos and GROUND_TRUTH.json: {file: {"cuts": [first frame of each new shot],
"gradual": [[first, last], ...], "ambiguous": [[first, last], ...], "scenes": [[shot, ...], ...]}}.
A detection within one frame of a cut is right; one inside a gradual or ambiguous span is neither
right nor wrong; a gradual span is found if a detected one overlaps it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import av
import numpy as np

from pipelines.curation.analysis.frame_sampling import BATCH_FRAMES, GridSampler
from pipelines.curation.analysis.video_stream import check_stream
from pipelines.curation.config import DecodeConfig
from pipelines.curation.detectors.base import SmallFrames, Transition, make_detector

TOLERANCE = 1
OURS = ("cross_window", "adaptive", "content_histogram", "ensemble")
RIVALS: Mapping[str, Mapping[str, Any]] = {
    "pyscenedetect adaptive 3, min 4": {"adaptive_threshold": 3.0, "min_scene_len": 4},
    "pyscenedetect adaptive defaults": {},
}


@dataclass
class Score:
    """Counts over one or more files."""

    right: int = 0
    wrong: int = 0
    missed: int = 0
    gradual_found: int = 0
    gradual: int = 0
    seconds: float = 0.0
    wrong_at: list[int] = field(default_factory=list)
    missed_at: list[int] = field(default_factory=list)

    @property
    def f1(self) -> float:
        """Return the harmonic mean of precision and recall; 1 where there was nothing to find."""
        total = 2 * self.right + self.wrong + self.missed
        return 2 * self.right / total if total else 1.0

    def add(self, other: Score) -> None:
        """Add the counts of another file."""
        for name in ("right", "wrong", "missed", "gradual_found", "gradual", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def score_cuts(
    cuts: Sequence[int], spans: Sequence[tuple[int, int]], truth: Mapping[str, Any]
) -> Score:
    """Compare detected cuts and gradual spans `[start, end)` with the truth of one file."""
    ignored = [*truth.get("gradual", []), *truth.get("ambiguous", [])]
    left = list(truth["cuts"])
    score = Score(gradual=len(truth.get("gradual", [])))
    for cut in sorted(cuts):
        if any(first <= cut <= last for first, last in ignored):
            continue
        near = [t for t in left if abs(t - cut) <= TOLERANCE]
        if near:
            left.remove(min(near, key=lambda t: abs(t - cut)))
            score.right += 1
        else:
            score.wrong_at.append(cut)
    score.wrong, score.missed, score.missed_at = len(score.wrong_at), len(left), left
    score.gradual_found = sum(
        any(start <= last and end > first for start, end in spans)
        for first, last in truth.get("gradual", [])
    )
    return score


def sample_video(path: Path) -> list[SmallFrames]:
    """Decode a video once into the small frames that every one of our detectors reads."""
    sampler, batches, times_s = GridSampler(), [], []

    def take() -> None:
        planes = sampler.take()
        first = len(times_s) - len(planes)
        batches.append(SmallFrames(first, times_s[first:], planes))

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        check_stream(stream, DecodeConfig())  # decodes as analysis does
        for frame in container.decode(stream):
            sampler.add(frame)
            times_s.append(float(frame.time or 0.0))
            if sampler.num_frames == BATCH_FRAMES:
                take()
    if sampler.num_frames:
        take()
    return batches


def run_ours(kind: str, batches: Sequence[SmallFrames], fps: float) -> list[Transition]:
    """Return the transitions that one of our detectors finds."""
    detector = make_detector(kind, {}, fps=fps)
    found = [t for frames in batches for t in detector.update(frames)]
    return found + detector.finish()


def boundaries(found: Sequence[Transition], num_frames: int) -> list[int]:
    """Return where shots begin: cuts, and the middle of gradual transitions between shots."""
    return [
        (t.start_frame + t.end_frame + 1) // 2
        for t in found
        if t.start_frame > 0 and t.end_frame < num_frames
    ]


def run_pyscenedetect(path: Path, settings: Mapping[str, Any]) -> list[int]:
    """Return the cuts of PySceneDetect's adaptive detector, run as its users run it."""
    from scenedetect import AdaptiveDetector, SceneManager, open_video

    manager = SceneManager()
    manager.add_detector(AdaptiveDetector(**settings))
    manager.detect_scenes(open_video(str(path), backend="pyav"))
    return [scene[0].frame_num for scene in manager.get_scene_list()][1:]


def measure(folder: Path, *, quick: bool) -> dict[str, dict[str, Score]]:
    """Return detector -> file -> score; the files of all detectors are the same."""
    truth = json.loads((folder / "GROUND_TRUTH.json").read_text(encoding="utf-8"))
    files = [name for name in truth if not name.startswith("_")]
    if quick:
        files = sorted(files, key=lambda name: truth[name].get("frames", 0))[:5]
    scores: dict[str, dict[str, Score]] = {}
    for name in files:
        frames = sample_video(folder / name)
        num_frames = frames[-1].last + 1
        fps = float(truth[name].get("fps", 24))
        for kind in OURS:
            started = time.process_time()
            found = run_ours(kind, frames, fps)
            spans = [(t.start_frame, t.end_frame) for t in found if t.kind == "gradual"]
            score = score_cuts(boundaries(found, num_frames), spans, truth[name])
            score.seconds = time.process_time() - started
            scores.setdefault(kind, {})[name] = score
        for rival, settings in RIVALS.items():
            started = time.process_time()
            score = score_cuts(run_pyscenedetect(folder / name, settings), [], truth[name])
            score.seconds = time.process_time() - started
            scores.setdefault(rival, {})[name] = score
        print(f"{name}: {num_frames} frames", file=sys.stderr)
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("FILMWEAVER_TEST_VIDEOS", "../shared/videos")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(default))
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="only the five shortest files")
    arguments = parser.parse_args()
    if not (arguments.folder / "GROUND_TRUTH.json").is_file():
        parser.error(f"{arguments.folder} has no GROUND_TRUTH.json; name a folder that has one")
    scores = measure(arguments.folder, quick=arguments.quick)
    figures = {}
    print(f"{'detector':34}{'F1':>7}{'right':>7}{'wrong':>7}{'missed':>8}{'gradual':>10}")
    for detector, files in scores.items():
        total = Score()
        for score in files.values():
            total.add(score)
        print(
            f"{detector:34}{total.f1:7.3f}{total.right:7}{total.wrong:7}{total.missed:8}"
            f"{f'{total.gradual_found}/{total.gradual}':>10}"
        )
        figures[detector] = {
            "f1": total.f1,
            "gradual_found": total.gradual_found / total.gradual if total.gradual else None,
            "mean_file_f1": float(np.mean([s.f1 for s in files.values()])),
            "files": {
                name: {"f1": s.f1, "wrong_at": s.wrong_at, "missed_at": s.missed_at}
                for name, s in files.items()
            },
        }
    best = next(iter(scores))
    print(f"\n{best}, file by file")
    for name, score in scores[best].items():
        print(f"{name:34}{score.f1:7.3f}  wrong {score.wrong_at}  missed {score.missed_at}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
