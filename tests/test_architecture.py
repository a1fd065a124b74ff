"""The shape of the source tree: arrows, names, entry points."""

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = ("cluster", "pipelines", "serve", "fw_model")


def python_files() -> list[Path]:
    """Every module of the four packages."""
    return [path for package in PACKAGES for path in sorted((PROJECT / package).rglob("*.py"))]


def imported_names(path: Path) -> set[str]:
    """Top-level names that the module imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("fw_model", {"ray", "fastapi", "deepspeed", "pipelines", "serve", "cluster"}),
        ("pipelines", {"serve", "cluster"}),
        ("serve", {"pipelines", "cluster"}),
    ],
)
def test_arrows_point_one_way(package: str, forbidden: set[str]) -> None:
    for path in (PROJECT / package).rglob("*.py"):
        found = imported_names(path) & forbidden
        assert not found, f"{path.relative_to(PROJECT)} imports {sorted(found)}"


def test_fw_model_imports_without_ray() -> None:
    modules = [
        ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((PROJECT / "fw_model").rglob("*.py"))
    ]
    code = (
        "import sys\n"
        "for name in ('ray', 'fastapi', 'deepspeed'): sys.modules[name] = None\n"
        f"import importlib\nfor name in {modules!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_every_module_opens_by_saying_what_it_does() -> None:
    silent = [
        str(path.relative_to(PROJECT))
        for path in python_files()
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert not silent


def test_no_package_marker_under_tests() -> None:
    assert not list((PROJECT / "tests").rglob("__init__.py"))


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    drawers = {"utils.py", "helpers.py", "common.py", "misc.py"}
    assert not [path for path in python_files() if path.name in drawers]


def test_entry_points_import() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    for target in project["scripts"].values():
        module, name = target.split(":")
        assert callable(getattr(importlib.import_module(module), name))
