"""How fast are toy films drawn?

    python benchmarks/toyfilm_speed.py [--films N] [--sizes 64 128 ...] [--json FILE]

Draws the shots of N films in this process, on one thread, and counts frames a second of processor
time; then the same with encoding to H.264 and the truth beside it, which is what `filmweaver
toyfilms` does.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2

from pipelines.toyfilms.config import ToyFilmsConfig
from pipelines.toyfilms.render import iter_film
from pipelines.toyfilms.story import sample_film
from pipelines.toyfilms.write import read_truth, write_film

FIRST_SEED = 3_000_000


def main() -> None:
    """Draw, count, print."""
    arguments = _arguments()
    cv2.setNumThreads(1)
    figures = {}
    for size in arguments.sizes:
        config = ToyFilmsConfig(width=size, height=size)
        drawn, written = (measure(config, arguments.films, write=w) for w in (False, True))
        figures[str(size)] = {"drawn_per_s": drawn, "written_per_s": written}
        print(f"{size}x{size}: {drawn:.0f} frames/s a core drawn, {written:.0f} drawn and encoded")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def measure(config: ToyFilmsConfig, num_films: int, *, write: bool) -> float:
    """Return frames a second of processor time over the films of the first seeds."""
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=int, default=8)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 512])
    parser.add_argument("--json", type=Path, help="file to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
