"""Which shots are worth keeping. Each filter says no with a reason, or nothing.

A shot is a plain mapping in the shape of the analyzed row; `video` is that row. Pure functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fw_model.schemas.curated import ShotReason
from pipelines.curation.config import FilterConfig

Shot = Mapping[str, Any]
Filter = Callable[[Shot, Mapping[str, Any], FilterConfig], bool]


def duration_s(shot: Shot) -> float:
    """Return the length of a shot without its transitions, in seconds."""
    frames = shot["end_frame"] - shot["start_frame"]
    content = shot["content_end_frame"] - shot["content_start_frame"]
    return float(shot["end_s"] - shot["start_s"]) * content / max(1, frames)


def _too_small(_shot: Shot, video: Mapping[str, Any], config: FilterConfig) -> bool:
    side = min(video["width"] or 0, video["height"] or 0)
    return config.min_side_px is not None and side < config.min_side_px


def _too_short(shot: Shot, _video: Mapping[str, Any], config: FilterConfig) -> bool:
    return config.min_shot_s is not None and duration_s(shot) < config.min_shot_s - 1e-6


def _too_long(shot: Shot, _video: Mapping[str, Any], config: FilterConfig) -> bool:
    return config.max_shot_s is not None and duration_s(shot) > config.max_shot_s


def _dark(shot: Shot, _video: Mapping[str, Any], config: FilterConfig) -> bool:
    return config.min_luma is not None and shot["luma"] < config.min_luma


def _flat(shot: Shot, _video: Mapping[str, Any], config: FilterConfig) -> bool:
    return config.min_contrast is not None and shot["contrast"] < config.min_contrast


def _static(shot: Shot, _video: Mapping[str, Any], config: FilterConfig) -> bool:
    return config.min_motion is not None and shot["motion"] < config.min_motion


def _text_heavy(shot: Shot, _video: Mapping[str, Any], config: FilterConfig) -> bool:
    return config.max_text_area is not None and shot["text_area"] > config.max_text_area


def _unaesthetic(shot: Shot, _video: Mapping[str, Any], config: FilterConfig) -> bool:
    score = shot.get("aesthetic")  # none without a keyframe
    return config.min_aesthetic is not None and score is not None and score < config.min_aesthetic


# In this order: the first that says no names the reason.
FILTERS: dict[ShotReason, Filter] = {
    ShotReason.TOO_SMALL: _too_small,
    ShotReason.TOO_SHORT: _too_short,
    ShotReason.TOO_LONG: _too_long,
    ShotReason.DARK: _dark,
    ShotReason.FLAT: _flat,
    ShotReason.STATIC: _static,
    ShotReason.TEXT_HEAVY: _text_heavy,
    ShotReason.UNAESTHETIC: _unaesthetic,
}


def drop_reason(shot: Shot, video: Mapping[str, Any], config: FilterConfig) -> ShotReason | None:
    """Return why a shot is dropped, None if it is kept."""
    for reason, says_no in FILTERS.items():
        if says_no(shot, video, config):
            return reason
    return None
