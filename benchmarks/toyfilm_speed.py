"""How fast are toy films rendered?

    python -m benchmarks.toyfilm_speed [--films N] [--sizes 64 128 ...] [--json FILE] [--quick]

Renders the shots of N films in this process, on one thread, and counts frames per second of
processor time; then the same with encoding to H.264 and writing the truth, which is what
`filmweaver toyfilms` does. --quick renders one film at 64 pixels.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import cv2

from benchmarks.report import Row, parser, report
from pipelines.toyfilms.config import ToyFilmsConfig
from pipelines.toyfilms.render import iter_film
from pipelines.toyfilms.story import sample_film
from pipelines.toyfilms.write import read_truth, write_film

FIRST_SEED = 3_000_000


def main() -> None:
    """Measure each size."""
    arguments = _arguments()
    cv2.setNumThreads(1)
    num_films, sizes = (1, [64]) if arguments.quick else (arguments.films, arguments.sizes)
    rows = []
    for size in sizes:
        config = ToyFilmsConfig(width=size, height=size)
        for write, what in ((False, "rendered"), (True, "rendered and encoded")):
            speed = measure(config, num_films, write=write)
            rows.append(Row(f"{size}x{size}, {what}", round(speed), "frames/core-s"))
    report(arguments, "toyfilm_speed", rows)


def measure(config: ToyFilmsConfig, num_films: int, *, write: bool) -> float:
    """Return frames per second of processor time over the films of the first seeds."""
    num_frames = 0
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        for seed in range(FIRST_SEED, FIRST_SEED + num_films):
            if write:
                num_frames += read_truth(write_film(config, seed, Path(folder)))["num_frames"]
            else:
                film = sample_film(seed, config)
                num_frames += sum(
                    1 for _ in iter_film(film, width=config.width, height=config.height)
                )
        return num_frames / (time.process_time() - started)


def _arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--films", type=int, default=8, help="films of each size")
    made.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 512], help="pixels")
    return made.parse_args()


if __name__ == "__main__":
    main()
