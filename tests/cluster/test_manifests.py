"""KubeRay manifests and the image: they load, and what they name exists."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
import yaml

MANIFESTS = sorted((Path(__file__).parents[2] / "cluster" / "kuberay").glob("*.yaml"))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifest_is_a_ray_resource_of_the_pinned_version(path: Path, project_dir: Path) -> None:
    manifest = yaml.safe_load(path.read_text())
    assert manifest["apiVersion"] == "ray.io/v1"
    pinned = re.search(r"^ray==(.+)$", (project_dir / "constraints.txt").read_text(), re.M)
    assert pinned is not None
    assert f'rayVersion: "{pinned[1]}"' in path.read_text()


def test_the_service_entry_point_imports() -> None:
    service = next(path for path in MANIFESTS if path.name == "service.yaml")
    serve_config = yaml.safe_load(yaml.safe_load(service.read_text())["spec"]["serveConfigV2"])
    from cluster.config import load_config
    from cluster.serve_entry import ServeArguments

    for application in serve_config["applications"]:
        module, name = application["import_path"].split(":")
        assert callable(getattr(importlib.import_module(module), name))
        arguments = ServeArguments.model_validate(application["args"])
        load_config(arguments.profile, arguments.config, arguments.overrides)


@pytest.mark.parametrize("name", ["curate.yaml", "train.yaml"])
def test_job_entry_points_are_commands_of_ours(name: str) -> None:
    import typer

    from cluster.cli import app
    from cluster.config import load_config

    manifest = yaml.safe_load(next(p for p in MANIFESTS if p.name == name).read_text())
    words = shlex.split(manifest["spec"]["entrypoint"])
    assert words[0] == "filmweaver"
    assert words[1] in typer.main.get_command(app).commands
    profile = words[words.index("--profile") + 1]
    load_config(profile, None, [words[words.index("--set") + 1]])


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_cluster_checks_its_token(path: Path) -> None:
    spec = yaml.safe_load(path.read_text())["spec"]
    cluster = spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec
    assert cluster["authOptions"] == {"mode": "token"}
