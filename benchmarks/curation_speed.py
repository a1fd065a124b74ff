"""How fast is analyze, beside bare decoding and beside PySceneDetect alone?

    python benchmarks/curation_speed.py [FOLDER] [--rounds N] [--ray-videos N] [--json FILE]

Four ways through the same files, in turns, in this process and on one thread: PyAV decoding and
nothing else; the same with the decoder set as analyze sets it; analyze (shots, measurements,
keyframes as JPEG; no CLIP); PySceneDetect's adaptive detector with its PyAV back-end. The files are
all of FOLDER's that hold pictures and one generated 1080p30 H.264 film. What is compared is
processor time, which neighbours on the machine disturb least. Then one decoding child and two side
by side, and what Ray adds to each of many short videos, by wall clock.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as in a decoding child; read when NumPy is imported

import av
import cv2
import numpy as np

from pipelines.curation.analysis.analyze import analyze_file
from pipelines.curation.analysis.decode_process import DecodeSandbox
from pipelines.curation.analysis.shot_tracker import AnalyzeSettings
from pipelines.curation.analysis.video_stream import check_stream
from pipelines.curation.config import DecodeConfig, DetectorConfig, KeyframeConfig

SETTINGS = AnalyzeSettings(DecodeConfig(), DetectorConfig(), KeyframeConfig(), "benchmark")
WAYS = ("decode", "decode_alike", "analyze", "pyscenedetect")
VIDEOS = frozenset({".mp4", ".mkv", ".webm", ".mov", ".avi", ".ts"})


@dataclass
class Timed:
    """Processor seconds of each way through one file, a number a round."""

    video_s: float
    seconds: dict[str, list[float]] = field(default_factory=lambda: {w: [] for w in WAYS})

    def best(self, way: str) -> float:
        """Return the round that was disturbed least."""
        return min(self.seconds[way])


def main() -> None:
    """Measure, print, file."""
    arguments = _arguments()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as scratch:
        film = Path(scratch) / "generated_1080p30.mp4"
        write_1080p(film, seconds=arguments.film_s)
        given = sorted(p for p in arguments.folder.glob("*") if p.suffix in VIDEOS)
        timed = {path.name: race(path, arguments.rounds) for path in [*given, film] if _ok(path)}
        figures: dict[str, Any] = {
            "files": _report("given files", [t for n, t in timed.items() if n != film.name]),
            "generated_1080p30": _report("generated 1080p30", [timed[film.name]]),
        }
        every = _ratios(list(timed.values()))
        figures |= {
            key: every[key] for key in ("analyze_over_decode", "analyze_over_pyscenedetect")
        }
        figures["two_core_scaling"] = two_core_scaling(film, rounds=arguments.rounds)
        print(f"two decoding children do {figures['two_core_scaling']:.2f}x the work of one")
        if arguments.ray_videos:
            figures["ray"] = ray_overhead(Path(scratch), arguments.ray_videos)
            print("Ray: " + "  ".join(f"{k} {v:.4f}" for k, v in figures["ray"].items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def race(path: Path, rounds: int) -> Timed:
    """Take every way through a file, `rounds` times in turns."""
    ways: dict[str, Callable[[Path], Any]] = {
        "decode": decode, "decode_alike": decode_alike, "analyze": analyze,
        "pyscenedetect": pyscenedetect,
    }  # fmt: skip
    timed = Timed(decode(path))  # reads the file once before the clock runs
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.process_time()
            way(path)
            timed.seconds[name].append(time.process_time() - started)
    print(f"  {path.name}: {timed.video_s:.1f} s", file=sys.stderr)
    return timed


def decode(path: Path) -> float:
    """Decode every frame on one thread; return the video's seconds."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        number = sum(1 for _ in container.decode(stream))
        return number / float(stream.average_rate or 25)


def decode_alike(path: Path) -> None:
    """Decode every frame as analyze does, and no more."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        check_stream(stream, SETTINGS.decode)
        for _ in container.decode(stream):
            pass


def analyze(path: Path) -> None:
    """Do what a decoding child does with a video."""
    analyze_file(path, uri=str(path), settings=SETTINGS, on_keyframe=lambda sha256, jpeg: None)


def pyscenedetect(path: Path) -> None:
    """Find cuts as PySceneDetect's users do."""
    from scenedetect import AdaptiveDetector, SceneManager, open_video

    manager = SceneManager()
    manager.add_detector(AdaptiveDetector())
    manager.detect_scenes(open_video(str(path), backend="pyav"))


def two_core_scaling(film: Path, *, rounds: int, videos: int = 4) -> float:
    """Return how much more two decoding children get done than one, in the same wall time."""
    sandboxes = [DecodeSandbox(SETTINGS) for _ in range(2)]

    def work(sandbox: DecodeSandbox) -> None:
        for _ in range(videos):
            sandbox.analyze(str(film), uri=str(film), on_keyframe=lambda sha256, jpeg: None)

    def wall_s(children: int) -> float:
        started = time.perf_counter()
        with ThreadPoolExecutor(children) as pool:
            list(pool.map(work, sandboxes[:children]))
        return time.perf_counter() - started

    wall_s(2)  # starts the children
    gains = [2 * wall_s(1) / wall_s(2) for _ in range(rounds)]
    for sandbox in sandboxes:
        sandbox.close()
    return statistics.median(gains)


