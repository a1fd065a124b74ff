"""Each row type of the curated tables names exactly the columns of its Arrow schema."""

import pytest

from fw_model.schemas import curated, curated_rows


@pytest.mark.parametrize(
    ("row", "schema"),
    [
        (curated_rows.VideoRow, curated.VIDEOS),
        (curated_rows.AnalyzedVideoRow, curated.ANALYZED_VIDEOS),
        (curated_rows.ShotFileRow, curated.SHOT_CLIPS),
        (curated_rows.ShotRow, curated.SHOTS),
        (curated_rows.SceneRow, curated.SCENES),
        (curated_rows.CaptionRow, curated.CAPTIONS),
        (curated_rows.KeyframeRow, curated.KEYFRAME),
        (curated_rows.TransitionRow, curated.TRANSITION),
        (curated_rows.EntityRow, curated.ENTITY),
        (curated_rows.CaptionedShotRow, curated.CAPTIONED_SHOT),
        (curated_rows.CheckRow, curated.CHECK),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_row_type_names_the_columns_of_its_schema(row, schema):
    assert set(row.__annotations__) == {field.name for field in schema}
