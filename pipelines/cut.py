"""Cutting in a child process of its own, with a memory limit and a deadline, so that a crash or a
hang costs the clips of one video. `python -m pipelines.cut` is the child: it reads a request from
its input and leaves its clips, and `clips.json`, in the request's folder.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pipelines.clips import Clip, Span, cut_video

ANSWER = "clips.json"
PROJECT_ROOT = Path(__file__).resolve().parent.parent


def cut_apart(
    path: str,
    spans: Sequence[Span],
    *,
    copy: bool,
    num_frames: int,
    folder: Path,
    memory_limit_mb: int,
    deadline_s: float,
) -> list[Clip]:
    """Do `cut_video` in a child process; of one that dies or hangs every clip is failed."""
    request = {
        "path": path,
        "spans": [asdict(span) for span in spans],
        "copy": copy,
        "num_frames": num_frames,
        "folder": str(folder),
        "memory_limit_mb": memory_limit_mb,
    }
    search = [str(PROJECT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(search), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.cut"],
            input=json.dumps(request),
            text=True,
            capture_output=True,
            env=environment,
            timeout=deadline_s,
        )
    except subprocess.TimeoutExpired:
        return _all_failed(spans, f"not done after {deadline_s:g} s")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return _all_failed(spans, f"the child ended with code {done.returncode}: {last}")
    answer = json.loads((folder / ANSWER).read_text())
    return [Clip(**clip) for clip in answer]


def _all_failed(spans: Sequence[Span], why: str) -> list[Clip]:
    return [Clip(span.shot_id, "failed", None, why) for span in spans]


def main() -> None:
    """Answer the one request: the child's whole life."""
    request = json.load(sys.stdin)
    limit = request["memory_limit_mb"] * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    folder = Path(request["folder"])
    clips = cut_video(
        request["path"],
        [Span(**span) for span in request["spans"]],
        copy=request["copy"],
        num_frames=request["num_frames"],
        folder=folder,
    )
    (folder / ANSWER).write_text(json.dumps([asdict(clip) for clip in clips]))


if __name__ == "__main__":
    main()
