"""The code hash of a row covers the code that made it, and no other."""

import shutil

import pytest

from pipelines.curation.ledger.receipts import CODE, CURATION, code_version


@pytest.fixture
def tree(tmp_path):
    """A copy of the source tree of curation and of the endpoint client."""
    shutil.copytree(CURATION.parent / "llm", tmp_path / "llm")
    return shutil.copytree(CURATION, tmp_path / "curation")


@pytest.mark.parametrize(
    ("changed", "affected"),
    [
        ("analysis/analyze.py", "analysis"),
        ("detectors/base.py", "analysis"),
        ("assembly/scenes.py", "assembly"),
        ("captioners/offline.py", "captioning"),
        ("prompts/scene_caption.md", "captioning"),
        ("../llm/endpoint.py", "captioning"),
        ("shot_files/cut_video.py", "shot_files"),
        ("report/page.py", None),
    ],
)
def test_a_change_shows_in_the_rows_that_its_code_makes(tree, changed, affected):
    before = {made_by: code_version(made_by, tree) for made_by in CODE}
    with (tree / changed).open("a") as file:
        file.write("# changed")
    after = {made_by: code_version(made_by, tree) for made_by in CODE}
    assert {made_by for made_by in CODE if before[made_by] != after[made_by]} == (
        {affected} if affected else set()
    )


def test_a_copy_of_the_tree_has_the_hash_of_the_original(tree):
    assert all(code_version(made_by, tree) == code_version(made_by) for made_by in CODE)
