"""The command ``iqa-calibrate``: a float32 artefact in, one in less out, with a gate that refuses a bad one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from iqa_calibration.commands.options import PrecisionOptions, without_form
from iqa_runtime.commands.shared import make_app, progress, run_app, say, with_groups
from iqa_runtime.errors import ArtefactError, UsageError
from iqa_runtime.files.overwriting import check_page, check_targets

if TYPE_CHECKING:
    from iqa_calibration.jobs.report import Report

_NAME = "iqa-calibrate"

_MODEL_HELP = "Artefact in float32: written by iqa-export, or the name of a bundled model, such as edge."

app = make_app()


@app.command()
@with_groups
def calibrate_command(
    artefact: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help=_MODEL_HELP)],
    precision: PrecisionOptions,
    images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FOLDER|LIST|IMAGE",
            help="Photographs; may be repeated, or a quoted pattern. Default: the few of the package.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Artefact to write. Default: MODEL.int8.onnx, and alike.")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE.html", help="Write the page, which lies beside the artefact, here too."),
    ] = None,
) -> None:
    """Put an exported artefact into less than float32, and prove on photographs that it judges quality as before."""
    if precision.precision is None:
        raise UsageError("nothing to do; give --fp16, --bf16, --int8 or --int8-weights")
    if page is not None:
        check_page(page)
        check_targets(
            [("--report", page)], [("the artefact", artefact), *(("an image", each) for each in images or ())]
        )
    report = run_calibration(_NAME, artefact, precision, images, output)
    if page is not None:
        from iqa_calibration.jobs.report_page import write_page

        write_page(report, page)
    check_passed(report)


def run_calibration(
    name: str, artefact: Path, precision: PrecisionOptions, images: list[str] | None, output: Path | None
) -> Report:
    """Calibrate with a progress bar, and print the report.

    Raises
    ------
    IqaError
        As `iqa_calibration.calibrate`.
    """
    from iqa_calibration import calibrate

    with progress(name=name) as tell:
        report = calibrate(
            artefact,
            images=images or None,
            output=output,
            command=(name, *without_form(sys.argv[1:])),
            progress=tell,
            **precision.arguments(),
        )
    # Here and not above, so that --help doesn't wait for it.
    from rich.console import Console

    report.show(Console())
    if report.file is not None:
        written = (output or artefact).with_name(report.file.file)
        say(name, f"wrote {written}, and {written.stem}.report.json and .html beside it")
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


def main() -> NoReturn:
    """Run the command and exit."""
    run_app(app, _NAME)


if __name__ == "__main__":
    main()
