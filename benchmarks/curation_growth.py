"""How do time and memory of curation grow with the shots of a video, and with the videos?

    python -m benchmarks.curation_growth [--shots N,..] [--videos N,..] [--rows N,..] [--json FILE]

Each size is curated whole (analyze, embed, caption offline, finalize) by a process with its own Ray
on two CPUs, while the memory of its driver, its decoding children and its actors is read four times
a second. Compare the seconds that each further shot or video costs from size to size: they leave
out what every run needs to start.

What the driver does by itself (listing what is done, duplicates, scenes, tables, compaction) is
then measured for more videos than can be decoded here: rows of two shots, as analysis commits them.
An empty list leaves a table out. --quick curates one small video and publishes 1,000 and 2,000
rows.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import psutil

from benchmarks.report import Row, parser, report
from fw_model.schemas.curated import ANALYZED_VIDEOS
from pipelines.curation.ledger.ledger import Ledger
from pipelines.storage.store import Store

MIB = 1024 * 1024
FRAMES_PER_SHOT = 10
ROWS_PER_COMMIT = 8
THIS = (sys.executable, "-m", "benchmarks.curation_growth")
ROLES = {"child": "pipelines.curation.analysis.decode_process", "actor": "ray::MapWorker"}


@dataclass(frozen=True)
class Cost:
    """What one run cost: seconds by phase, all of it, and the most memory of one process, MiB."""

    size: int
    seconds: dict[str, float]
    wall_s: float
    peak_mib: dict[str, float]


def main() -> None:
    """Measure every table that is asked for."""
    arguments = _arguments()
    if arguments.curate:
        _curate(*arguments.curate)
        return
    if arguments.drive:
        _drive(*arguments.drive)
        return
    sizes = (arguments.shots, arguments.videos, arguments.rows)
    if arguments.quick:
        sizes = ([20], [], [1000, 2000])
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        for title, numbers, write in (
            ("shots in one video", sizes[0], _one_video),
            ("short videos", sizes[1], _many_videos),
        ):
            costs = []
            for size in numbers:
                folder = Path(temporary) / f"{title}_{size}".replace(" ", "_")
                (folder / "films").mkdir(parents=True)
                write(folder / "films", size)
                costs.append(measure(size, folder))
            rows += _rows(title, costs)
        costs = [measure_driver(size, Path(temporary) / f"rows_{size}") for size in sizes[2]]
        rows += _rows("rows of videos", costs)
    rows.sort(key=lambda row: not row.metric.startswith("each further"))
    report(arguments, "curation_growth", rows)


def measure(size: int, folder: Path) -> Cost:
    """Curate a folder of films in another process and read its memory meanwhile."""
    words = [*THIS, "--curate", str(folder / "films"), str(folder / "out")]
    started = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak: dict[str, float] = {}
    while process.poll() is None:
        for role, mib in _memory(process.pid):
            peak[role] = max(peak.get(role, 0.0), mib)
        time.sleep(0.25)
    if process.returncode:
        sys.exit(f"Curating {size} failed with exit code {process.returncode}.")
    summary = json.loads((folder / "out" / "summary.json").read_text(encoding="utf-8"))
    return Cost(size, summary["seconds"], time.perf_counter() - started, peak)


def measure_driver(size: int, folder: Path) -> Cost:
    """Commit rows of analyzed videos and have a process do with them what a driver does."""
    _, ledger = _ledger(str(folder))
    for first in range(0, size, ROWS_PER_COMMIT):
        rows = [_analyzed(number) for number in range(first, min(size, first + ROWS_PER_COMMIT))]
        ledger.commit(rows)
    words = [*THIS, "--drive", str(folder), str(folder / "figures.json")]
    started = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    return Cost(size, figures["seconds"], time.perf_counter() - started, figures["mib"])


def _drive(output: str, figures: str) -> None:
    """Assemble, check and publish all rows of a ledger and compact it; write time and memory."""
    from pipelines.curation.assembly.phase import AssemblePhase
    from pipelines.curation.config import CurationConfig
    from pipelines.curation.ledger.tables import check_unique, publish

    store, ledger = _ledger(output)
    config = CurationConfig(output=output)
    process, seconds = psutil.Process(), {}
    mib = {"imported": process.memory_info().rss / MIB}
    started = time.perf_counter()
    source_ids = sorted(ledger.entries(["status", "reason"]))
    seconds["list"] = time.perf_counter() - started
    mib["listed"] = process.memory_info().rss / MIB
    phase = AssemblePhase(config, store, ledger, None, "run", lambda done, total: None)
    parts = phase.run(source_ids)
    seconds["assemble"] = time.perf_counter() - started - seconds["list"]
    check_unique(store, parts)
    publish(store, parts, "run", {})
    ledger.compact(source_ids)
    seconds["finish"] = time.perf_counter() - started - sum(seconds.values())
    mib["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    Path(figures).write_text(json.dumps({"seconds": seconds, "mib": mib}), encoding="utf-8")


def _ledger(output: str) -> tuple[Store, Ledger]:
    store = Store(output)
    return store, Ledger(store, "analyzed", "rows", ANALYZED_VIDEOS, "source_id")


def _analyzed(number: int) -> dict[str, Any]:
    """Return the row of a video of two shots of 4 s, different for every number."""
    rng = np.random.default_rng(number)
    name = f"{number:012d}"
    shots = [_shot(rng, name, index) for index in range(2)]
    return {
        "source_id": name, "video_id": name, "uri": f"s3://bucket/videos/{name}.mp4",
        "status": "kept", "attempts": 1, "width": 1920, "height": 1080, "fps": 24.0,
        "num_frames": 192, "duration_s": 8.0, "num_shots": 2, "shots": shots, "analyze_s": 0.5,
    }  # fmt: skip


def _shot(rng: np.random.Generator, video: str, index: int) -> dict[str, Any]:
    embedding = rng.normal(size=512).astype(np.float32)
    sha256 = rng.bytes(32).hex()
    first, last = 96 * index, 96 * (index + 1)
    return {
        "shot_id": f"{video}{index}", "index": index, "start_frame": first, "end_frame": last,
        "content_start_frame": first, "content_end_frame": last,
        "start_s": first / 24, "end_s": last / 24,
        "motion": 5.0, "luma": 100.0, "contrast": 40.0, "text_area": 0.0,
        "fingerprint": [rng.bytes(32) for _ in range(3)],
        "colours": np.full(128, 128**-0.5, np.float32),
        "keyframes": [
            {"frame": frame, "time_s": frame / 24, "uri": f"media/{sha256}.jpg", "sha256": sha256,
             "width": 512, "height": 288}
            for frame in range(first + 16, last, 32)
        ],
        "embedding": embedding / np.linalg.norm(embedding),
    }  # fmt: skip


def _memory(driver: int) -> list[tuple[str, float]]:
    """Return the role and memory of every process of a run."""
    found = []
    try:
        family = [psutil.Process(driver), *psutil.Process(driver).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    for process in family:
        try:
            words, mib = " ".join(process.cmdline()), process.memory_info().rss / MIB
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        role = "driver" if process.pid == driver else None
        role = next((name for name, word in ROLES.items() if word in words), role)
        if role:
            found.append((role, mib))
    return found


def _curate(source: str, output: str) -> None:
    from cluster.ray_start import start_ray
    from fw_model.loading.config import ModelConfig
    from pipelines.curate import run_curation
    from pipelines.curation.config import CurationConfig, FilterConfig

    start_ray("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    keep_all = FilterConfig(min_shot_s=None, min_motion=None)
    run_curation(CurationConfig(source=source, output=output, filters=keep_all), ModelConfig())


def _one_video(folder: Path, num_shots: int) -> None:
    _write_video(folder / "film.mp4", num_shots, seed=0)


def _many_videos(folder: Path, number: int) -> None:
    with ProcessPoolExecutor(2) as pool:
        futures = [
            pool.submit(_write_video, folder / f"{index:06d}.mp4", 2, seed=index + 1)
            for index in range(number)
        ]
        for future in futures:
            future.result()


def _write_video(path: Path, num_shots: int, *, seed: int) -> None:
    """Write H.264 at 24 frames/s, 160x90; each shot is another drifting texture."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 160, 90, "yuv420p"
        stream.options = {"preset": "veryfast"}
        for _ in range(num_shots):
            coarse = rng.integers(0, 255, (6, 10, 3), dtype=np.uint8)
            world = cv2.resize(coarse, (200, 100), interpolation=cv2.INTER_CUBIC)
            for x in range(FRAMES_PER_SHOT):
                picture = np.ascontiguousarray(world[:90, 2 * x : 2 * x + 160])
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                for packet in stream.encode(frame):
                    container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)


