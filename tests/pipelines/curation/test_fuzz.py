"""Damaged files: whatever is done to a video, it ends kept or quarantined with a true reason."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from fw_model.schemas.curated import VideoReason
from pipelines.curation.analysis.decode_process import DecodeSandbox
from pipelines.curation.analysis.shot_tracker import AnalyzeSettings
from pipelines.curation.config import DecodeConfig, DetectorConfig, KeyframeConfig
from tests.pipelines.curation.footage import film

DEADLINE_S = 20.0
MEMORY_MB = 1500
KINDS = (
    ("mp4", "libx264", {}),
    ("mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
    ("mkv", "libx264", {}),
    ("ts", "libx264", {}),
    ("webm", "libvpx-vp9", {}),
    ("avi", "mjpeg", {}),
    ("mov", "mpeg4", {}),
)


def write_kinds(folder: Path) -> list[Path]:
    """Write one short film in each container and codec."""
    folder.mkdir()
    paths = []
    for number, (suffix, codec, options) in enumerate(KINDS):
        path = folder / f"whole_{number}.{suffix}"
        with av.open(str(path), "w", options=options) as container:
            stream = container.add_stream(codec, rate=12)
            stream.width, stream.height = 96, 64
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            stream.gop_size = 12
            for picture in film([1, 2, 3], 14):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        paths.append(path)
    return paths


def damaged(data: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Return the name of a damage and the data with it."""
    name = str(rng.choice(["cut", "flips", "header", "zeros", "hole", "twice", "noise"]))
    buffer = bytearray(data)
    size = len(buffer)
    at = int(rng.integers(size))
    if name == "cut":
        del buffer[at:]
    elif name == "flips":
        for place in rng.integers(size, size=int(rng.integers(1, 40))):
            buffer[place] ^= 1 << int(rng.integers(8))
    elif name == "header":
        for place in rng.integers(min(size, 2048), size=int(rng.integers(1, 6))):
            buffer[place] = int(rng.integers(256))
    elif name == "zeros":
        end = min(size, at + int(rng.integers(1, 4000)))
        buffer[at:end] = bytes(end - at)
    elif name == "hole":
        del buffer[at : at + int(rng.integers(1, 4000))]
    elif name == "twice":
        buffer[at:at] = buffer[at : at + 3000]
    else:
        end = min(size, at + int(rng.integers(1, 4000)))
        buffer[at:end] = rng.bytes(end - at)
    return name, bytes(buffer)


def plainly_decoded(paths: list[Path]) -> dict[str, dict[str, object] | None]:
    """Return what plain PyAV says of each file; None where it died of it or hung."""
    script = Path(__file__).with_name("plain_decode.py")
    told: dict[str, dict[str, object] | None] = {}
    left = [str(path) for path in paths]
    while left:
        try:
            done = subprocess.run(
                [sys.executable, str(script), str(MEMORY_MB), *left],
                capture_output=True,
                timeout=600,
                check=False,
            )
            lines = done.stdout.decode().splitlines()
        except subprocess.TimeoutExpired as hung:
            lines = (hung.stdout or b"").decode().splitlines()
        for line in lines:
            seen = json.loads(line)
            told[seen["path"]] = seen
        left = left[len(lines) :]
        if left:
            told[left.pop(0)] = None
    return told


def heaviest_decoder_kib() -> int:
    """Return the most memory that a decoding child had, of those that live: their own high water.

    What the system reports of ended children counts this process too, as it was when it forked.
    """
    heaviest = 0
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            if "pipelines.curation.analysis.decode_process" in child.cmdline():
                status = Path(f"/proc/{child.pid}/status").read_text(encoding="utf-8")
                high_water = [int(kib) for kib in re.findall(r"VmHWM:\s+(\d+) kB", status)]
                heaviest = max([heaviest, *high_water])  # one that just ended has none
    return heaviest


def is_true(reason: str | None, seen: dict[str, object] | None) -> bool:
    """Tell whether what plain PyAV saw of a file bears out the reason; None: it was kept."""
    if seen is None:
        return reason in (VideoReason.DECODER_CRASH, VideoReason.TIMEOUT, VideoReason.OUT_OF_MEMORY)
    short = seen["promised"] > seen["packets"] or seen["promised_s"] > 1.1 * seen["span_s"]
    return {
        None: seen["frames"] > 0 and seen["faults"] <= 0.05 * seen["packets"] + 1,
        VideoReason.UNREADABLE: not seen["opens"],
        VideoReason.NO_VIDEO_STREAM: seen["opens"] and not seen["has_video"],
        VideoReason.NO_FRAMES: seen["frames"] == 0 and seen["packets"] == 0,
        VideoReason.TRUNCATED: bool(short or seen["broke_off"]),
        VideoReason.DECODE_ERRORS: seen["faults"] > 0.05 * seen["packets"] or seen["frames"] == 0,
        VideoReason.UNSUPPORTED_CODEC: not seen["has_video"] or seen["frames"] == 0,
        VideoReason.TOO_LARGE: seen["pixels"] > DecodeConfig().max_pixels,
        VideoReason.OUT_OF_MEMORY: seen["memory"],
    }.get(reason, False)


@pytest.mark.parametrize("number", [56, pytest.param(500, marks=pytest.mark.slow)])
def test_damaged_files_end_kept_or_quarantined_with_a_true_reason(tmp_path, number):
    whole = [(path, path.read_bytes()) for path in write_kinds(tmp_path / "whole")]
    rng = np.random.default_rng(number)
    paths, damage = [], {}
    for index in range(number):
        source, data = whole[index % len(whole)]
        path = tmp_path / f"{index:04d}{source.suffix}"
        damage[path], changed = damaged(data, rng)
        path.write_bytes(changed)
        paths.append(path)
    sandbox = DecodeSandbox(
        AnalyzeSettings(
            DecodeConfig(deadline_s=DEADLINE_S, stall_s=10, memory_limit_mb=MEMORY_MB),
            DetectorConfig(), KeyframeConfig(), "d",
        )
    )  # fmt: skip
    rows = {}
    heaviest_kib = 0
    for path in paths:
        keyframes: dict[str, bytes] = {}
        rows[path] = sandbox.analyze(
            str(path), uri=str(path), on_keyframe=keyframes.__setitem__
        ) | {"keyframes": keyframes}
        heaviest_kib = max(heaviest_kib, heaviest_decoder_kib())
    sandbox.close()
    assert 0 < heaviest_kib <= MEMORY_MB * 1024
    told = plainly_decoded(paths)
    untrue = [
        (
            path.name,
            damage[path],
            row["status"],
            row.get("reason"),
            row.get("detail"),
            told[str(path)],
        )
        for path, row in rows.items()
        if not is_true(row.get("reason"), told[str(path)])
    ]
    assert untrue == []
    for row in rows.values():
        assert row["status"] in ("kept", "quarantined")
        assert row["analyze_s"] < DEADLINE_S + 5
        if row["status"] == "kept":
            shots = row["shots"]
            assert shots and row["num_frames"] > 0
            assert shots[0]["start_frame"] == 0 and shots[-1]["end_frame"] == row["num_frames"]
            wanted = {k["sha256"] for shot in shots for k in shot["keyframes"]}
            assert wanted <= set(row["keyframes"])
        else:
            assert row["detail"] and row["num_shots"] == 0 and not row["shots"]
    found = Counter(str(row.get("reason")) for row in rows.values())
    assert found["None"] > number // 10 and len(found) >= 4, found  # the damage did damage
