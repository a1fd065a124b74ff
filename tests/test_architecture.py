"""The shape of the source tree: names, sizes, entry points. import-linter holds the arrows."""

import ast
import importlib
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = ("cluster", "pipelines", "serve", "fw_model")


def python_files() -> list[Path]:
    """Every module of the four packages."""
    return [path for package in PACKAGES for path in sorted((PROJECT / package).rglob("*.py"))]


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


def test_files_functions_and_folders_stay_small() -> None:
    folders = Counter(path.parent for path in python_files() if path.name != "__init__.py")
    assert not {str(folder): count for folder, count in folders.items() if count > 16}
    assert not [path for path in python_files() if len(path.read_text("utf-8").splitlines()) > 400]
    long = [
        f"{path.relative_to(PROJECT)} {node.name}"
        for path in python_files()
        if "migrations" not in path.parts
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= 60
    ]
    assert not long
