"""The command ``iqa-compare``."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import typer

from iqa_runtime.artefacts.bundled import find_artefact
from iqa_runtime.artefacts.opening import Artefact
from iqa_runtime.commands.options import ARTEFACT_HELP, BackendOptions, ScoringOptions
from iqa_runtime.commands.shared import make_app, progress, run_app, with_groups
from iqa_runtime.errors import FileError, IqaError, needing
from iqa_runtime.files.inputs import expand_inputs, pair_references
from iqa_runtime.files.overwriting import Named, check_targets
from iqa_runtime.images.header import Frame
from iqa_runtime.scorer import Scorer

_SECOND = "Backend of SECOND, where it is another"

app = make_app()


@app.command()
@with_groups
def compare_command(
    first: Annotated[str, typer.Argument(metavar="FIRST", help=ARTEFACT_HELP)],
    second: Annotated[str, typer.Argument(metavar="SECOND", help="Artefact that FIRST is compared with, likewise.")],
    images: Annotated[
        list[str], typer.Option(metavar="FOLDER|IMAGE", help="Images to score; may be repeated, or a quoted pattern.")
    ],
    scoring: ScoringOptions,
    backend: BackendOptions,
    reference: Annotated[
        str | None,
        typer.Option(metavar="FILE|FOLDER", help="Reference of all images, or a folder that pairs by file name."),
    ] = None,
    layers: Annotated[
        bool,
        typer.Option("--layers", help="Compare the tensors inside, too, the worst first; one is to be an ONNX file."),
    ] = False,
    layer_items: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", show_default=False, help="Crops to compare tensors on, one an image. Default: 4."
        ),
    ] = 4,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write everything here, as JSON.")] = None,
    page: Annotated[
        Path | None, typer.Option("--report", metavar="FILE.html", help="Write everything here, as a page.")
    ] = None,
    second_backend: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Library that runs SECOND. Default: the best one installed.", rich_help_panel=_SECOND
        ),
    ] = None,
    second_device: Annotated[
        str | None,
        typer.Option(metavar="DEVICE", help="Where SECOND runs. Default: as for --device.", rich_help_panel=_SECOND),
    ] = None,
    second_precision: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE", help="What SECOND computes in. Default: what it was judged in.", rich_help_panel=_SECOND
        ),
    ] = None,
) -> None:
    """Compare two artefacts by the scores of the same images and, on request, tensor by tensor."""
    # Here and not above, so that --help and usage errors don't wait for onnx.
    with needing("calibration", extras="cpu,calibration"):
        from rich.console import Console

        from iqa_calibration.comparing.layers import compare_layers
        from iqa_calibration.comparing.report import CompareReport
        from iqa_calibration.comparing.scores import compare_scores
        from iqa_calibration.comparing.sources import check_sides, open_both

    files = (
        find_artefact(first, reference=reference is not None),
        find_artefact(second, reference=reference is not None),
    )
    paths = expand_inputs(images, sys.stdin.buffer)
    references = None if reference is None else pair_references(paths, reference)
    artefacts = open_both(*files, trust=backend.trust)
    read = [named for artefact in artefacts for named in artefact.files()]
    _check_outputs([("--json", json), ("--report", page)], read, paths, references)
    if layers:
        check_sides(artefacts)
    first_side = backend.arguments()
    second_side = first_side | {"backend": second_backend, "device": second_device, "precision": second_precision}
    with progress() as tell:
        with (
            Scorer(artefacts[0], **scoring.arguments(), **first_side) as left,
            _open_second(artefacts[1], **scoring.arguments(), **second_side) as right,
        ):
            scores = compare_scores(left, right, paths, references, progress=tell)
            threads = left.threads
        report = CompareReport(scores=scores)
        if layers:
            rows, apart = compare_layers(
                *artefacts,
                paths,
                references,
                backends=(backend.backend, second_backend),
                devices=(backend.device, second_device),
                frame=cast(Frame | None, scoring.frame),
                items=layer_items,
                threads=threads,
                progress=tell,
            )
            report = CompareReport(scores=scores, layers=rows, layers_apart=apart)
    if json is not None:
        report.write_json(json)
    if page is not None:
        report.write_page(page)
    # Only a terminal has a width to fold into.
    report.show(Console(width=None if sys.stdout.isatty() else 1_000_000))


def _open_second(artefact: Artefact, **options: Any) -> Scorer:
    """Open a `Scorer` of SECOND, which has parameters of its own."""
    try:
        return Scorer(artefact, **options)
    except IqaError as error:
        raise type(error)(re.sub("``(?=(backend|device|precision)\\b)", "``second_", str(error))) from error


def _check_outputs(
    outputs: list[tuple[str, Path | None]],
    artefacts: Sequence[Named],
    images: list[str],
    references: str | list[str] | None,
) -> None:
    wanted = [(option, path) for option, path in outputs if path is not None]
    listed = [references] if isinstance(references, str) else references or []
    read = [*artefacts]
    read += [("an image to score", image) for image in images]
    read += [("a reference", path) for path in listed]
    check_targets(wanted, read)
    for option, path in wanted:
        if not path.parent.is_dir():
            raise FileError(f"{option} {path}: there is no folder {path.parent}; choose another")


def main() -> NoReturn:
    """Run the command and exit: 0 done, 1 failed, 2 usage, 130 interrupted; errors go to stderr."""
    run_app(app, "iqa-compare")


if __name__ == "__main__":
    main()
