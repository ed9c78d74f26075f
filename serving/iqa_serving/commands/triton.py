"""The command ``iqa-triton``: write an artefact into a model repository of Triton Inference Server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from iqa_runtime.arguments import check_seconds
from iqa_runtime.artefacts.opening import open_artefact
from iqa_runtime.commands.options import ARTEFACT_HELP, BackendOptions, BatchSize, PictureOptions
from iqa_runtime.commands.shared import in_flags, make_app, run_app, say, version_of, with_groups
from iqa_runtime.images.loading import check_frame
from iqa_serving.settings import DEFAULT_BODY_LIMIT, DEFAULT_PIXEL_LIMIT
from iqa_serving.triton.config import Placement
from iqa_serving.triton.models import bytes_model, plain_models
from iqa_serving.triton.repository import check_name, write_models

_NAME = "iqa-triton"
_SERVER, _LIMITS = "Server", "Limits"

app = make_app()


def main() -> NoReturn:
    """Run the command line and exit: 0 written, 1 cannot be read or written, 2 not run."""
    run_app(app, _NAME)


def in_words(message: str) -> str:
    """Say in options of this command what the runtime says of its parameters."""
    return in_flags(message, app)


@app.command()
@with_groups
def triton(
    artefact: Annotated[str, typer.Argument(metavar="ARTEFACT", help=ARTEFACT_HELP)],
    repository: Annotated[
        Path, typer.Option(metavar="DIR", help="Model repository to write to.", rich_help_panel=_SERVER)
    ],
    pictures: PictureOptions,
    backend: BackendOptions,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What clients call the model. Default: the file name of the artefact without its suffix.",
            rich_help_panel=_SERVER,
        ),
    ] = None,
    plain: Annotated[
        bool,
        typer.Option(
            "--plain/--no-plain",
            help="Write NAME_crops, too: the graph by itself, for clients that cut and normalise crops.",
            rich_help_panel=_SERVER,
        ),
    ] = True,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace what this command wrote before.", rich_help_panel=_SERVER),
    ] = False,
    environment: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="On the server, the Python environment with iqa-deploy: a folder with bin/activate, or an archive of "
            "conda-pack. Default: the server's own Python.",
            rich_help_panel=_SERVER,
        ),
    ] = None,
    instances: Annotated[
        int,
        typer.Option(
            min=1,
            max=256,
            metavar="N",
            help="Processes that score, each with a copy of the model; on GPUs, so many on each.",
            rich_help_panel=_SERVER,
        ),
    ] = 1,
    max_batch_size: Annotated[
        int,
        typer.Option(
            min=1, max=4096, metavar="N", help="Most images of a request, and taken together.", rich_help_panel=_SERVER
        ),
    ] = 32,
    queue_delay: Annotated[
        int,
        typer.Option(
            min=0,
            max=10_000_000,
            metavar="MICROSECONDS",
            help="Time that a request may wait for others to share a batch.",
            rich_help_panel=_SERVER,
        ),
    ] = 0,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="An image that takes longer fails.", rich_help_panel=_LIMITS)
    ] = 30.0,
    pixel_limit: Annotated[
        int, typer.Option(min=1, metavar="N", help="Larger images fail, undecoded.", rich_help_panel=_LIMITS)
    ] = DEFAULT_PIXEL_LIMIT,
    byte_limit: Annotated[
        int, typer.Option(min=1, metavar="BYTES", help="Longer files fail, undecoded.", rich_help_panel=_LIMITS)
    ] = DEFAULT_BODY_LIMIT,
    batch_size: BatchSize = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=version_of(_NAME), is_eager=True, help="Show the version.", rich_help_panel=_SERVER
        ),
    ] = False,
) -> None:
    """Write an artefact into a model repository of Triton Inference Server."""
    del version  # its callback has done everything
    check_frame(pictures.frame)
    check_seconds("timeout", timeout)
    name = Path(artefact).stem if name is None else name
    check_name(name)
    opened = open_artefact(artefact, trust=backend.trust)
    placement = Placement(
        max_batch_size=max_batch_size,
        queue_delay=queue_delay,
        instances=instances,
        device=backend.device or ("cpu" if opened.engine is None else "cuda"),
    )
    scoring = (
        backend.arguments()
        | pictures.arguments()
        | {"batch_size": batch_size, "pixel_limit": pixel_limit, "timeout": timeout}
    )
    models = [
        bytes_model(opened, name, placement, scoring=scoring, byte_limit=byte_limit, environment=environment),
        *(plain_models(opened, name, placement) if plain else ()),
    ]
    for folder in write_models(repository, name, models, overwrite=overwrite):
        typer.echo(folder)
    if not opened.contract.weights.trained:
        say(_NAME, "the artefact is untrained (random weights): its scores only show that the pipeline runs")


if __name__ == "__main__":
    main()