def _rows(title: str, costs: list[Cost]) -> list[Row]:
    slopes = [
        Row(f"each further of {title}, {first.size} to {later.size}",
            round((later.wall_s - first.wall_s) / (later.size - first.size), 5), "s")
        for first, later in itertools.pairwise(costs)
    ]  # fmt: skip
    times = [
        Row(f"{cost.size} {title}, {phase}", round(seconds, 1), "s")
        for cost in costs
        for phase, seconds in {**cost.seconds, "wall": cost.wall_s}.items()
    ]
    memory = [
        Row(f"{cost.size} {title}, most memory of {role}", round(mib), "MiB")
        for cost in costs
        for role, mib in sorted(cost.peak_mib.items())
    ]
    return slopes + times + memory


def _numbers(words: str) -> list[int]:
    return sorted(int(word) for word in words.split(",") if word)


def _arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--shots", type=_numbers, default="100,1000,10000", help="in one video")
    made.add_argument("--videos", type=_numbers, default="100,1000,3000", help="of two shots")
    made.add_argument("--rows", type=_numbers, default="10000,30000,100000", help="of videos")
    made.add_argument("--curate", nargs=2, metavar=("SOURCE", "OUTPUT"), help=argparse.SUPPRESS)
    made.add_argument("--drive", nargs=2, metavar=("OUTPUT", "FIGURES"), help=argparse.SUPPRESS)
    return made.parse_args()


if __name__ == "__main__":
    main()
