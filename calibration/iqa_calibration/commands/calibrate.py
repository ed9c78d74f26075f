"""The command ``iqa-calibrate``: a float32 artefact in, one in less out, with a gate that refuses a bad one."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from iqa_calibration.commands.options import (
    Attention,
    Bf16,
    Cache,
    Fp16,
    Int8,
    Int8Weights,
    KeepFloat,
    Limit,
    Method,
    NoGate,
    NoSearch,
    Options,
    Seed,
    TargetName,
    Threads,
    find_photographs,
    without_form,
)
from iqa_runtime.commands.shared import run_app
from iqa_runtime.errors import ArtefactError, DependencyError, UsageError

if TYPE_CHECKING:
    from iqa_calibration.jobs.forms import Form
    from iqa_calibration.jobs.report import Report
    from iqa_runtime.images.loading import Source

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def calibrate_command(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="float32 artefact, written by iqa-export.")],
    images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FOLDER|LIST|IMAGE",
            help="Photographs; may be repeated, or a quoted pattern. Default: the few of the package.",
        ),
    ] = None,
    fp16: Fp16 = False,
    bf16: Bf16 = False,
    int8: Int8 = False,
    int8_weights: Int8Weights = False,
    target: TargetName = None,
    method: Method = None,
    keep_float: KeepFloat = None,
    attention: Attention = None,
    seed: Seed = None,
    limit: Limit = None,
    cache: Cache = None,
    no_gate: NoGate = False,
    no_search: NoSearch = False,
    threads: Threads = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Artefact to write. Default: MODEL.int8.onnx, and alike.")
    ] = None,
) -> None:
    """Put an exported artefact into less than float32, and prove on photographs that it judges quality as before."""
    options = Options(
        fp16=fp16,
        bf16=bf16,
        int8=int8,
        int8_weights=int8_weights,
        target=target,
        method=method,
        keep_float=tuple(keep_float or ()),
        attention=attention,
        seed=seed,
        limit=limit,
        cache=cache,
        no_gate=no_gate,
        no_search=no_search,
        threads=threads,
    )
    form = options_form(options)
    if form is None:
        raise UsageError("nothing to do; give --fp16, --bf16, --int8 or --int8-weights")
    report = run_job(
        "iqa-calibrate",
        model,
        form,
        options,
        choose_photographs("iqa-calibrate", images or [], "--images"),
        output=output or model.with_name(model.name.removesuffix(".onnx") + form.suffix),
    )
    check_passed(report)


def options_form(options: Options) -> Form | None:
    """Return what is asked for, None if no precision is.

    Raises
    ------
    DependencyError
        If a library is missing that calibration needs.
    UsageError
        If options don't go together.
    """
    try:
        return options.form()
    except ImportError as error:
        raise _missing(error) from error


def choose_photographs(program: str, images: list[str], option: str) -> list[Source]:
    """List the photographs of a command; where it names none, the packaged ones, and say so."""
    photographs = find_photographs(images)
    if not images:
        _say(program, f"no {option}: using the {len(photographs)} photographs of the package")
    return photographs


def run_job(
    program: str, artefact: Path, form: Form, options: Options, photographs: list[Source], *, output: Path
) -> Report:
    """Run the job of a command with progress bars and warnings on standard error, and print its report.

    Raises
    ------
    DependencyError
        If a library is missing that calibration needs.
    IqaError
        As `iqa_calibration.jobs.job.calibrate`.
    """
    try:
        from rich.console import Console

        from iqa_calibration.jobs.job import Request, calibrate
    except ImportError as error:
        raise _missing(error) from error
    from iqa_calibration.images.sets import DEFAULT_COUNT
    from iqa_calibration.progress import stages
    from iqa_runtime.cpu import available_cpus

    request = Request(
        artefact=artefact,
        form=form,
        images=tuple(photographs),
        output=output,
        seed=options.seed or 0,
        limit=options.limit or DEFAULT_COUNT,
        cache=options.cache,
        gate=not options.no_gate,
        threads=options.threads or available_cpus(),
        command=(program, *without_form(sys.argv[1:])),
    )

    def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
        _say(program, str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show_warning
        with stages(Console(stderr=True)) as progress:
            report = calibrate(request, progress)
    report.show(Console())
    if report.file is not None:
        _say(program, f"wrote {output}, and {output.stem}.report.json and .html beside it")
    return report


def check_passed(report: Report) -> None:
    """Refuse what the gate refused.

    Raises
    ------
    ArtefactError
        With the numbers, and the nearest alternative that passes.
    """
    if not report.passed:
        raise ArtefactError(f"{report.title}: {report.verdict()}")


def _missing(error: ImportError) -> DependencyError:
    return DependencyError(f'{error}; install what calibration needs: pip install "iqa-deploy[cpu,calibration]"')


def _say(program: str, message: str) -> None:
    typer.echo(f"{program}: {message}", err=True)


def main() -> NoReturn:
    """Run the command and exit."""
    run_app(app, "iqa-calibrate")


if __name__ == "__main__":
    main()
