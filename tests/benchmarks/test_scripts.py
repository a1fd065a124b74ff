"""Every benchmark imports, has the shared options and is listed in benchmarks/README.md."""

import importlib
import sys
from pathlib import Path

import pytest

import benchmarks

FOLDER = Path(benchmarks.__file__).parent
SHARED = {"__init__", "finished_videos", "object_store", "report", "scoreboard"}
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in SHARED)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_says_what_it_takes(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit, match="0"):
        module.main()
    shown = capsys.readouterr().out
    if name != "hero_picture":  # it makes a picture and measures nothing
        assert "--json" in shown
        assert "--quick" in shown


def test_the_readme_lists_every_benchmark() -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [name for name in SCRIPTS if f"| `{name}` |" not in page] == []
