"""Watches one long video in several decoding children at once.

Knows nothing of Ray: the children are given, each is busy with one range at a time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from pipelines.curation.analysis.decode_process import ChildFailed, DecodeSandbox, failed_row
from pipelines.curation.analysis.shot_tracker import AnalyzeSettings
from pipelines.curation.analysis.time_ranges import RangeWatched, TimeRange, Uncountable, merged
from pipelines.curation.analysis.video_stream import Rejected

log = logging.getLogger(__name__)


def analyze_in_ranges(
    path: str,
    *,
    uri: str,
    children: Sequence[DecodeSandbox],
    settings: AnalyzeSettings,
    on_keyframe: Callable[[str, bytes], None],
) -> dict[str, Any]:
    """Return the row of a video, as `DecodeSandbox.analyze` would, its ranges watched side by side.

    A range that fails quarantines the video; a file that cannot be split is watched whole.
    """
    started = time.monotonic()
    try:
        row, ranges = children[0].call("split", path, uri=uri)
        if row["status"] != "split":
            return dict(row)
        if not ranges:
            raise Uncountable("packets without times of their own")
        row = merged(row, _watch(path, row, ranges, children, on_keyframe), settings)
    except Uncountable as fault:
        log.info("%s is watched whole: %s", uri, fault)
        return children[0].analyze(path, uri=uri, on_keyframe=on_keyframe)
    except (ChildFailed, Rejected) as failure:
        row = failed_row(uri, failure.reason, failure.detail)
    return row | {"analyze_s": time.monotonic() - started}


def _watch(
    path: str,
    row: dict[str, Any],
    ranges: Sequence[TimeRange],
    children: Sequence[DecodeSandbox],
    on_keyframe: Callable[[str, bytes], None],
) -> list[RangeWatched]:
    """Return what was seen of each range, in order; raises what the first failure raised."""
    idle: SimpleQueue[DecodeSandbox] = SimpleQueue()
    for child in children:
        idle.put(child)

    def watch(part: TimeRange) -> RangeWatched:
        child = idle.get()
        try:
            seen: RangeWatched = child.call(
                "watch", path, on_keyframe=on_keyframe, row=row, part=part
            )
        except ChildFailed as failure:
            where = f"frames {part.own.start} to {part.own.stop - 1}: {failure.detail}"
            raise ChildFailed(failure.reason, where) from failure
        finally:
            idle.put(child)
        return seen

    with ThreadPoolExecutor(len(children)) as pool:
        futures = [pool.submit(watch, part) for part in ranges]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()  # of a video that is lost, nothing more is watched
