"""Runs a detector over pictures, for tests."""

import cv2
import numpy as np

from pipelines.curation.detectors.base import GRID_HEIGHT, GRID_WIDTH, SmallFrames, make_detector


def transitions(frames, *, kind="learned", fps=24.0, batch=16, **options):
    """Run a detector over RGB frames [F, H, W, 3]."""
    detector = make_detector(kind, options, fps=fps)
    planes = []
    for frame in frames:
        small = cv2.resize(frame, (GRID_WIDTH, GRID_HEIGHT), interpolation=cv2.INTER_AREA)
        planes.append(cv2.cvtColor(small, cv2.COLOR_RGB2YUV).transpose(2, 0, 1))
    found = []
    for first in range(0, len(planes), batch):
        part = np.stack(planes[first : first + batch])
        times_s = [(first + i) / fps for i in range(len(part))]
        found += detector.update(SmallFrames(first, times_s, part))
    return found + detector.finish()


def cuts(frames, **settings):
    return [t.start_frame for t in transitions(frames, **settings) if t.kind == "cut"]
