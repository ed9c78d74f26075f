"""The command ``iqa-run``: score images with an artefact, show its contract, test an installation."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn, cast

import typer

from iqa_runtime import IqaError, Scorer, UsageError, read_contract
from iqa_runtime.artefacts.bundled import find_artefact
from iqa_runtime.artefacts.contract_json import contract_to_json
from iqa_runtime.artefacts.opening import open_artefact
from iqa_runtime.commands.check import check_installation, describe
from iqa_runtime.commands.clips import ClipScorer
from iqa_runtime.commands.jobs import NAME, plan_job, plan_report
from iqa_runtime.commands.options import BackendOptions, BatchSize, ScoringOptions
from iqa_runtime.commands.pictures import PictureWriter
from iqa_runtime.commands.process import give_up_output
from iqa_runtime.commands.reporting import has_heat_maps
from iqa_runtime.commands.rows import (
    Format,
)
from iqa_runtime.commands.scoring import score_job
from iqa_runtime.commands.shared import (
    NOT_RUN,
    SOME_FAILED,
    in_flags,
    make_app,
    run_app,
    version_of,
    with_groups,
)
from iqa_runtime.commands.sources import InputOptions
from iqa_runtime.commands.thresholds import ThresholdOptions
from iqa_runtime.errors import BackendError, FileError
from iqa_runtime.files.locking import locked
from iqa_runtime.files.overwriting import check_page
from iqa_runtime.grouping import Grouping
from iqa_runtime.images.header import Frame
from iqa_runtime.images.loading import DEFAULT_PIXEL_LIMIT
from iqa_runtime.scoring.time_limits import interruptible
from iqa_runtime.showing import printable, printable_json

_SCORING, _ROWS, _PICTURES, _INSTEAD = "Scoring", "Rows", "Pictures", "Instead of scoring"

app = make_app()


def main() -> NoReturn:
    """Run the command line and exit.

    0 done, 1 some images failed or the device cannot run the artefact, 2 not run, 3 some images are worse than their
    threshold, 130 interrupted, 143 terminated, 141 output closed.
    """
    run_app(app, NAME, exit_codes={BackendError: SOME_FAILED, IqaError: NOT_RUN})


@app.command()
@with_groups
def run(
    artefact: Annotated[
        str,
        typer.Argument(
            metavar="ARTEFACT",
            help="File written by iqa-export, or a bundled model: edge, cvrkd-edge, dri-edge, mfe-edge or lpips.",
        ),
    ],
    scoring: ScoringOptions,
    threshold: ThresholdOptions,
    backend: BackendOptions,
    listed: InputOptions,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT", help="Images, folders, quoted globs, addresses, or - for a list on stdin."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|FOLDER",
            help="Reference of all images, or a folder that pairs by file name.",
            rich_help_panel=_SCORING,
        ),
    ] = None,
    batch_size: BatchSize = None,
    pixel_limit: Annotated[
        int, typer.Option(min=1, metavar="N", help="Larger images fail, undecoded.", rich_help_panel=_SCORING)
    ] = DEFAULT_PIXEL_LIMIT,
    every: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Of videos, score a frame every so many seconds, and the whole. Default: they fail.",
            rich_help_panel=_SCORING,
        ),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            help="Also measure sharpness, noise, blocks, clipped tones and size; no score changes.",
            rich_help_panel=_SCORING,
        ),
    ] = False,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="Form of the rows. Default: by the suffix of --output; else a table on a terminal, jsonl elsewhere.",
            rich_help_panel=_ROWS,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the rows here. Default: standard output.", rich_help_panel=_ROWS),
    ] = None,
    null: Annotated[
        bool,
        typer.Option("-0", "--null", help="The list on standard input is separated by NUL.", rich_help_panel=_SCORING),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Write a page with thumbnails and heat maps here, to sort, filter and look at.",
            rich_help_panel=_ROWS,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with --output: skip what has a score there.", rich_help_panel=_ROWS),
    ] = False,
    best_of: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN|folders",
            help="Rank the images of each folder, or of each {group} of a pattern such as 'IMG_{group}_*.jpg'.",
            rich_help_panel=_ROWS,
        ),
    ] = None,
    maps: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write heat maps here, as PNG.", rich_help_panel=_PICTURES),
    ] = None,
    restored: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write restored images here, as PNG.", rich_help_panel=_PICTURES),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Test this installation with the artefact.", rich_help_panel=_INSTEAD),
    ] = False,
    info: Annotated[
        bool, typer.Option("--info", help="Show the artefact's contract.", rich_help_panel=_INSTEAD)
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=version_of(NAME), is_eager=True, help="Show the version.", rich_help_panel=_INSTEAD
        ),
    ] = False,
) -> int:
    """Score the quality of images; rows go to --output or standard output, all else to standard error."""
    del version  # its callback has done everything
    try:
        compared = reference is not None or listed.reference_column is not None
        artefact = str(find_artefact(artefact, reference=compared))
        if check or info:
            others = (inputs, output, report, reference, resume, maps, restored, every, measure, best_of)
            given = any((*others, *scoring.arguments().values()))
            if (check and info) or given or threshold != ThresholdOptions() or listed != InputOptions():
                raise UsageError("--check and --info stand alone: give the artefact and nothing to score or to write")
            return _show_contract(artefact, form, backend.trust) if info else _check(artefact, backend, batch_size)
        with ExitStack() as lock:
            if output is not None:
                lock.enter_context(locked(output))
            if report is not None:
                check_page(report)
                lock.enter_context(locked(report, "report"))
            if every is not None and (maps or restored):
                raise UsageError(
                    "--every: frames of videos have no pictures beside them; leave --maps and --restored out"
                )
            if listed.reference_column is not None and reference is not None:
                raise UsageError("--reference and --reference-column: leave one out")
            grouping = None if best_of is None else Grouping(best_of)
            found = partial(listed.collect, inputs or [], sys.stdin.buffer, null=null, videos=every is not None)
            job = plan_job(found, reference, form, output, resume, every, measure, threshold.read(), grouping)
            opened = open_artefact(artefact, trust=backend.trust)
            page = None if report is None else plan_report(report, job, pixel_limit, scoring, restored)
            load = partial(
                Scorer,
                opened,
                **backend.arguments(),
                **scoring.arguments(),
                batch_size=batch_size,
                maps=maps is not None or (page is not None and has_heat_maps(opened.contract)),
                restored=restored is not None,
                preview=None if page is None else page.sizes.longest,
                pixel_limit=pixel_limit,
                measure=measure,
            )
            with interruptible(load) as scorer:
                pictures = PictureWriter(
                    job.images,
                    maps,
                    restored,
                    pixel_limit=pixel_limit,
                    timeout=scoring.timeout,
                    frame=cast(Frame | None, scoring.frame),
                )
                clips = ClipScorer(scorer, every=every, pixel_limit=pixel_limit, timeout=scoring.timeout)
                return score_job(scorer, clips, opened.files(), job, pictures, page, lock, partial(in_flags, app=app))
    except BrokenPipeError:
        return give_up_output()
    except (IqaError, FileNotFoundError):
        raise
    except OSError as error:
        raise FileError(f"cannot write the rows ({error.strerror}); check the disk, or give --output") from error


def _show_contract(artefact: str, form: Format | None, trust: Path | None) -> int:
    contract = read_contract(artefact, trust=trust)
    if form is Format.JSON:
        text = contract_to_json(contract)
        typer.echo(printable_json(text) if sys.stdout.isatty() else text)
    elif form in (None, Format.TABLE):
        lines = describe(contract)
        width = max(map(len, lines))
        typer.echo("\n".join(f"{key:{width}}  {printable(str(value))}" for key, value in lines.items()))
    else:
        raise UsageError("--info is a table or, with --format json, the contract as it is stored")
    return 0


def _check(artefact: str, backend: BackendOptions, batch_size: int | None) -> int:
    passed = True
    for check in check_installation(artefact, **asdict(backend), batch_size=batch_size):
        typer.echo(f"{'ok  ' if check.passed else 'FAIL'}  {check.name:12}  {printable(in_flags(check.detail, app))}")
        passed &= check.passed
    return 0 if passed else SOME_FAILED


if __name__ == "__main__":
    main()
