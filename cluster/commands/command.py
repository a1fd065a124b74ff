"""One decorator that makes a function a `filmweaver` command.

It adds the options that all commands share and, when --address names a job server, submits the
parsed command line as a Ray job instead of running the function. Knows nothing of what commands do.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import get_type_hints

import typer
from typer.models import ArgumentInfo

from cluster.commands.options import (
    Address,
    CommonOptions,
    ConfigFile,
    Location,
    Overrides,
    Profile,
)
from cluster.submit import is_job_server, submit

Command = Callable[..., None]


def command(
    app: typer.Typer,
    name: str | None = None,
    *,
    profile: str = "tiny",
    ships: str | None = None,
    in_process: bool | str = False,
) -> Callable[[Command], Command]:
    """Register the decorated function in `app`; its first parameter is the CommonOptions.

    `profile` is the default of --profile. `ships` names a parameter, a story file, whose content
    travels with a submitted job. `in_process`: the command computes in its own process and uses no
    Ray; a name means that it does so if this option is given.
    """

    def register(function: Command) -> Command:
        def run(context: typer.Context, **given: object) -> None:
            common = CommonOptions(**{key: given.pop(key) for key in _SHARED})  # type: ignore[arg-type]
            is_alone = bool(given[in_process]) if isinstance(in_process, str) else in_process
            if is_job_server(common.address):
                story = given[ships] if ships else None
                assert story is None or isinstance(story, Path)
                words = command_line(context, given)
                submit(
                    common.address,
                    words,
                    common.profile,
                    common.config,
                    common.overrides,
                    story=story,
                    in_process=is_alone,
                )
            else:
                if is_alone:
                    common.refuse_ray(" ".join(_names(context)))
                function(common, **given)

        run.__doc__ = function.__doc__
        run.__signature__ = _signature(function, profile)  # type: ignore[attr-defined]
        app.command(name or function.__name__.replace("_", "-"))(run)
        return function

    return register


def command_line(context: typer.Context, given: dict[str, object]) -> list[str | Path]:
    """Return the words that give the parsed parameters `given` again, without shared options."""
    words: list[str | Path] = [*_names(context)]
    for parameter in context.command.params:
        value = given.get(str(parameter.name))
        if value is None or value is False or value == ():
            continue
        option = max(parameter.opts, key=len)
        for item in value if isinstance(value, list | tuple) else [value]:
            words += [] if parameter.param_type_name == "argument" else [option]
            words += [] if item is True else [_word(item)]
    return words


def _names(context: typer.Context) -> list[str]:
    """Return the names of the command and its groups, without the program's own."""
    levels: list[str] = []
    level = context
    while level.parent is not None:
        levels.insert(0, str(level.info_name))
        level = level.parent  # type: ignore[assignment]
    return levels


def _word(value: object) -> str | Path:
    if isinstance(value, Location):
        return value if value.is_uri else Path(value)
    if isinstance(value, enum.Enum):
        return str(value.value)
    return value if isinstance(value, Path) else str(value)


def _shared(
    profile: Profile,
    config: ConfigFile = None,
    overrides: Overrides = None,
    address: Address = None,
) -> None:
    """The options that every command has."""


_SHARED = tuple(inspect.signature(_shared).parameters)


def _signature(function: Command, profile: str) -> inspect.Signature:
    """Return the parameters that typer reads: the context, the function's own, the shared ones."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    context = inspect.Parameter("context", keyword, annotation=typer.Context)
    own = list(_parameters(function).values())[1:]
    shared = _parameters(_shared)
    shared["profile"] = shared["profile"].replace(default=profile)
    parameters = [context, *own, *shared.values()]
    return inspect.Signature([parameter.replace(kind=keyword) for parameter in parameters])


def _parameters(function: Command) -> dict[str, inspect.Parameter]:
    hints = get_type_hints(function, include_extras=True)
    for name, hint in hints.items():
        for extra in getattr(hint, "__metadata__", ()):
            if isinstance(extra, ArgumentInfo):
                extra.metavar = name.upper()  # as the help texts write it
    return {
        name: parameter.replace(annotation=hints.get(name))
        for name, parameter in inspect.signature(function).parameters.items()
    }
