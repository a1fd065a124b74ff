"""The schemas made from the row types keep the columns and the order of version 0.1's files."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fw_model.schemas import curated, curated_rows

WRITTEN = Path(__file__).parents[2] / "formats" / "v0_1" / "curated"


# Columns that version 0.1 did not have; its files are read without them.
NEW = {"crop", "field_order", "interlaced_share", "interlaced_flag_share"}
NEW |= {"num_faces", "ocr_area", "subtitle_area", "nsfw", "perception_error", "faces", "text_lines"}


def without_new(schema):
    """Return a schema without the columns of later versions, also inside lists of structs."""

    def old(fields):
        return [old_field(field) for field in fields if field.name not in NEW]

    def old_field(field):
        if not pa.types.is_list(field.type) or not pa.types.is_struct(field.type.value_type):
            return field
        return pa.field(field.name, pa.list_(pa.struct(old(field.type.value_type))))

    return pa.schema(old(schema))


@pytest.mark.parametrize(
    ("folder", "schema"),
    [
        ("videos", curated.VIDEOS),
        ("shots", curated.SHOTS),
        ("scenes", curated.SCENES),
        ("captions", curated.CAPTIONS),
        ("ledger/analyzed", curated.ANALYZED_VIDEOS),
        ("ledger/cut", curated.SHOT_CLIPS),
        ("ledger/captioned", curated.CAPTIONS),
    ],
)
def test_a_schema_is_that_of_the_files_of_version_0_1(folder, schema):
    files = list((WRITTEN / folder).rglob("*.parquet"))
    assert files
    for file in files:
        assert pq.read_schema(file).remove_metadata() == without_new(schema)


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
        (curated_rows.EntityRow, curated.ENTITY),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_schema_has_each_column_of_its_row_type_once(row, schema):
    names = [field.name for field in schema]
    assert sorted(names) == sorted(row.__annotations__)


def test_integers_and_vectors_have_the_declared_widths():
    assert curated.SHOTS.field("start_frame").type == pa.int64()
    assert curated.SHOTS.field("index").type == pa.int32()
    assert curated.SHOTS.field("embedding").type == pa.list_(pa.float32())
