"""How fast is analysis, beside bare decoding and beside PySceneDetect alone?

    python -m benchmarks.curation_speed [--videos FOLDER] [--rounds N] [--ray-videos N]
        [--json FILE] [--quick]

Four ways through the same files, alternately, in this process and on one thread: PyAV decoding and
nothing else; the same with the decoder options that analysis uses; analysis (shots, measurements,
keyframes as JPEG; no CLIP); PySceneDetect's adaptive detector with its PyAV backend. The files are
all readable videos of FOLDER and one generated 1080p30 H.264 film. Processor time is compared,
because it depends least on what else the machine does. Then one decoding child and two side by
side, and what Ray adds to each of many short videos, in wall time. --quick decodes five seconds of
the generated film once.
"""

from __future__ import annotations

import argparse
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

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as in a decoding child; read when NumPy is imported

import av
import cv2
import numpy as np

from benchmarks.report import Row, parser, report
from pipelines.curation.analysis.analyze import analyze_file
from pipelines.curation.analysis.decode_process import DecodeSandbox
from pipelines.curation.analysis.shot_tracker import AnalyzeSettings
from pipelines.curation.analysis.video_stream import check_stream
from pipelines.curation.config import DecodeConfig, DetectorConfig, KeyframeConfig

SETTINGS = AnalyzeSettings(DecodeConfig(), DetectorConfig(), KeyframeConfig(), "benchmark")
WAYS = ("decode", "decode_same_options", "analyze", "pyscenedetect")
VIDEOS = frozenset({".mp4", ".mkv", ".webm", ".mov", ".avi", ".ts"})


@dataclass
class Timed:
    """Processor seconds of each way through one file, one number per round."""

    video_s: float
    seconds: dict[str, list[float]] = field(default_factory=lambda: {w: [] for w in WAYS})

    def best(self, way: str) -> float:
        """Return the fastest round."""
        return min(self.seconds[way])


def main() -> None:
    """Measure files, children and Ray."""
    arguments = _arguments()
    cv2.setNumThreads(1)
    quick = arguments.quick
    rounds = 1 if quick else arguments.rounds
    with tempfile.TemporaryDirectory() as temporary:
        film = Path(temporary) / "generated_1080p30.mp4"
        write_1080p(film, seconds=5.0 if quick else arguments.film_s)
        given = [] if quick or arguments.videos is None else sorted(arguments.videos.iterdir())
        files = [path for path in given if path.suffix in VIDEOS and _is_readable(path)]
        timed = [race(path, rounds) for path in [*files, film]]
        rows = _rows("all files", timed)
        rows += _rows("given files", timed[:-1]) + _rows("generated 1080p30", timed[-1:])
        gain = two_core_scaling(film, rounds=rounds, videos=1 if quick else 4)
        rows.append(Row("two decoding children over one", round(gain, 2), "x"))
        if arguments.ray_videos and not quick:
            rows += ray_overhead(Path(temporary), arguments.ray_videos)
    report(arguments, "curation_speed", rows)


def race(path: Path, rounds: int) -> Timed:
    """Take every way through a file, `rounds` times, alternating."""
    ways: dict[str, Callable[[Path], Any]] = {
        "decode": decode, "decode_same_options": decode_same_options, "analyze": analyze,
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


def decode_same_options(path: Path) -> None:
    """Decode every frame with the decoder options of analysis."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        check_stream(stream, SETTINGS.decode)
        for _ in container.decode(stream):
            pass


def analyze(path: Path) -> None:
    """Do what a decoding child does with a video."""
    analyze_file(path, uri=str(path), settings=SETTINGS, on_keyframe=lambda sha256, jpeg: None)


def pyscenedetect(path: Path) -> None:
    """Find cuts with PySceneDetect's defaults."""
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


def ray_overhead(folder: Path, most: int) -> list[Row]:
    """Return what a short video costs through Ray and by itself, from the growth of two runs."""
    import pyarrow as pa
    import ray

    from fw_model.schemas.curated import ANALYZED_VIDEOS
    from pipelines.curation.analysis.operators import PENDING_VIDEO, AnalyzeVideos
    from pipelines.curation.ledger.ledger import Ledger
    from pipelines.curation.ledger.receipts import Provenance
    from pipelines.curation.ledger.shards import Shard
    from pipelines.curation.pools import blocks_of
    from pipelines.curation.spool import ShardSpool
    from pipelines.storage.store import Store

    video = folder / "short.mp4"
    write_1080p(video, seconds=2.0, width=320, height=180)
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error")
    ray.data.DataContext.get_current().enable_progress_bars = False

    def run(number: int) -> tuple[float, float]:
        """Return the wall seconds of a run, and the seconds recorded for its videos."""
        store = Store(str(folder / f"out{number}"))
        ledger = Ledger(store, "decoded", "benchmark", ANALYZED_VIDEOS, "source_id")
        rows = [
            {"source_id": f"{i:08d}", "uri": str(video), "size_bytes": 1, "modified": "",
             "attempts": 1}
            for i in range(number)
        ]  # fmt: skip
        started = time.perf_counter()
        videos = ShardSpool()
        videos.put(Shard(), pa.Table.from_pylist(rows, schema=PENDING_VIDEO))
        analyzed = blocks_of(videos).map_batches(
            AnalyzeVideos,
            fn_constructor_args=(SETTINGS, store, ledger, Provenance("", "", "")),
            batch_size=1, batch_format="pyarrow", num_cpus=1.0,
            compute=ray.data.ActorPoolStrategy(min_size=2, max_size=2),
        )  # fmt: skip
        for _ in analyzed.iter_batches(batch_size=None, batch_format="pyarrow"):
            pass
        wall_s = time.perf_counter() - started
        spent = ledger.read(ledger.entries(()))
        return wall_s, sum(row["analyze_s"] for row in spent)

    few, many = most // 4, most
    (few_wall, few_work), (many_wall, many_work) = run(few), run(many)
    ray.shutdown()
    wall = (many_wall - few_wall) / (many - few)
    work = (many_work - few_work) / (many - few)
    return [
        Row("core time per short video through Ray", round(2 * wall, 4), "core-s"),
        Row("Ray's share of it", round(2 * wall - work, 4), "core-s"),
        Row("start of Ray and its actors", round(few_wall - few * wall, 1), "s"),
    ]


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


def _rows(title: str, timed: list[Timed]) -> list[Row]:
    if not timed:
        return []
    total = {way: sum(t.best(way) for t in timed) for way in WAYS}
    video_s = sum(t.video_s for t in timed)
    note = f"{len(timed)} files"
    ratios = [
        Row(
            f"analysis over {way}, {title}", round(total["analyze"] / total[way], 2), "x", note=note
        )
        for way in WAYS
        if way != "analyze"
    ]
    return ratios + [
        Row(f"{way}, {title}", round(video_s / total[way], 1), "video-s/core-s") for way in WAYS
    ]


def _is_readable(path: Path) -> bool:
    """Whether the file can be decoded: broken files say nothing about speed."""
    try:
        return decode(path) > 0
    except (av.error.FFmpegError, IndexError):
        return False


def _arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--videos", type=Path, help="folder of videos to time as well")
    made.add_argument("--rounds", type=int, default=3, help="rounds through every file")
    made.add_argument("--film-s", type=float, default=20.0, help="length of the generated film")
    made.add_argument("--ray-videos", type=int, default=400, help="short videos; 0 leaves Ray out")
    return made.parse_args()


if __name__ == "__main__":
    main()
