"""How many cuts do the shot detectors find, ours and PySceneDetect's?

    python -m benchmarks.cut_accuracy --videos FOLDER.. [--variants] [--json FILE] [--quick]

Footage is split once, by source film, into a tuning half and a held-out half (cut_split.json);
figures of the two are printed one below the other. With --variants the videos are not measured
themselves but in other bars, light, bitrate, codec and rate (cut_variants.py).

A FOLDER holds videos and GROUND_TRUTH.json: {file: {"cuts": [first frame of each new shot],
"gradual": [[first, last], ...], "ambiguous": [[first, last], ...], "scenes": [[shot, ...], ...]}}.
Entries without "cuts" are left out. A detection within one frame of a cut is right; one inside a
gradual or ambiguous span counts as neither right nor wrong; a gradual span is found if a detected
one overlaps it. --quick reads the three shortest videos.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import av

from benchmarks.cut_variants import make_variants
from benchmarks.report import Row, parser, report
from pipelines.curation.analysis.frame_sampling import BATCH_FRAMES, GridSampler
from pipelines.curation.analysis.video_stream import check_stream
from pipelines.curation.config import DecodeConfig
from pipelines.curation.detectors.base import SmallFrames, Transition, make_detector

TOLERANCE = 1
VARIANT_FRAMES = 2000
SPLIT: Mapping[str, Mapping[str, Sequence[str]]] = {
    half: films
    for half, films in json.loads(
        (Path(__file__).parent / "cut_split.json").read_text(encoding="utf-8")
    ).items()
    if not half.startswith("_")
}
OURS = ("learned", "adaptive", "content_histogram", "ensemble")
BASELINES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "pyscenedetect adaptive defaults": ("AdaptiveDetector", {}),
    "pyscenedetect adaptive 3, min_scene_len 4": (
        "AdaptiveDetector",
        {"adaptive_threshold": 3.0, "min_scene_len": 4},
    ),
    "pyscenedetect content defaults": ("ContentDetector", {}),
    "pyscenedetect hash defaults": ("HashDetector", {}),
    "pyscenedetect histogram defaults": ("HistogramDetector", {}),
}


@dataclass(frozen=True)
class Score:
    """Counts over one or more files."""

    right: int = 0
    wrong_at: tuple[int, ...] = ()
    missed_at: tuple[int, ...] = ()
    gradual_found: int = 0
    gradual: int = 0

    @property
    def f1(self) -> float:
        """Return the harmonic mean of precision and recall; 1 where there was nothing to find."""
        total = 2 * self.right + len(self.wrong_at) + len(self.missed_at)
        return 2 * self.right / total if total else 1.0

    def __add__(self, other: Score) -> Score:
        return Score(
            self.right + other.right,
            self.wrong_at + other.wrong_at,
            self.missed_at + other.missed_at,
            self.gradual_found + other.gradual_found,
            self.gradual + other.gradual,
        )

    def __str__(self) -> str:
        return f"{self.right} right, {len(self.wrong_at)} wrong, {len(self.missed_at)} missed"


def score_cuts(
    cuts: Sequence[int], spans: Sequence[tuple[int, int]], truth: Mapping[str, Any]
) -> Score:
    """Compare detected cuts and gradual spans `[start, end)` with the truth of one file."""
    gradual = truth.get("gradual", [])
    ignored = [*gradual, *truth.get("ambiguous", [])]
    missed, wrong, right = list(truth["cuts"]), [], 0
    for cut in sorted(cuts):
        if any(first <= cut <= last for first, last in ignored):
            continue
        near = [t for t in missed if abs(t - cut) <= TOLERANCE]
        if near:
            missed.remove(min(near, key=lambda t: abs(t - cut)))
            right += 1
        else:
            wrong.append(cut)
    found = sum(any(s <= last and e > first for s, e in spans) for first, last in gradual)
    return Score(right, tuple(wrong), tuple(missed), found, len(gradual))


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


def run_pyscenedetect(path: Path, detector: str, settings: Mapping[str, Any]) -> list[int]:
    """Return the cuts of one of PySceneDetect's detectors, run as its users run it."""
    import scenedetect
    from scenedetect import SceneManager, open_video

    manager = SceneManager()
    manager.add_detector(getattr(scenedetect, detector)(**settings))
    manager.detect_scenes(open_video(str(path), backend="pyav"))
    return [scene[0].frame_num for scene in manager.get_scene_list()][1:]


