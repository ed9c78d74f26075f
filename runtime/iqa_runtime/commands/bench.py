"""The command ``iqa-bench``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from iqa_runtime.artefacts.bundled import find_artefact
from iqa_runtime.artefacts.opening import open_artefact
from iqa_runtime.commands.options import ARTEFACT_HELP, BackendOptions, PictureOptions
from iqa_runtime.commands.shared import make_app, run_app, with_groups
from iqa_runtime.errors import FileError, UsageError
from iqa_runtime.files.overwriting import check_output, check_targets

if TYPE_CHECKING:
    from rich.console import Console

    from iqa_runtime.benchmark.report import BenchReport
    from iqa_runtime.benchmark.timing import Spread

_LIMITS = "The machine, for shares of what it can do"

app = make_app()


@app.command()
@with_groups
def bench_command(
    artefact: Annotated[str, typer.Argument(metavar="ARTEFACT", help=ARTEFACT_HELP)],
    picture: PictureOptions,
    backend: BackendOptions,
    image: Annotated[
        Path | None,
        typer.Argument(
            metavar="IMAGE",
            help="Image to score. Default: a synthetic photograph of 1920 x 1080.",
        ),
    ] = None,
    reference: Annotated[Path | None, typer.Option(metavar="FILE", help="Image that IMAGE is compared with.")] = None,
    batch_sizes: Annotated[
        str | None,
        typer.Option(
            metavar="N,...",
            help="Batch sizes, in items. Default: 1,2,4,8,16; on a GPU 1 and whole runs of the backend.",
        ),
    ] = None,
    seconds: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", show_default=False, help="Repeat each row so long, and at least five times. Default: 2."
        ),
    ] = 2.0,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write everything here, as JSON.")] = None,
    gmac: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            help="Work of one item, in 10^9 multiply-accumulates. Default: the artefact's.",
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    bandwidth: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            help="What the memory gives, in 10^9 bytes a second. Default: measured.",
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    peak: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            help="What arithmetic gives, in 10^9 operations a second. Default: the CPU's measured, a GPU's published "
            "for the precision.",
            rich_help_panel=_LIMITS,
        ),
    ] = None,
) -> None:
    """Measure an artefact on this host: latency of an image by stage, crops a second by batch size, shares reached."""
    # Here and not above, so that --help and usage errors don't wait for OpenCV.
    import msgspec
    from rich.console import Console

    from iqa_runtime.benchmark.measuring import measure_artefact

    opened = open_artefact(find_artefact(artefact, reference=reference is not None), trust=backend.trust)
    if output is not None:
        images = [("the image", file) for file in (image, reference) if file is not None]
        check_targets([("--output", output)], [*opened.files(), *images])
        check_output(output)
    report = measure_artefact(
        opened,
        image=image,
        reference=reference,
        batch_sizes=None if batch_sizes is None else _numbers(batch_sizes),
        seconds=seconds,
        gmac=gmac,
        bandwidth=bandwidth,
        peak=peak,
        **picture.arguments(),
        **backend.arguments(),
    )
    # Only a terminal has a width to fold into.
    show_report(report, Console(width=None if sys.stdout.isatty() else 1_000_000))
    if output is not None:
        try:
            output.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
        except OSError as error:
            raise FileError(f"{output}: cannot be written ({error.strerror}); choose another --output") from error


def show_report(report: BenchReport, console: Console) -> None:
    """Print a report as two tables."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    untrained = "" if report.trained else ", untrained"
    console.print(
        Text(
            f"{report.artefact.file}: {report.model}, {report.precision}{untrained}; {report.backend} "
            f"{report.provider}, {report.threads} threads"
        )
    )
    console.print(Text(f"{report.host.processor}, {report.host.cpus} CPUs; commit {report.host.commit or 'unknown'}"))
    stages = Table(
        title=Text(f"one image: {report.image}, crops {report.crops}"), title_justify="left", box=SIMPLE_HEAD
    )
    for heading in ("stage", "what"):
        stages.add_column(heading)
    headings = ["p50 ms", "p90 ms", "p99 ms", "rounds", "of bandwidth"]
    # Of engines alone, which time the GPU apart from the copies.
    shows_work = any(stage.gflops is not None for stage in report.stages)
    for heading in [*headings, "GFLOP/s", "of peak"] if shows_work else headings:
        stages.add_column(heading, justify="right")
    for stage in report.stages:
        work = [_rate(stage.gflops), _percent(stage.peak_share)] if shows_work else []
        stages.add_row(stage.name, Text(stage.what), *_times(stage.times), _percent(stage.bandwidth_share), *work)
    console.print(stages)
    title = Text(f"the model alone, {report.items_per_run} items a run")
    batches = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("items", "p50 ms", "p90 ms", "p99 ms", "rounds", "crops/s", "GFLOP/s", "of peak", "of bandwidth"):
        batches.add_column(heading, justify="right")
    for row in report.batches:
        batches.add_row(
            str(row.items),
            *_times(row.times),
            f"{row.crops_per_second:.1f}",
            _rate(row.gflops),
            _percent(row.peak_share),
            _percent(row.bandwidth_share),
        )
    console.print(batches)
    machine = report.machine
    memory = f"memory {_rate(machine.bandwidth)} GB/s{_KNOWN_BY[machine.bandwidth_source]}"
    kind = f"{machine.peak_precision} peak" if machine.peak_precision else "peak"
    products = f"{kind} {_rate(machine.peak)} GFLOP/s{_KNOWN_BY[machine.peak_source]}"
    console.print(Text(f"the machine: {memory}, {products}; -: not known"))


def _times(spread: Spread) -> tuple[str, str, str, str]:
    return f"{spread.p50:.3f}", f"{spread.p90:.3f}", f"{spread.p99:.3f}", str(spread.rounds)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


_KNOWN_BY: dict[str | None, str] = {
    None: "",
    "measured": " (measured)",
    "published": " (published, at the highest clock)",
    "given": " (given)",
}


def _numbers(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isascii() and part.strip().isdigit() and len(part) < 8 for part in parts):
        raise UsageError(f"--batch-sizes {text}: give whole numbers with commas between them, such as 1,4,16")
    return [int(part) for part in parts]


def main() -> NoReturn:
    """Run the command and exit: 0 done, 1 failed, 2 usage or a missing extra, 130 interrupted; errors go to stderr."""
    run_app(app, "iqa-bench")


if __name__ == "__main__":
    main()
