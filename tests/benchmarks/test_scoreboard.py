"""docs/results.md is what the result files say, held-out figures first."""

from benchmarks.scoreboard import PAGE, RESULTS, load_results, render

RESULT_KEYS = {"name", "rows", "date", "commit", "hardware", "command"}
ROW_KEYS = {"metric", "value", "unit", "held_out", "note"}
OTHER = {
    "name": "new", "date": "2026-01-02", "commit": "abc", "hardware": "a | b", "command": "run",
    "rows": [
        {"metric": "seen", "value": 0.9, "unit": "F1", "held_out": False, "note": ""},
        {"metric": "unseen", "value": 0.5, "unit": "F1", "held_out": True, "note": "why"},
        *[{"metric": "detail", "value": n, "unit": "", "held_out": None, "note": ""}
          for n in range(9)],
    ],
}  # fmt: skip


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(load_results(RESULTS)), (
        "docs/results.md is stale: run `python -m benchmarks.scoreboard`"
    )


def test_the_page_has_at_most_100_lines() -> None:
    assert len(PAGE.read_text(encoding="utf-8").splitlines()) <= 100


def test_every_result_has_the_same_schema() -> None:
    for name, result in load_results(RESULTS).items():
        assert set(result) == RESULT_KEYS, name
        assert result["rows"], name
        assert all(set(row) == ROW_KEYS for row in result["rows"]), name


def test_held_out_figures_stand_first_and_details_stay_in_the_file() -> None:
    page = render({"new": OTHER})
    assert "## Other" in page
    assert page.index("unseen (why)") < page.index("| seen")
    assert page.count("| detail") == 2
    assert "a \\| b" in page
