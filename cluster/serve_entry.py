"""The entry point for Ray Serve configuration files: `import_path: cluster.serve_entry:build`.

`args` select the configuration as the command line does:
`{profile: wan-1.3b, overrides: ["serving.scaling.max_replicas=8"]}`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from fw_model.config import StrictModel

if TYPE_CHECKING:
    from ray import serve as ray_serve


class ServeArguments(StrictModel):
    """Which configuration to build the application from."""

    profile: str = Field("tiny", description="Named configuration to start from.")
    config: Path | None = Field(None, description="YAML file that overrides the profile.")
    overrides: list[str] = Field([], description="Settings, `section.key=value`.")


def build(args: ServeArguments) -> ray_serve.Application:
    """Return the application that Ray Serve deploys."""
    from cluster.config import load_config
    from serve.app import build_app

    settings = load_config(args.profile, args.config, args.overrides)
    return build_app(settings.serving, settings.model, settings.generation)
