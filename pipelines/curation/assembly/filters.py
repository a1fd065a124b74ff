"""Which shots are worth keeping. Pure functions."""

from __future__ import annotations

from fw_model.schemas.curated import ShotReason
from fw_model.schemas.curated_rows import DecodedColumns, MeasuredShotRow
from pipelines.curation.config import FilterConfig

ROUNDING_S = 1e-6


def duration_s(shot: MeasuredShotRow) -> float:
    """Return the length of a shot without its transitions, in seconds."""
    frames = shot["end_frame"] - shot["start_frame"]
    content = shot["content_end_frame"] - shot["content_start_frame"]
    return (shot["end_s"] - shot["start_s"]) * content / max(1, frames)


def drop_reason(
    shot: MeasuredShotRow,
    video: DecodedColumns,
    config: FilterConfig,
    aesthetic: float | None = None,
) -> ShotReason | None:
    """Return the first reason to drop a shot, None if it is kept.

    A limit of None is switched off. A value of None, such as the aesthetic score of a shot without
    a keyframe, is not checked.
    """
    # What may hide in a keyframe that could not be examined is not let through.
    thresholds = (config.max_faces, config.max_subtitle_area, config.max_nsfw)
    is_examined = any(threshold is not None for threshold in thresholds)
    num_failed = 1 if is_examined and shot["perception_error"] else 0
    area = shot["ocr_area"]
    side_px = min(video["width"] or 0, video["height"] or 0)
    length_s = duration_s(shot)
    limits: list[tuple[ShotReason, float | None, float | None, float | None]] = [
        # reason, value, smallest, largest
        (ShotReason.TOO_SMALL, side_px, config.min_side_px, None),
        (ShotReason.TOO_SHORT, length_s + ROUNDING_S, config.min_shot_s, None),
        (ShotReason.TOO_LONG, length_s, None, config.max_shot_s),
        (ShotReason.DARK, shot["luma"], config.min_luma, None),
        (ShotReason.FLAT, shot["contrast"], config.min_contrast, None),
        (ShotReason.STATIC, shot["motion"], config.min_motion, None),
        (
            ShotReason.TEXT_HEAVY,
            shot["text_area"] if area is None else area,
            None,
            config.max_text_area,
        ),
        (ShotReason.SUBTITLED, shot["subtitle_area"], None, config.max_subtitle_area),
        (ShotReason.TOO_MANY_FACES, shot["num_faces"], None, config.max_faces),
        (ShotReason.NSFW, shot["nsfw"], None, config.max_nsfw),
        (ShotReason.PERCEPTION_FAILED, num_failed, None, 0),
        (ShotReason.UNAESTHETIC, aesthetic, config.min_aesthetic, None),
    ]
    for reason, value, smallest, largest in limits:
        if value is None:
            continue
        if (smallest is not None and value < smallest) or (largest is not None and value > largest):
            return reason
    return None
