"""The command ``iqa-serve``: score images over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from iqa_runtime import IqaError, UsageError
from iqa_runtime.artefacts.bundled import find_artefact
from iqa_runtime.commands.options import BackendOptions, BatchSize, PictureOptions
from iqa_runtime.commands.process import leave
from iqa_runtime.commands.shared import NOT_RUN, in_flags, make_app, run_app, say, version_of, with_groups
from iqa_runtime.cpu import available_cpus
from iqa_runtime.errors import needing
from iqa_serving.settings import DEFAULT_BODY_LIMIT, DEFAULT_PIXEL_BUDGET, DEFAULT_PIXEL_LIMIT, Settings

_NAME = "iqa-serve"
_SCORING, _SERVER, _LIMITS = "Scoring", "Server", "Limits"

app = make_app()


def main() -> NoReturn:
    """Run the command line and exit.

    0 ended by SIGTERM or Ctrl-C with everything answered, 1 no worker could live or what scores stood still, 2 not run.
    """
    run_app(app, _NAME, exit_codes={IqaError: NOT_RUN})


def in_words(message: str) -> str:
    """Say in options of this command what the runtime says of its parameters."""
    return in_flags(message, app)


@app.command()
@with_groups
def serve(
    artefacts: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]ARTEFACT...",
            help="Files written by iqa-export, or bundled models: edge, edge-fr or lpips. Clients know each by NAME, "
            "or by its file name without the suffix.",
        ),
    ],
    pictures: PictureOptions,
    backend: BackendOptions,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on.", rich_help_panel=_SERVER)
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="N", help="Port; 0 for any.", rich_help_panel=_SERVER)
    ] = 8000,
    workers: Annotated[
        int, typer.Option(min=1, max=256, metavar="N", help="Processes that serve.", rich_help_panel=_SERVER)
    ] = 1,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File with the bearer token that clients must send. Default: everybody is served.",
            rich_help_panel=_SERVER,
        ),
    ] = None,
    page: Annotated[
        bool,
        typer.Option(
            "--page/--no-page",
            help="A page at / where one drops pictures; its first one opens the model once more.",
            rich_help_panel=_SERVER,
        ),
    ] = True,
    grace: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="Time that requests under way have to end after SIGTERM.",
            rich_help_panel=_SERVER,
        ),
    ] = 60.0,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="An image that takes longer fails.", rich_help_panel=_LIMITS)
    ] = 30.0,
    pixel_limit: Annotated[
        int, typer.Option(min=1, metavar="N", help="Larger images fail, undecoded.", rich_help_panel=_LIMITS)
    ] = DEFAULT_PIXEL_LIMIT,
    body_limit: Annotated[
        int, typer.Option(min=1, metavar="BYTES", help="Longer bodies are refused.", rich_help_panel=_LIMITS)
    ] = DEFAULT_BODY_LIMIT,
    body_timeout: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="Time that a client may take to send a body.", rich_help_panel=_LIMITS),
    ] = 30.0,
    queue: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Requests with images that a process takes at a time; others are told to ask again later.",
            rich_help_panel=_LIMITS,
        ),
    ] = 64,
    stall_timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="A process whose model or decoders give no sign of life for so long ends, and is replaced by another.",
            rich_help_panel=_LIMITS,
        ),
    ] = 300.0,
    pixel_budget: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Pixels of all images that a process decodes and scores at a time; others wait.",
            rich_help_panel=_LIMITS,
        ),
    ] = DEFAULT_PIXEL_BUDGET,
    batch_limit: Annotated[
        int, typer.Option(min=1, metavar="N", help="Most images of one request.", rich_help_panel=_LIMITS)
    ] = 256,
    batch_size: BatchSize = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=version_of(_NAME), is_eager=True, help="Show the version.", rich_help_panel=_SERVER
        ),
    ] = False,
) -> int:
    """Score images over HTTP.

    A page at /, POST /score, POST /score/batch, the Open Inference Protocol below /v2, and /metrics.
    """
    del version  # its callback has done everything
    threads = backend.threads or max(1, available_cpus() // workers)
    settings = Settings(
        artefacts=_by_name(artefacts),
        scoring=backend.arguments()
        | pictures.arguments()
        | {"threads": threads, "batch_size": batch_size, "pixel_limit": pixel_limit, "timeout": timeout},
        trust=backend.trust,
        body_limit=body_limit,
        body_timeout=body_timeout,
        queue=queue,
        batch_limit=batch_limit,
        pixel_budget=pixel_budget,
        stall_timeout=stall_timeout,
        page=page,
        grace=grace,
        token_file=token_file,
        words=in_words,
    )
    # Here and not above, so that --help needs none of it.
    with needing("the server", extras="serve"):
        from iqa_serving import workers as processes
    with processes.listen(host, port) as listening:
        address = f"[{host}]" if ":" in host else host
        say(_NAME, f"listening on http://{address}:{listening.getsockname()[1]}")
        if workers > 1:
            return processes.Supervisor(settings, listening, workers).run()
        code = processes.serve_here(settings, listening)
    return leave(code)


def _by_name(artefacts: list[str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for text in artefacts:
        name, equals, path = text.partition("=")
        if not equals or Path(text).exists():
            path = text
            name = Path(text).stem
        if not name or not set(name).isdisjoint("/?#%") or not name.isprintable():
            raise UsageError(f"{text}: {name!r} cannot stand in an address; give another name: NAME={path}")
        if name in named:
            raise UsageError(f"{text}: a second artefact called {name}; give one of them another name: NAME={path}")
        named[name] = str(find_artefact(path))
    return named


if __name__ == "__main__":
    main()
