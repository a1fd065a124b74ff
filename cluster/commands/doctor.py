"""`filmweaver doctor`."""

from __future__ import annotations

from cluster.commands.options import CommonOptions
from fw_model.errors import ConfigError


def doctor(common: CommonOptions) -> None:
    """Check that this machine has what the commands need."""
    settings = common.load()
    from cluster.doctor import print_report

    if not print_report(settings):
        raise ConfigError("A requirement of FilmWeaver is missing; see the lines marked MISSING.")
