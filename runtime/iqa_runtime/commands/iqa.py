"""The command ``iqa``: lists the commands of this package, and runs one."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module, metadata
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from iqa_runtime import UsageError
from iqa_runtime.commands.shared import make_app, run_app, version_of

_NAME = "iqa"
_PREFIX = f"{_NAME}-"


@cache
def installed() -> dict[str, metadata.EntryPoint]:
    """Return what installing this package made commands of, by the word after ``iqa``.

    Their modules stand above the runtime, which knows them by the metadata of the distribution alone.
    """
    try:
        points = metadata.distribution("iqa-deploy").entry_points.select(group="console_scripts")
    except metadata.PackageNotFoundError:  # run from its source tree alone
        return {}
    return {point.name.removeprefix(_PREFIX): point for point in points if point.name.startswith(_PREFIX)}


class _Commands(TyperGroup):
    """The command lines of the others, loaded when they are asked for: help and completion ask."""

    def list_commands(self, context: Any) -> list[str]:  # noqa: ARG002
        return sorted(installed())

    def get_command(self, context: Any, name: str) -> Any:
        if name in installed():
            command = typer.main.get_command(import_module(installed()[name].module).app)
            command.name = name
            return command
        if context.resilient_parsing:  # completion: nobody to tell
            return None
        raise UsageError(f"{name}: no command of {_NAME}; {_NAME} --help lists those there are")


app = make_app()


def main() -> NoReturn:
    """Run the command that is named and exit as it does; without one, list them.

    It runs in this process, under its own name: signals, exit codes and messages are its own.
    """
    name, *rest = sys.argv[1:] or [""]
    if name in installed():
        sys.argv = [_PREFIX + name, *rest]
        installed()[name].load()()
    run_app(app, _NAME)


@app.callback(cls=_Commands, invoke_without_command=True)
def iqa(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - acts by its callback
        bool, typer.Option("--version", callback=version_of(_NAME), is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Score pictures, and make, measure and serve what scores them: each command is iqa-COMMAND, too."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


if __name__ == "__main__":
    main()
