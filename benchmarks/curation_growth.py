"""How do time and memory of curation grow with the shots of a video, and with the videos?

    python -m benchmarks.curation_growth [--store local|s3] [--shots N,..] [--videos N,..]
        [--rows N,..] [--shots-per-row N] [--latency-ms N] [--json FILE]

Each size is curated whole (analyze, embed, caption offline, finalize) by a process with its own Ray
on two CPUs, while the memory of its driver, its decoding children and its actors is read four times
a second. Compare the seconds that each further shot or video costs from size to size: they leave
out what every run needs to start.

More videos than can be decoded here are rows of analyzed videos, as an interrupted run leaves them
(`benchmarks/finished_videos.py`). A run finds them (list, analyze), makes the tables (assemble),
gives every shot the same text (caption) and publishes (finalize).

With --store s3, source and output are in a bucket of an S3 server on loopback, which counts the
requests and answers each --latency-ms late. Short videos then have five shots.

An empty list leaves a table out. --quick curates one small video and publishes 1,000 and 2,000
rows; with --store s3, four videos and 500 rows.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import psutil

from benchmarks.finished_videos import settings, write_finished, write_manifest
from benchmarks.object_store import BUCKET, ObjectStore, serve
from benchmarks.report import Row, parser, report
from pipelines.storage.store import Store

MIB = 1024 * 1024
FRAMES_PER_SHOT = 10
SHOTS_PER_VIDEO = 5
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
    elif arguments.finish:
        _finish(*arguments.finish)
    elif arguments.store == "s3":
        report(arguments, "curation_growth_s3", _in_bucket(arguments))
    else:
        rows = _on_disk(arguments)
        rows.sort(key=lambda row: not row.metric.startswith("each further"))
        report(arguments, "curation_growth", rows)


def _on_disk(arguments: argparse.Namespace) -> list[Row]:
    shots, videos, finished = arguments.shots, arguments.videos, arguments.rows
    if arguments.quick:
        shots, videos, finished = [20], [], [1000, 2000]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        for title, numbers, write in (
            ("shots in one video", shots, _one_video),
            ("short videos", videos, _many_videos),
        ):
            costs = []
            for size in numbers:
                folder = Path(temporary) / f"{title}_{size}".replace(" ", "_")
                (folder / "films").mkdir(parents=True)
                write(folder / "films", size)
                costs.append(measure(size, folder))
            rows += _rows(title, costs)
        costs = []
        for size in finished:
            folder = Path(temporary) / f"rows_{size}"
            folder.mkdir()
            costs.append(measure_finished(size, folder, str(folder / "out"), arguments))
        rows += _rows("rows of videos", costs)
    return rows


def _in_bucket(arguments: argparse.Namespace) -> list[Row]:
    """Count the requests of short videos, and time a run over finished ones."""
    videos, finished = arguments.videos, arguments.rows
    if arguments.quick:
        videos, finished = [4], [500]
    rows: list[Row] = []
    with serve() as server, tempfile.TemporaryDirectory() as temporary:
        os.environ.update(server.environment())
        for size in videos:
            films = Path(temporary) / f"films_{size}"
            films.mkdir()
            _many_videos(films, size, SHOTS_PER_VIDEO)
            source, output = f"s3://{BUCKET}/in{size}", f"s3://{BUCKET}/out{size}"
            store = Store(source)
            for film in films.iterdir():
                store.write_file(film.name, film)
            figures = Path(temporary) / "figures.json"
            server.set_latency(arguments.latency_ms / 1000)
            before = server.counts()
            subprocess.run([*THIS, "--finish", source, output, str(figures)], check=True)
            rows += request_rows(f"{size} videos", size, server.counts() - before, figures)
            server.set_latency(0.0)
        costs = []
        for size in finished:
            folder = Path(temporary) / f"rows_{size}"
            folder.mkdir()
            output = f"s3://{BUCKET}/rows{size}"
            costs.append(measure_finished(size, folder, output, arguments, server))
        rows += _rows("rows of videos", costs)
    return rows


def request_rows(title: str, size: int, counts: Counter[str], figures: Path) -> list[Row]:
    """Return the requests per video by phase and by kind."""
    phases: dict[str, dict[str, int]] = json.loads(figures.read_text(encoding="utf-8"))["requests"]
    rows = [Row(f"requests per video, {title} of {SHOTS_PER_VIDEO} shots",
                round(counts.total() / size, 2))]  # fmt: skip
    for phase, kinds in phases.items():
        note = ", ".join(f"{kind} {number}" for kind, number in sorted(kinds.items()))
        per_video = round(sum(kinds.values()) / size, 2)
        rows.append(Row(f"requests per video, {title}, {phase}", per_video, note=note))
    return rows


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


def measure_finished(
    size: int,
    folder: Path,
    output: str,
    arguments: argparse.Namespace,
    server: ObjectStore | None = None,
) -> Cost:
    """Write rows of analyzed videos and have another process curate them to the end."""
    manifest, figures = folder / "videos.parquet", folder / "figures.json"
    write_manifest(manifest, size)
    write_finished(manifest, output, arguments.shots_per_row)
    if server is not None:
        server.set_latency(arguments.latency_ms / 1000)
    started = time.perf_counter()
    subprocess.run([*THIS, "--finish", str(manifest), output, str(figures)], check=True)
    wall_s = time.perf_counter() - started
    if server is not None:
        server.set_latency(0.0)
    found = json.loads(figures.read_text(encoding="utf-8"))
    return Cost(size, found["seconds"], wall_s, found["mib"])


def _finish(source: str, output: str, figures: str) -> None:
    """Curate with a captioner that costs nothing; write time, memory and requests by phase."""
    from cluster.ray_start import start_ray
    from fw_model.loading.config import ModelConfig
    from pipelines.curate import run_curation

    start_ray("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    url = os.environ.get("AWS_ENDPOINT_URL") if output.startswith("s3") else None
    server = ObjectStore(url) if url else None
    requests: dict[str, Counter[str]] = {}
    mib: dict[str, float] = {}
    last = server.counts() if server else Counter()

    def on_progress(phase: str, done: int, total: int) -> None:
        nonlocal last
        mib[f"driver, {phase}"] = psutil.Process().memory_info().rss / MIB
        if server and (done == total or not done):
            now = server.counts()
            name = phase if done else f"before {phase}"
            requests[name] = requests.get(name, Counter()) + (now - last)
            last = now

    summary = run_curation(settings(source, output), ModelConfig(), on_progress=on_progress)
    if server:
        requests["finalize"] = server.counts() - last
    mib["driver"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"seconds": summary.seconds, "mib": mib, "requests": requests}
    Path(figures).write_text(json.dumps(found), encoding="utf-8")


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


def _many_videos(folder: Path, number: int, num_shots: int = 2) -> None:
    with ProcessPoolExecutor(2) as pool:
        futures = [
            pool.submit(_write_video, folder / f"{index:06d}.mp4", num_shots, seed=index + 1)
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
    made.add_argument("--store", choices=["local", "s3"], default="local")
    made.add_argument("--shots", type=_numbers, default="100,1000,10000", help="in one video")
    made.add_argument("--videos", type=_numbers, help="short ones (default: by --store)")
    made.add_argument("--rows", type=_numbers, help="of finished videos (default: by --store)")
    made.add_argument("--shots-per-row", type=int, default=SHOTS_PER_VIDEO)
    made.add_argument("--latency-ms", type=float, default=20.0, help="of each request (s3)")
    made.add_argument("--curate", nargs=2, metavar=("SOURCE", "OUTPUT"), help=argparse.SUPPRESS)
    made.add_argument(
        "--finish", nargs=3, metavar=("SOURCE", "OUTPUT", "FIGURES"), help=argparse.SUPPRESS
    )
    found = made.parse_args()
    is_local = found.store == "local"
    if found.videos is None:
        found.videos = [100, 1000, 3000] if is_local else [500]
    if found.rows is None:
        found.rows = [100_000, 1_000_000] if is_local else [100_000]
    return found


if __name__ == "__main__":
    main()
