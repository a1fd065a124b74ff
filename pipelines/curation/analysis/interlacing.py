"""Finds interlaced frames by their pictures, because flags lie in both directions.

The even and the odd rows of an interlaced frame, its two fields, were taken one after the other.
Where something moved in between, rows differ from the row above and the row below like the teeth of
a comb. Flags or teeth make every frame worth a look; of other videos it is one in twenty-four.

R groups of five neighbouring rows, n samples per row.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from fw_model.media.deinterlace import FieldOrder
from pipelines.curation.analysis.frame_sampling import luma_plane

MAX_GROUPS = 36  # of rows that are looked at in a frame
MAX_SAMPLES = 160  # per row
HEIGHTS = range(64, 1153)  # of frames that may be interlaced: no such format has more rows
TOOTH = 10  # levels of 255 by which a sample differs from both neighbours
MIN_TEETH = 0.01  # of all samples: a comb; progressive film and noise stay below 0.009
MIN_LEAD = 1.5  # how much better the field that is next in time must fit than the other
EVERY = 24  # frames between looks at a video without a sign of fields
MEMORY = 250  # looks without a comb after which a video counts as progressive again
MIN_COMBS = 3  # before frames that are not flagged count as interlaced
AHEAD = MIN_COMBS + 1  # frames that are seen before one is judged: a look needs both neighbours
MIN_SHARE = 0.02  # of a shot's or a video's frames: fewer combs do not make it interlaced
MIN_MAJORITY = 3  # combs of one order per comb of the other: scrolling text makes both

UNSEEN, PROGRESSIVE, TFF, BFF, UNCLEAR = range(5)
FLAGGED = 8
"""What is recorded of a frame: one of the first five, plus FLAGGED if the file says interlaced."""


@dataclass(frozen=True)
class Look:
    """Rows of a frame, int16 [R, 5, n], and whether the middle row of each group is odd, [R]."""

    rows: NDArray[np.int16]
    is_odd: NDArray[np.bool_]
    teeth: NDArray[np.bool_]
    """Which samples of the middle rows [R, n] are teeth of a comb."""


def look(frame: VideoFrame) -> Look | None:
    """Sample the rows of a frame; None if its size rules out fields."""
    if frame.height not in HEIGHTS:
        return None
    count = min(MAX_GROUPS, frame.height // 6)
    tops = np.linspace(0, frame.height - 6, count).astype(np.intp)
    tops += tops % 2 != np.arange(count) % 2  # even and odd rows in turn
    rows = luma_plane(frame, rows=(tops[:, None] + np.arange(5)).ravel())  # [5 R, width]
    if rows.shape[1] > MAX_SAMPLES:
        size = MAX_SAMPLES, len(rows)
        rows = np.asarray(cv2.resize(rows, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    groups = rows.reshape(count, 5, -1).astype(np.int16)
    return Look(groups, tops % 2 == 1, _teeth(groups))


def _teeth(groups: NDArray[np.int16]) -> NDArray[np.bool_]:
    above2, above, middle, below, below2 = (groups[:, row] for row in range(5))
    up, down = middle - above, middle - below
    sticks_out = (np.minimum(np.abs(up), np.abs(down)) > TOOTH) & ((up > 0) == (down > 0))
    # The rows of its own field are nearer to it than those of the other field.
    fits_own = np.abs(above2 + below2 - 2 * middle) < np.abs(up + down)
    return np.asarray(sticks_out & fits_own, np.bool_)


def kind_of(before: Look, now: Look, after: Look) -> int:
    """Return PROGRESSIVE, TFF or BFF, or UNCLEAR for a comb that does not come from motion."""
    if now.teeth.mean() < MIN_TEETH:
        return PROGRESSIVE
    # Of a frame of two fields, one is nearer in time to the frame before, one to the frame after.
    to_before, to_after = (_distance(now, other) for other in (before, after))
    odd = now.is_odd
    tff = int(to_before[~odd].sum() + to_after[odd].sum())
    bff = int(to_before[odd].sum() + to_after[~odd].sum())
    if max(tff, bff) < MIN_LEAD * max(1, min(tff, bff)):
        return UNCLEAR
    return TFF if tff < bff else BFF


def _distance(now: Look, other: Look) -> NDArray[np.int64]:
    """Return how far the teeth of each group [R] are from the other frame's neighbouring rows."""
    difference = np.abs(2 * now.rows[:, 2] - other.rows[:, 1] - other.rows[:, 3])
    return np.asarray((difference * now.teeth).sum(axis=1, dtype=np.int64))


class FieldMeter:
    """Follows the fields of a video's frames, given in order."""

    def __init__(self) -> None:
        self._kinds = array("b")
        self._looks: deque[Look | None] = deque([None, None], maxlen=2)  # of the last two frames
        self._recent: deque[int] = deque(maxlen=MEMORY)
        self._order: FieldOrder | None = None
        self._since_sign = MEMORY

    def marked(
        self, frames: Iterable[VideoFrame]
    ) -> Iterator[tuple[VideoFrame, FieldOrder | None]]:
        """Yield each frame with the order of its fields, None if it looks progressive.

        A frame is held until a few that follow were seen: they show what it is.
        """
        held: deque[VideoFrame] = deque()
        for frame in frames:
            self._take(frame)
            held.append(frame)
            if len(held) > AHEAD:
                yield held.popleft(), self._order
        while held:
            yield held.popleft(), self._order

    def kinds(self) -> array[int]:
        """Return what was recorded of each frame so far."""
        return self._kinds

    def _take(self, frame: VideoFrame) -> None:
        is_flagged = frame.interlaced_frame
        number = len(self._kinds)
        # A look needs the frames on both sides of it.
        is_due = is_flagged or self._since_sign < MEMORY or number % EVERY < 3
        now = look(frame) if is_due else None
        self._kinds.append(FLAGGED if is_flagged else UNSEEN)
        before, middle = self._looks
        self._looks.append(now)
        if before is None or middle is None or now is None or before.rows.shape != now.rows.shape:
            return
        if middle.rows.shape != now.rows.shape:
            return
        kind = kind_of(before, middle, now)
        self._kinds[-2] += kind
        self._recent.append(kind)
        is_sign = kind in (TFF, BFF)
        self._since_sign = 0 if is_sign else self._since_sign + 1
        combs = self._recent.count(TFF) + self._recent.count(BFF)
        if is_sign and combs >= (1 if is_flagged else MIN_COMBS):
            self._order = field_order(self._recent)
        elif self._since_sign >= MEMORY:
            self._order = None


def field_order(kinds: Iterable[int]) -> FieldOrder | None:
    """Return the order of the fields of frames with these records; None if they are progressive."""
    counts = _counts(kinds)
    order: FieldOrder = "tff" if counts[TFF] > counts[BFF] else "bff"
    fewer, more = sorted((counts[TFF], counts[BFF]))
    is_interlaced = more >= max(1, MIN_MAJORITY * fewer, MIN_SHARE * sum(counts[1:]))
    return order if is_interlaced else None


def interlaced_share(kinds: Collection[int]) -> float:
    """Return the share of interlaced frames among the frames that were looked at."""
    counts = _counts(kinds)
    return (counts[TFF] + counts[BFF]) / max(1, sum(counts[1:])) if field_order(kinds) else 0.0


def _counts(kinds: Iterable[int]) -> list[int]:
    values = np.fromiter(kinds, np.int64) % FLAGGED
    return np.bincount(values, minlength=FLAGGED).tolist()
