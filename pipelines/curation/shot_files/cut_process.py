"""Cutting in a child process of its own, with a memory limit and a deadline, so that a crash or a
hang costs one clip. The child is this module run by `python -m`: it reads a request from its input
and leaves its clips in the request's folder, and a line of `clips.jsonl` for each that is done.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pipelines.curation.analysis.decode_process import end_with_parent
from pipelines.curation.shot_files.cut_video import Clip, Span, cut_video

ANSWER = "clips.jsonl"
PROJECT_ROOT = Path(__file__).resolve().parents[3]


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
    """Do `cut_video` in a child process; of one that dies or hangs, what it did counts, and the
    mode of the clips that it did not come to is "unfinished".
    """
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
            [sys.executable, "-m", "pipelines.curation.shot_files.cut_process"],
            input=json.dumps(request),
            text=True,
            capture_output=True,
            env=environment,
            timeout=deadline_s,
        )
    except subprocess.TimeoutExpired:
        return _with_rest(folder, spans, f"not done after {deadline_s:g} s")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return _with_rest(folder, spans, f"the child ended with code {done.returncode}: {last}")
    return _with_rest(folder, spans, "the child did not come to it")


def _with_rest(folder: Path, spans: Sequence[Span], why: str) -> list[Clip]:
    """Return the clips that the child told of, and unfinished ones for all other spans."""
    answer = folder / ANSWER
    lines = answer.read_text().split("\n")[:-1] if answer.is_file() else []  # the last may be half
    done = {clip.shot_id: clip for clip in (Clip(**json.loads(line)) for line in lines)}
    return [done.get(s.shot_id) or Clip(s.shot_id, "unfinished", None, why) for s in spans]


def main() -> None:
    """Answer the one request: the child's whole life."""
    request = json.load(sys.stdin)
    limit = request["memory_limit_mb"] * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    threading.Thread(target=end_with_parent, daemon=True).start()
    folder = Path(request["folder"])
    with (folder / ANSWER).open("w") as answer:

        def tell(clip: Clip) -> None:
            answer.write(json.dumps(asdict(clip)) + "\n")
            answer.flush()

        cut_video(
            request["path"],
            [Span(**span) for span in request["spans"]],
            copy=request["copy"],
            num_frames=request["num_frames"],
            folder=folder,
            on_clip=tell,
        )


if __name__ == "__main__":
    main()
