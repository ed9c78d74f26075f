"""The command ``iqa-train``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from iqa_runtime.commands.shared import make_app, progress, run_app, say
from iqa_runtime.errors import UsageError, needing

_NAME = "iqa-train"

app = make_app()


@app.command()
def train_command(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Recipe to train by; docs/training.md lists them.")],
    config: Annotated[Path, typer.Option(metavar="FILE", help="YAML file with the settings of the run.")],
    data: Annotated[
        Path, typer.Option(metavar="PATH", help="Root of the data set; for a synthetic one, a folder of photographs.")
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the run; a run that is there is resumed.")],
    weights: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE=FILE", help="Checkpoint to start from, as encoder=FILE; may be repeated."),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where a synthetic set is kept. Default: OUT/cache.")
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Licence of the trained weights, kept in the checkpoint and its artefacts."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Where to train: cpu or cuda. Default: cuda where there is one.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, metavar="N", help="CPU threads. Default: PyTorch's.")] = None,
) -> None:
    """Train a network by a recipe of the four papers; the best checkpoint goes on to iqa-export --weights."""
    # Here and not above, so that --help and usage errors don't wait for torch.
    with needing("training", extras="cpu,train"):
        from iqa_training.run.job import train
    with progress() as tell:
        trained = train(
            recipe,
            config=config,
            data=data,
            out=out,
            weights=_roles(weights or []),
            cache=cache,
            licence=licence,
            device=device,
            threads=threads,
            progress=tell,
        )
    chosen_by = f"best validation {trained.best:.4f}" if math.isfinite(trained.best) else "no validation"
    say(_NAME, f"{chosen_by}; next: {trained.next_command}")


def _roles(texts: list[str]) -> dict[str, Path]:
    roles = {}
    for text in texts:
        role, separator, file = text.partition("=")
        if not (role and separator and file) or role in roles:
            raise UsageError(f"--weights {text}: give each role once, as encoder=FILE")
        roles[role] = Path(file)
    return roles


def main() -> NoReturn:
    """Run the command and exit."""
    run_app(app, _NAME)


if __name__ == "__main__":
    main()
