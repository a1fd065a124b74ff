"""The options that all commands share, and the kinds of argument that several have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.models import ArgumentInfo

from fw_model.errors import ConfigError

if TYPE_CHECKING:
    from cluster.config import FilmWeaverConfig

Profile = Annotated[str, typer.Option("--profile", help="Named configuration to start from.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="YAML file that overrides the profile.")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, `section.key=value`; repeatable.")
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="`http://HEAD:8265` submits this command as a Ray job; `auto` or `HOST:PORT` joins a "
        "running Ray. Default: start Ray on this machine.",
    ),
]


@dataclass(frozen=True)
class CommonOptions:
    """What the user gave for the options that every command has."""

    profile: str
    config: Path | None
    overrides: list[str] | None
    address: str | None

    def load(self, *settings: str) -> FilmWeaverConfig:
        """Set up logging and return the configuration, `settings` (`a.b=c`) applied last."""
        from cluster.config import load_config
        from cluster.console import configure_logging

        configure_logging()
        address = [f"ray.address={self.address}"] if self.address else []
        return load_config(
            self.profile, self.config, [*(self.overrides or []), *settings, *address]
        )

    def refuse_ray(self, command: str) -> None:
        """ConfigError if --address names a Ray to join, which `command` would not use."""
        if self.address not in (None, "local"):
            raise ConfigError(
                f"{command} computes in one process and joins no Ray at {self.address!r}; give "
                "--address http://HEAD:8265 to run it as a job there, or omit --address."
            )


class Location(str):
    """A local path or a URI. On a cluster, a local path must lie on a disk that all nodes share."""

    __slots__ = ()

    @property
    def is_uri(self) -> bool:
        """Whether this is a URI, which every node reads in the same way."""
        return "://" in self


def local_path(text: str) -> Path:
    """Parse a path that must be local; ConfigError for a URI."""
    if "://" in str(text):
        raise ConfigError(
            f"{text} is a URI, but this must be a local path; copy or mount it and give that path."
        )
    return Path(text)


def folder(meaning: str) -> ArgumentInfo:
    """Declare an argument that names a local folder."""
    argument: ArgumentInfo = typer.Argument(help=meaning, parser=local_path)
    return argument


def suite_name(text: str) -> str:
    """Parse a suite: its name, or a Location if it looks like a file, even one that is missing."""
    is_file = Path(text).is_file() or Path(text).suffix in (".json", ".txt")
    return Location(text) if is_file else text


def check_reasons(reasons: list[str] | None) -> list[str] | None:
    """Refuse an unknown reason before anything starts or travels."""
    retry_settings(reasons or [])
    return reasons


def retry_settings(reasons: Sequence[str]) -> list[str]:
    """Return the settings that make curation retry what it set aside for these reasons.

    ConfigError for an unknown reason.
    """
    if not reasons:
        return []
    from fw_model.schemas.curated import CaptionReason, VideoReason

    known = {"retry_quarantined": [*VideoReason, "all"], "retry_rejected": [*CaptionReason, "all"]}
    for reason in reasons:
        if not any(reason in those for those in known.values()):
            names = ", ".join(dict.fromkeys(str(r) for those in known.values() for r in those))
            raise ConfigError(f"Unknown reason to retry: {reason!r}; choose from {names}.")
    return [
        f"curation.{setting}={json.dumps([r for r in reasons if r in those])}"
        for setting, those in known.items()
    ]
