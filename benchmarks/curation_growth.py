"""How do time and memory of curation grow with the shots of a video, and with the videos?

    python benchmarks/curation_growth.py [--shots N,..] [--videos N,..] [--rows N,..] [--json FILE]

Each size is curated whole (analyze, embed, caption offline, finalize) by a process with a Ray of
its own on two CPUs, while its driver, its decoding children and its actors are weighed four times a
second. Compare the seconds that each shot, or video, more costs from size to size: what every run
needs to begin is not in them.

What the driver does by itself (listing what is done, duplicates, scenes, tables, compaction) is
then measured for more videos than can be decoded here: rows of two shots, as analysis commits them.
An empty list leaves a table out.
"""

from __future__ import annotations

import argparse
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

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import av
import cv2
import numpy as np
import psutil

from fw_model.schemas.curated import ANALYZED_VIDEOS
from pipelines.curation.ledger.ledger import Ledger
from pipelines.storage.store import Store

MIB = 1024 * 1024
FRAMES_OF_A_SHOT = 10
ROWS_OF_A_COMMIT = 8
ROLES = {"child": "pipelines.curation.analysis.decode_process", "actor": "ray::MapWorker"}


@dataclass(frozen=True)
class Cost:
    """What one run cost: seconds by phase, all of it, and the most memory of one process, MiB."""

    size: int
    seconds: dict[str, float]
    wall_s: float
    peak_mib: dict[str, float]


def main() -> None:
    """Measure, print, file."""
    arguments = _arguments()
    if arguments.curate:
        _curate(*arguments.curate)
        return
    if arguments.drive:
        _drive(*arguments.drive)
        return
    figures = {}
    with tempfile.TemporaryDirectory() as scratch:
        for title, sizes, write in (
            ("shots in one video", arguments.shots, _one_video),
            ("short videos", arguments.videos, _many_videos),
        ):
            costs = []
            for size in sizes:
                folder = Path(scratch) / f"{title}_{size}".replace(" ", "_")
                (folder / "films").mkdir(parents=True)
                write(folder / "films", size)
                costs.append(measure(size, folder))
            if costs:
                figures[title] = _report(title, costs)
        costs = [measure_driver(size, Path(scratch) / f"rows_{size}") for size in arguments.rows]
        if costs:
            figures["rows of videos"] = _report("rows of videos", costs)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def measure(size: int, folder: Path) -> Cost:
    """Curate a folder of films in a process of its own and weigh it meanwhile."""
    words = [sys.executable, __file__, "--curate", str(folder / "films"), str(folder / "out")]
    started = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak: dict[str, float] = {}
    while process.poll() is None:
        for role, mib in _weights(process.pid):
            peak[role] = max(peak.get(role, 0.0), mib)
        time.sleep(0.25)
    if process.returncode:
        sys.exit(f"curating {size} ended with code {process.returncode}")
    summary = json.loads((folder / "out" / "summary.json").read_text(encoding="utf-8"))
    return Cost(size, summary["seconds"], time.perf_counter() - started, peak)


def measure_driver(size: int, folder: Path) -> Cost:
    """Commit the rows of analyzed videos and let a process do with them what a driver does."""
    _, ledger = _books(str(folder))
    for first in range(0, size, ROWS_OF_A_COMMIT):
        rows = [_analyzed(number) for number in range(first, min(size, first + ROWS_OF_A_COMMIT))]
        ledger.commit(rows)
    words = [sys.executable, __file__, "--drive", str(folder), str(folder / "figures.json")]
    started = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    told = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    return Cost(size, told["seconds"], time.perf_counter() - started, told["mib"])


def _drive(output: str, figures: str) -> None:
    """Assemble, check and publish all rows of a ledger and compact it; tell time and memory."""
    from pipelines.curation.assembly.phase import AssemblePhase
    from pipelines.curation.config import CurationConfig
    from pipelines.curation.ledger.tables import check_unique, publish

    store, ledger = _books(output)
    config = CurationConfig(output=output)
    process, seconds = psutil.Process(), {}
    mib = {"imported": process.memory_info().rss / MIB}
    started = time.perf_counter()
    source_ids = sorted(ledger.entries(["status", "reason"]))
    seconds["list"] = time.perf_counter() - started
    mib["listed"] = process.memory_info().rss / MIB
    phase = AssemblePhase(config, store, ledger, None, "run", lambda name, done, total: None)
    parts = phase.run(source_ids)
    seconds["assemble"] = time.perf_counter() - started - seconds["list"]
    check_unique(store, parts)
    publish(store, parts, "run", {})
    ledger.compact(source_ids)
    seconds["finish"] = time.perf_counter() - started - sum(seconds.values())
    mib["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = {"seconds": seconds, "mib": mib}
    Path(figures).write_text(json.dumps(told), encoding="utf-8")


def _books(output: str) -> tuple[Store, Ledger]:
    store = Store(output)
    return store, Ledger(store, "analyzed", "rows", ANALYZED_VIDEOS, "source_id")


def _analyzed(number: int) -> dict[str, Any]:
    """Return the row of a video of two shots of 4 s, unlike those of any other number."""
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


def _weights(driver: int) -> list[tuple[str, float]]:
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
    """Write H.264 at 24 frames/s, 160x90: each shot a texture of its own that drifts."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 160, 90, "yuv420p"
        stream.options = {"preset": "veryfast"}
        for _ in range(num_shots):
            coarse = rng.integers(0, 255, (6, 10, 3), dtype=np.uint8)
            world = cv2.resize(coarse, (200, 100), interpolation=cv2.INTER_CUBIC)
            for x in range(FRAMES_OF_A_SHOT):
                picture = np.ascontiguousarray(world[:90, 2 * x : 2 * x + 160])
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                for packet in stream.encode(frame):
                    container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)


def _report(title: str, costs: list[Cost]) -> dict[str, object]:
    phases = list(costs[0].seconds)
    print(f"\n{title:>20}" + "".join(f"{name:>10}" for name in (*phases, "wall s")), end="")
    print("".join(f"{role + ' MiB':>12}" for role in sorted(costs[0].peak_mib)))
    for cost in costs:
        times = [*(cost.seconds[name] for name in phases), cost.wall_s]
        print(f"{cost.size:20}" + "".join(f"{value:10.1f}" for value in times), end="")
        print("".join(f"{mib:12.0f}" for _, mib in sorted(cost.peak_mib.items())))
    slopes = [
        (later.wall_s - first.wall_s) / (later.size - first.size)
        for first, later in zip(costs, costs[1:], strict=False)
    ]
    print("seconds for each one more: " + ", ".join(f"{slope:.4f}" for slope in slopes))
    rows = [
        {"size": c.size, "seconds": c.seconds, "wall_s": c.wall_s, "peak_mib": c.peak_mib}
        for c in costs
    ]
    return {"runs": rows, "seconds_for_each_one_more": slopes}


def _numbers(words: str) -> list[int]:
    return sorted(int(word) for word in words.split(",") if word)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shots", type=_numbers, default="100,1000,10000", help="in one video")
    parser.add_argument("--videos", type=_numbers, default="100,1000,3000", help="of two shots")
    parser.add_argument("--rows", type=_numbers, default="10000,30000,100000", help="of videos")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--curate", nargs=2, metavar=("SOURCE", "OUTPUT"), help=argparse.SUPPRESS)
    parser.add_argument("--drive", nargs=2, metavar=("OUTPUT", "FIGURES"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
