"""How an action looks at a moment: a `Pose`, from the action's name and the time.

All actions are periodic, so a shot may have any length. Knows nothing about shapes or pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

PERIODS_S = {
    "walk": 4.0,  # there and back again
    "jump": 7 / 6,
    "wave": 1.0,
    "spin": 2.0,
    "sit": 2.0,
    "dance": 4 / 3,
    "stand": 2.0,
}

_STEP_S = 0.75
_BLINK_EVERY_S = 2.5
_REST_ARM = 0.35


@dataclass(frozen=True)
class Pose:
    """A figure's posture. Lengths are in figure heights, angles in radians."""

    shift: float = 0.0  # sideways, in fractions of the range that the framing allows, -1..1
    facing: int = 1
    lift: float = 0.0
    stretch: float = 1.0  # height over rest height; width goes with its inverse
    lean: float = 0.0
    turn: float = 1.0  # cosine of the rotation about the upright axis; below 0 the back is seen
    free_arm: float = _REST_ARM  # 0 hangs, pi points up
    prop_arm: float = 1.15
    stride: float = 0.0  # of the legs, -1..1
    sitting: bool = False
    blinking: bool = False


def pose_at(action: str, time_s: float, *, phase: float, facing: int, vigour: float = 1.0) -> Pose:
    """Return the pose of `action` at `time_s` into the shot; `phase` is in periods.

    `vigour` scales what moves the whole body: near the camera, a smaller movement has the same
    effect, and a larger one would leave the frame.
    """
    cycle = (time_s / PERIODS_S[action] + phase) % 1.0
    wave = math.sin(2 * math.pi * cycle)
    blinking = (time_s + phase) % _BLINK_EVERY_S < 0.15
    breath = 1 + 0.015 * math.sin(2 * math.pi * time_s / 2)
    if action == "walk":
        stride = math.sin(2 * math.pi * time_s / _STEP_S)
        forth = cycle < 0.5
        return Pose(
            shift=facing * (4 * cycle - 1 if forth else 3 - 4 * cycle),
            facing=facing if forth else -facing,
            lift=0.03 * abs(stride),
            lean=0.04 * stride,
            free_arm=_REST_ARM + 0.45 * stride,
            stride=stride,
            blinking=blinking,
        )
    if action == "jump":
        height = math.sin(math.pi * cycle) ** 2  # on the ground at 0 and 1
        return Pose(
            facing=facing,
            lift=0.34 * vigour * height,
            stretch=0.9 + 0.15 * height,
            free_arm=0.6 + 1.7 * height,
            prop_arm=1.0 + 0.9 * height,
            stride=0.25,
            blinking=blinking,
        )
    if action == "wave":
        return Pose(facing=facing, stretch=breath, free_arm=2.3 + 0.5 * wave, blinking=blinking)
    if action == "spin":
        return Pose(facing=facing, turn=math.cos(2 * math.pi * cycle), free_arm=1.2, prop_arm=1.3)
    if action == "sit":
        return Pose(facing=facing, stretch=breath, sitting=True, blinking=blinking)
    if action == "dance":
        return Pose(
            facing=facing,
            lift=0.06 * vigour * abs(wave),
            lean=0.3 * (0.4 + 0.6 * vigour) * wave,
            free_arm=2.2 + 0.6 * wave,
            prop_arm=1.6 - 0.4 * wave,
            stride=wave,
        )
    return Pose(facing=facing, stretch=breath, blinking=blinking)
