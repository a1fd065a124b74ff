"""Analyzes one long video in several decoding children at once.

Knows nothing about Ray: the children are given, and each works on one range at a time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from fw_model.schemas.curated_rows import DecodedVideoRow
from pipelines.curation.analysis.analyze import quarantined_row
from pipelines.curation.analysis.decode_process import DecodeSandbox
from pipelines.curation.analysis.shot_tracker import AnalyzeSettings, OnKeyframe
from pipelines.curation.analysis.time_ranges import (
    SPLIT,
    MeasuredRange,
    SplitVideo,
    TimeRange,
    UnreliableTimes,
    merge_ranges,
)
from pipelines.curation.analysis.video_stream import Rejected

logger = logging.getLogger(__name__)


def analyze_in_ranges(
    path: str,
    *,
    uri: str,
    children: Sequence[DecodeSandbox],
    settings: AnalyzeSettings,
    on_keyframe: OnKeyframe,
) -> DecodedVideoRow:
    """Return the row that `DecodeSandbox.analyze` would return, from ranges decoded in parallel.

    A range that fails quarantines the video; a file that cannot be split is analyzed whole.
    """
    started = time.monotonic()
    try:
        split = children[0].split(path, uri=uri)
        if split.row["status"] != SPLIT:
            return split.row
        if not split.ranges:
            raise UnreliableTimes("its packets do not all have times of their own")
        row = merge_ranges(split, _measure(path, split, children, on_keyframe), settings)
    except UnreliableTimes as fault:
        logger.info("%s is analyzed whole: %s", uri, fault)
        return children[0].analyze(path, uri=uri, on_keyframe=on_keyframe)
    except Rejected as failure:
        row = quarantined_row(uri, failure.reason, failure.detail)
    row["analyze_s"] = time.monotonic() - started
    return row


def _measure(
    path: str, split: SplitVideo, children: Sequence[DecodeSandbox], on_keyframe: OnKeyframe
) -> list[MeasuredRange]:
    """Return the measurements of each range, in order; raises what the first failure raised."""
    idle: SimpleQueue[DecodeSandbox] = SimpleQueue()
    for child in children:
        idle.put(child)

    def measure(part: TimeRange) -> MeasuredRange:
        child = idle.get()
        try:
            return child.analyze_range(path, row=split.row, part=part, on_keyframe=on_keyframe)
        except Rejected as failure:
            detail = f"frames {part.own.start} to {part.own.stop - 1}: {failure.detail}"
            raise Rejected(failure.reason, detail) from failure
        finally:
            idle.put(child)

    with ThreadPoolExecutor(len(children)) as pool:
        futures = [pool.submit(measure, part) for part in split.ranges]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()  # once one range is lost, the others are not needed
