"""The command ``iqa-ray``: score images on the machines of a Ray cluster, or on this one."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from iqa_runtime import BackendError, IqaError, UsageError, read_contract
from iqa_runtime.artefacts.bundled import find_artefact
from iqa_runtime.commands.options import BackendOptions, BatchSize, ScoringOptions
from iqa_runtime.commands.shared import NOT_RUN, SOME_FAILED, in_flags, make_app, run_app, say, version_of, with_groups
from iqa_runtime.errors import needing
from iqa_runtime.files.remote import DEFAULT_FETCH_BYTES, DEFAULT_FETCH_TIMEOUT
from iqa_runtime.images.loading import DEFAULT_PIXEL_LIMIT
from iqa_serving.ray_data.cluster import Workers, connect, prepare

_NAME = "iqa-ray"
_INPUTS, _SCORING, _ROWS, _CLUSTER = "Inputs", "Scoring", "Rows", "Cluster"

app = make_app()


def main() -> NoReturn:
    """Run the command line and exit.

    0 done, 1 some images failed or the run ended early, 2 not run, 130 interrupted, 143 terminated.
    """
    run_app(app, _NAME, exit_codes={BackendError: SOME_FAILED, IqaError: NOT_RUN})


def in_words(message: str) -> str:
    """Say in options of this command what the runtime says of its parameters."""
    return in_flags(message, app)


@app.command()
@with_groups
def score(
    artefact: Annotated[
        str,
        typer.Argument(
            metavar="ARTEFACT",
            help="File written by iqa-export, by a path that is good on every node, or a bundled model: edge, "
            "cvrkd-edge, dri-edge, mfe-edge or lpips.",
        ),
    ],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Images, folders, quoted globs or - for a list on stdin; or Parquet files (.parquet), or WebDatasets "
            "(.tar). Also of s3:// and gs://, where a folder ends in /.",
        ),
    ],
    scoring: ScoringOptions,
    backend: BackendOptions,
    output: Annotated[
        str,
        typer.Option(metavar="DIR", help="Write Parquet files here: a folder, s3:// or gs://.", rich_help_panel=_ROWS),
    ],
    column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Column of the images in Parquet files: paths, addresses or bytes; of WebDatasets, their suffix. "
            "Default: image; of WebDatasets, the first image.",
            rich_help_panel=_INPUTS,
        ),
    ] = None,
    id_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Column of what rows call them, each once. Default: the path, or FILE#ROW.",
            rich_help_panel=_INPUTS,
        ),
    ] = None,
    reference_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Column of their references; of WebDatasets, the suffix.",
            rich_help_panel=_INPUTS,
        ),
    ] = None,
    fetch_bytes: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="A file of another host with more bytes fails.", rich_help_panel=_INPUTS),
    ] = DEFAULT_FETCH_BYTES,
    fetch_timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="A file of another host that takes longer fails.", rich_help_panel=_INPUTS
        ),
    ] = DEFAULT_FETCH_TIMEOUT,
    batch_size: BatchSize = None,
    pixel_limit: Annotated[
        int, typer.Option(min=1, metavar="N", help="Larger images fail, undecoded.", rich_help_panel=_SCORING)
    ] = DEFAULT_PIXEL_LIMIT,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            help="Also measure sharpness, noise, blocks, clipped tones and size; no score changes.",
            rich_help_panel=_SCORING,
        ),
    ] = False,
    rows_per_file: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Rows of a file: so many images a worker takes at a time, and begins again where it is killed.",
            rich_help_panel=_ROWS,
        ),
    ] = 500,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with --output: skip what has a score there.", rich_help_panel=_ROWS),
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Cluster to use, such as auto on one of its nodes. Default: RAY_ADDRESS, or else this machine alone.",
            rich_help_panel=_CLUSTER,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Workers. Default: as many as there is room for.", rich_help_panel=_CLUSTER
        ),
    ] = None,
    cpus: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="CPUs of each, and its threads but for --threads.", rich_help_panel=_CLUSTER
        ),
    ] = 1,
    gpus: Annotated[
        float,
        typer.Option(
            min=0, metavar="X", help="GPUs of each, 0.5 for two on one; it runs there.", rich_help_panel=_CLUSTER
        ),
    ] = 0.0,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=version_of(_NAME), is_eager=True, help="Show the version.", rich_help_panel=_CLUSTER
        ),
    ] = False,
) -> int:
    """Score images on many machines; rows go to Parquet files in --output, all else to standard error."""
    del version  # its callback has done everything
    known_as = _checked(artefact, backend.trust, compared=reference_column is not None)
    given = asdict(backend) | scoring.arguments()
    prepare(address)
    # Here and not above, so that --help needs none of it, and Ray finds what was prepared.
    with needing("what runs on a cluster", extras="ray"):
        from iqa_serving.ray_data.job import Job
        from iqa_serving.ray_data.listing import find_places
        from iqa_serving.ray_data.output import Output
        from iqa_serving.ray_data.source import ImageFiles
        from iqa_serving.ray_data.tables import Columns
    written = Output(output)
    if not resume:
        written.check_new()
    kind, places = find_places(inputs)
    source = ImageFiles(kind, places, Columns(column, reference_column, id_column), rows_per_file)
    scored = written.resume() if resume else None
    team = Workers(count=workers, cpus=cpus, gpus=gpus)
    connect(address, team)
    began = time.perf_counter()
    Job(
        artefact=known_as,
        source=source,
        output=written,
        workers=team,
        rows=rows_per_file,
        # What is not given is left to the worker, which knows its CPUs.
        scoring={name: value for name, value in given.items() if value is not None}
        | {"pixel_limit": pixel_limit, "measure": measure, "batch_size": batch_size},
        options={"fetch_bytes": fetch_bytes, "fetch_timeout": fetch_timeout, "words": in_words},
    ).run(scored)
    seconds = time.perf_counter() - began
    counts = written.count()
    say(_NAME, f"{counts.rows} images, {counts.failed} without a score, {seconds:.0f} s; rows in {output}")
    return SOME_FAILED if counts.failed else 0


def _checked(artefact: str, trust: Path | None, *, compared: bool) -> str:
    """Return what an artefact that suits the run is known as on other nodes."""
    path = find_artefact(artefact, reference=compared)
    contract = read_contract(path, trust=trust)
    if contract.needs_reference != compared:
        what = "compares with a reference image; give" if contract.needs_reference else "takes no reference; leave out"
        raise UsageError(f"this artefact ({contract.model}, {contract.task}) {what} ``reference_column``")
    return str(path.absolute()) if Path(artefact).is_file() else path.stem


if __name__ == "__main__":
    main()
