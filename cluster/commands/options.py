"""The options and kinds of argument that commands share, and the configuration they make."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.models import ArgumentInfo

from cluster.console import configure_logging
from fw_model.errors import ConfigError

if TYPE_CHECKING:
    from cluster.config import FilmWeaverConfig

Profile = Annotated[str, typer.Option("--profile", help="Named configuration to start from.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="YAML file laid over the profile.")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, `section.key=value`; repeatable.")
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="`http://HEAD:8265` submits this command as a Ray job; `auto` or `HOST:PORT` works "
        "from here on a running Ray. Default: a Ray of this machine.",
    ),
]


def local_path(text: str) -> Path:
    """Read a path that must be local; a URI is refused."""
    if "://" in str(text):
        raise ConfigError(
            f"{text} is a URI and must be a local path here; copy or mount it and give its path."
        )
    return Path(text)


def folder(meaning: str) -> ArgumentInfo:
    """Declare an argument that names a local folder."""
    argument: ArgumentInfo = typer.Argument(help=meaning, parser=local_path)
    return argument


def path_or_uri(text: str) -> str | Path:
    """Return a URI as it is, anything else as a path."""
    return text if "://" in text else Path(text)


def is_suite_file(suite: str) -> bool:
    """Whether `suite` means a file; one that is lost but looks like one shall be named as such."""
    return Path(suite).is_file() or Path(suite).suffix in (".json", ".txt")


def retried(reasons: Sequence[str]) -> list[str]:
    """Return the settings that try again what curation set aside for these reasons.

    ConfigError for a reason that there is not.
    """
    if not reasons:
        return []
    from fw_model.schemas.curated import CaptionReason, VideoReason

    known = {"retry_quarantined": [*VideoReason, "all"], "retry_rejected": [*CaptionReason, "all"]}
    for reason in reasons:
        if not any(reason in those for those in known.values()):
            names = ", ".join(dict.fromkeys(str(r) for those in known.values() for r in those))
            raise ConfigError(f"There is no reason {reason!r} to retry for; choose from {names}.")
    return [
        f"curation.{setting}={json.dumps([r for r in reasons if r in those])}"
        for setting, those in known.items()
    ]


def load(
    profile: str, config: Path | None, overrides: list[str] | None, address: str | None
) -> FilmWeaverConfig:
    """Set up logs and build the configuration of a command that runs here."""
    configure_logging()
    from cluster.config import load_config

    chosen = [*(overrides or []), *([f"ray.address={address}"] if address else [])]
    return load_config(profile, config, chosen)