def ray_overhead(scratch: Path, most: int) -> dict[str, float]:
    """Return what a short video costs through Ray and by itself, from the growth of two runs."""
    import ray

    from fw_model.schemas.curated import ANALYZED_VIDEOS
    from pipelines.curation.analysis.operators import PENDING_VIDEO, AnalyzeVideos
    from pipelines.curation.ledger.ledger import Ledger
    from pipelines.curation.ledger.receipts import Provenance
    from pipelines.curation.pools import blocks_of
    from pipelines.storage.store import Store

    clip = scratch / "short.mp4"
    write_1080p(clip, seconds=2.0, width=320, height=180)
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error")
    ray.data.DataContext.get_current().enable_progress_bars = False

    def run(number: int) -> tuple[float, float]:
        """Return the wall seconds of a run and the seconds its videos say they took."""
        store = Store(str(scratch / f"out{number}"))
        ledger = Ledger(store, "decoded", "benchmark", ANALYZED_VIDEOS, "source_id")
        rows = [
            {"source_id": f"{i:08d}", "uri": str(clip), "size_bytes": 1, "modified": "",
             "attempts": 1}
            for i in range(number)
        ]  # fmt: skip
        started = time.perf_counter()
        videos = blocks_of(rows, PENDING_VIDEO, num_actors=2).map_batches(
            AnalyzeVideos,
            fn_constructor_args=(SETTINGS, store, ledger, Provenance("", "", "")),
            batch_size=1, batch_format="pyarrow", num_cpus=1.0,
            compute=ray.data.ActorPoolStrategy(min_size=2, max_size=2),
        )  # fmt: skip
        for _ in videos.iter_batches(batch_size=None, batch_format="pyarrow"):
            pass
        wall_s = time.perf_counter() - started
        spent = ledger.read(ledger.entries(()))
        return wall_s, sum(row["analyze_s"] for row in spent)

    few, many = most // 4, most
    (few_wall, few_work), (many_wall, many_work) = run(few), run(many)
    ray.shutdown()
    wall = (many_wall - few_wall) / (many - few)
    work = (many_work - few_work) / (many - few)
    return {
        "videos": float(most),
        "core_s_per_video": 2 * wall,
        "analyze_s_per_video": work,
        "overhead_s_per_video": 2 * wall - work,
        "start_s": few_wall - few * wall,
    }


def write_1080p(path: Path, *, seconds: float, width: int = 1920, height: int = 1080) -> None:
    """Write H.264 at 30 frames/s: a camera drifting over fine texture, a hard cut every 4 s."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "21", "preset": "medium"}
        for index in range(round(seconds * 30)):
            if index % 120 == 0:
                world = _texture(rng, width + 480, height + 240)
            x, y = 2 * (index % 120), index % 120
            picture = np.ascontiguousarray(world[y : y + height, x : x + width])
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        container.mux(stream.encode(None))


def _texture(rng: np.random.Generator, width: int, height: int) -> Any:
    """Return a picture with detail of every size, as footage has."""
    total = np.zeros((height, width, 3), np.float32)
    for cell in (4, 16, 64, 256):
        small = rng.normal(size=(height // cell + 2, width // cell + 2, 3)).astype(np.float32)
        total += cell**0.5 * cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    total = (total - total.min()) / (total.max() - total.min())
    return (255 * total).astype(np.uint8)


def _ratios(timed: list[Timed]) -> dict[str, float]:
    total = {way: sum(t.best(way) for t in timed) for way in WAYS}
    video_s = sum(t.video_s for t in timed)
    return {
        **{f"{way}_video_s_per_core_s": video_s / total[way] for way in WAYS},
        "analyze_over_decode": total["analyze"] / total["decode"],
        "analyze_over_decode_alike": total["analyze"] / total["decode_alike"],
        "analyze_over_pyscenedetect": total["analyze"] / total["pyscenedetect"],
    }


def _report(title: str, timed: list[Timed]) -> dict[str, float]:
    ratios = _ratios(timed) if timed else {}
    print(f"{title} ({len(timed)})")
    for name, value in ratios.items():
        print(f"  {name:34}{value:8.2f}")
    return ratios


def _ok(path: Path) -> bool:
    """Tell whether all three can read a file: broken ones show nothing of speed."""
    try:
        return decode(path) > 0
    except (av.error.FFmpegError, IndexError):
        return False


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("FILMWEAVER_TEST_VIDEOS", "../shared/videos")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(default))
    parser.add_argument("--rounds", type=int, default=3, help="turns through every file")
    parser.add_argument("--film-s", type=float, default=20.0, help="length of the generated film")
    parser.add_argument("--ray-videos", type=int, default=400, help="short videos; 0 leaves out")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
