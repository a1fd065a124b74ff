"""Makes variants of judged videos that change the picture and not the cuts, for cut_accuracy.py.

    python -m benchmarks.cut_variants OUT --videos FOLDER [--frames N] [--quick]
    python -m benchmarks.cut_accuracy --videos OUT

FOLDER holds videos and GROUND_TRUTH.json (see cut_accuracy.py). Of each video with a cut, the first
N frames go to OUT, 320 pixels wide, between bars (letterbox, pillarbox, window), in a fifth of the
light, at a quarter of the contrast, at a low bitrate, as MPEG-2, and at half and at twice the frame
rate. A variant's name begins with its source's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.report import Row, parser, report
from fw_model.media.video import Pixels

WIDTH = 320
SPANS = ("gradual", "ambiguous")


@dataclass(frozen=True)
class Variant:
    """What happens to frames [H, W, 3] and how they are encoded; every `keep`-th frame is kept, and
    each is shown `repeat` times."""

    change: Callable[[Pixels], Pixels]
    codec: str = "libx264"
    options: Mapping[str, str] | None = None
    suffix: str = ".mp4"
    keep: int = 1
    repeat: int = 1


def _same(frame: Pixels) -> Pixels:
    return frame


def _bars(rows: float, columns: float) -> Callable[[Pixels], Pixels]:
    """Return what puts black bars around a frame: shares of its height and width on each side."""

    def padded(frame: Pixels) -> Pixels:
        down = 2 * round(frame.shape[0] * rows / 2)
        across = 2 * round(frame.shape[1] * columns / 2)
        return np.pad(frame, ((down, down), (across, across), (0, 0)))

    return padded


def _scaled(gain: float, offset: float) -> Callable[[Pixels], Pixels]:
    return lambda frame: (frame * gain + offset).astype(np.uint8)


VARIANTS: Mapping[str, Variant] = {
    "letterbox": Variant(_bars(0.18, 0.0)),
    "pillarbox": Variant(_bars(0.0, 0.5)),
    "window": Variant(_bars(0.15, 0.15)),
    "dark": Variant(_scaled(0.2, 0.0)),
    "flat": Variant(_scaled(0.25, 110.0)),
    "low_bitrate": Variant(_same, options={"crf": "40"}),
    "mpeg2": Variant(_same, "mpeg2video", {"b": "600000"}, ".mpg"),
    "half_rate": Variant(_same, keep=2),
    "twice_rate": Variant(_same, repeat=2),
}


def make_variants(folder: Path, out: Path, *, num_frames: int, quick: bool) -> dict[str, Any]:
    """Write every variant of every judged video with a cut, and their truth, which is returned."""
    out.mkdir(parents=True, exist_ok=True)
    truth = json.loads((folder / "GROUND_TRUTH.json").read_text(encoding="utf-8"))
    judged = {
        name: known
        for name, known in truth.items()
        if not name.startswith("_") and any(c < num_frames for c in known.get("cuts", []))
    }
    if quick:
        judged = dict(sorted(judged.items(), key=lambda item: item[1].get("frames", 0))[:1])
    found: dict[str, Any] = {}
    for name, known in judged.items():
        frames = list(_frames(folder / name, num_frames))
        known = shortened(known, len(frames))
        for kind, variant in VARIANTS.items():
            file = f"{Path(name).stem}_{kind}{variant.suffix}"
            shown = [f for f in frames[:: variant.keep] for _ in range(variant.repeat)]
            fps = float(known.get("fps", 24)) * variant.repeat / variant.keep
            _write(out / file, map(variant.change, shown), fps, variant)
            found[file] = retimed(known, variant) | {"fps": fps, "frames": len(shown)}
    text = json.dumps(found, indent=1) + "\n"
    (out / "GROUND_TRUTH.json").write_text(text, encoding="utf-8")
    return found


def shortened(known: Mapping[str, Any], num_frames: int) -> dict[str, Any]:
    """Return the truth of a video's first frames; a span that is cut off is left out of account."""
    spans = {name: [s for s in known.get(name, []) if s[1] < num_frames] for name in SPANS}
    halved = [
        [first, num_frames - 1]
        for name in SPANS
        for first, last in known.get(name, [])
        if first < num_frames <= last
    ]
    spans["ambiguous"] = spans["ambiguous"] + halved
    return {**known, **spans, "cuts": [c for c in known["cuts"] if c < num_frames]}


def retimed(known: Mapping[str, Any], variant: Variant) -> dict[str, Any]:
    """Return the truth in the frames of a variant."""

    def first_at(frame: int) -> int:  # of the kept frames at or after `frame`
        return -(-frame // variant.keep) * variant.repeat

    def last_at(frame: int) -> int:
        return frame // variant.keep * variant.repeat + variant.repeat - 1

    cuts = [first_at(cut) for cut in known["cuts"]]
    spans = {
        name: [[first_at(a), max(first_at(a), last_at(b))] for a, b in known[name]]
        for name in SPANS
    }
    return {"cuts": cuts, **spans}


def _frames(path: Path, num_frames: int) -> Iterator[Pixels]:
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index == num_frames:
                return
            height = 2 * round(WIDTH * frame.height / frame.width / 2)
            yield frame.reformat(WIDTH, height, "rgb24").to_ndarray()


def _write(path: Path, frames: Iterator[Pixels], fps: float, variant: Variant) -> None:
    with av.open(str(path), "w") as container:
        stream: Any = None
        for frame in frames:
            if stream is None:
                rate = Fraction(fps).limit_denominator(1001)
                stream = container.add_stream(variant.codec, rate=rate)
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.options = {"preset": "veryfast"} if variant.codec == "libx264" else {}
                stream.options = {**stream.options, **(variant.options or {})}
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def main() -> None:
    """Write the variants and their truth."""
    arguments = _arguments()
    truth = make_variants(
        arguments.videos, arguments.out, num_frames=arguments.frames, quick=arguments.quick
    )
    num_cuts = sum(len(known["cuts"]) for known in truth.values())
    report(arguments, "cut_variants", [Row("files", len(truth)), Row("cuts", num_cuts)])


def _arguments() -> argparse.Namespace:
    made = parser(__doc__, videos="videos and GROUND_TRUTH.json")
    made.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    made.add_argument("--frames", type=int, default=2000, help="of each video (2000)")
    return made.parse_args()


if __name__ == "__main__":
    main()