def measure(folder: Path, *, quick: bool) -> dict[str, dict[str, Score]]:
    """Return detector -> file -> score; the files of all detectors are the same."""
    truth = json.loads((folder / "GROUND_TRUTH.json").read_text(encoding="utf-8"))
    files = [name for name in truth if not name.startswith("_") and "cuts" in truth[name]]
    if quick:
        files = sorted(files, key=lambda name: truth[name].get("frames", 0))[:3]
    scores: dict[str, dict[str, Score]] = {}
    for name in files:
        frames = sample_video(folder / name)
        num_frames = frames[-1].last + 1
        fps = float(truth[name].get("fps", 24))
        for kind in OURS:
            found = run_ours(kind, frames, fps)
            spans = [(t.start_frame, t.end_frame) for t in found if t.kind == "gradual"]
            score = score_cuts(boundaries(found, num_frames), spans, truth[name])
            scores.setdefault(kind, {})[name] = score
        for baseline, (detector, settings) in BASELINES.items():
            score = score_cuts(
                run_pyscenedetect(folder / name, detector, settings), [], truth[name]
            )
            scores.setdefault(baseline, {})[name] = score
        print(f"{name}: {num_frames} frames", file=sys.stderr)
    return scores


def half_of(name: str) -> bool | None:
    """Return whether a file's source film is held out; None if the split does not name it."""
    for half, films in SPLIT.items():
        if any(fnmatch(name, pattern) for patterns in films.values() for pattern in patterns):
            return half == "held_out"
    return None


def rows_of(scores: Mapping[str, Mapping[str, Score]]) -> list[Row]:
    """Return F1 and gradual transitions found of each detector in each half, then file by file."""
    rows, by_file = [], []
    halves = {True: "held out", False: "tuning", None: "in neither half"}
    for held_out, half in halves.items():
        for detector, files in scores.items():
            own = {name: score for name, score in files.items() if half_of(name) == held_out}
            if own:
                rows += _total_rows(f"{detector}, {half}", sum(own.values(), Score()), held_out)
            by_file += [
                Row(f"hard cuts, {detector}, {name}", round(s.f1, 3), "F1", held_out,
                    f"wrong {list(s.wrong_at)}, missed {list(s.missed_at)}")
                for name, s in own.items()
            ]  # fmt: skip
    return rows + by_file


def _total_rows(title: str, total: Score, held_out: bool | None) -> list[Row]:
    rows = [Row(f"hard cuts, {title}", round(total.f1, 3), "F1", held_out, str(total))]
    if total.gradual_found:
        share = round(total.gradual_found / total.gradual, 3)
        note = f"{total.gradual_found} of {total.gradual}"
        rows.append(Row(f"gradual, {title}", share, "share", held_out, note))
    return rows


def main() -> None:
    """Measure every detector on every video."""
    arguments = _arguments()
    for folder in arguments.videos:
        if not (folder / "GROUND_TRUTH.json").is_file():
            sys.exit(f"{folder} has no GROUND_TRUTH.json; name a folder that has one.")
    scores: dict[str, dict[str, Score]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for number, folder in enumerate(arguments.videos):
            if arguments.variants:
                out = Path(temporary) / str(number)
                make_variants(folder, out, num_frames=VARIANT_FRAMES, quick=arguments.quick)
                folder = out
            for detector, files in measure(folder, quick=arguments.quick).items():
                scores.setdefault(detector, {}).update(files)
    report(arguments, "cut_accuracy", rows_of(scores))


def _arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument(
        "--videos", type=Path, nargs="+", metavar="FOLDER", help="videos and GROUND_TRUTH.json",
        required=True,
    )  # fmt: skip
    made.add_argument("--variants", action="store_true", help="measure variants of the videos")
    return made.parse_args()


if __name__ == "__main__":
    main()
