"""Each row type of the encoded tables names exactly the columns of its Arrow schema."""

import pytest

from fw_model.schemas import encoded, encoded_rows


@pytest.mark.parametrize(
    ("row", "schema"),
    [
        (encoded_rows.EncodedShotRow, encoded.SHOTS),
        (encoded_rows.EncodedKeyframeRow, encoded.KEYFRAMES),
        (encoded_rows.EncodedTextRow, encoded.TEXTS),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_row_type_names_the_columns_of_its_schema(row, schema):
    assert set(row.__annotations__) == {field.name for field in schema}
