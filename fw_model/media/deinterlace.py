"""Makes whole pictures of interlaced frames, one of each, so that frame numbers stay.

An interlaced frame holds two fields, the even and the odd rows, taken one after the other. FFmpeg's
bwdif keeps the first field and computes the rows of the other. Knows nothing about files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Literal

import av.error
from av.filter import Graph
from av.video.frame import VideoFrame

FieldOrder = Literal["tff", "bff"]
"""Which field of a frame is shown first: the top one (even rows) or the bottom one."""


def as_field_order(stored: str | None) -> FieldOrder | None:
    """Return the field order that a table holds; None for a progressive shot."""
    return "tff" if stored == "tff" else "bff" if stored == "bff" else None


def field_orders(
    spans: Iterable[tuple[int, int, FieldOrder | None]],
) -> dict[int, FieldOrder]:
    """Return the field order of each interlaced frame in spans [start, end) of frames."""
    return {
        number: order
        for start, end, order in spans
        if order is not None
        for number in range(start, end)
    }


def deinterlaced(
    frames: Iterable[tuple[VideoFrame, FieldOrder | None]],
) -> Iterator[VideoFrame]:
    """Yield a picture for each frame, in order; frames without a field order stay as they are."""
    current: _Deinterlacer | None = None
    for frame, order in frames:
        if current is not None and not current.fits(frame, order):
            yield from current.finish()
            current = None
        if order is None:
            yield frame
            continue
        current = current or _Deinterlacer(frame, order)
        yield from current.take(frame)
    if current is not None:
        yield from current.finish()


class _Deinterlacer:
    """Runs bwdif over frames of one size, format and field order."""

    def __init__(self, frame: VideoFrame, order: FieldOrder) -> None:
        self._kind = _kind(frame, order)
        self._times: deque[tuple[int | None, Fraction | None]] = deque()  # times of frames not done
        self._graph = Graph()
        self._graph.threads = 1
        source = self._graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
        bwdif = self._graph.add("bwdif", mode="send_frame", parity=order, deint="all")
        source.link_to(bwdif)
        bwdif.link_to(self._graph.add("buffersink"))
        self._graph.configure()
        self._count = 0

    def fits(self, frame: VideoFrame, order: FieldOrder | None) -> bool:
        """Return whether the frame can follow those taken so far."""
        return order is not None and _kind(frame, order) == self._kind

    def take(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        """Take the next frame; yield the pictures that are done, each with its frame's own time."""
        self._times.append((frame.pts, frame.time_base))
        frame.pts = self._count  # a filter does not take frames whose times go back
        self._count += 1
        self._graph.vpush(frame)
        yield from self._done()

    def finish(self) -> Iterator[VideoFrame]:
        """Yield the pictures that are left."""
        self._graph.vpush(None)
        yield from self._done()

    def _done(self) -> Iterator[VideoFrame]:
        while self._times:
            try:
                picture = self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):  # it waits for the next frame
                return
            picture.pts, picture.time_base = self._times.popleft()
            yield picture


def _kind(frame: VideoFrame, order: FieldOrder) -> tuple[int, int, str, FieldOrder]:
    return frame.width, frame.height, frame.format.name, order
