"""The command ``iqa-run``: score images with an artefact, show its contract, test an installation."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn, cast

import typer

from iqa_runtime import IqaError, Scorer, UsageError, __version__, read_contract
from iqa_runtime.artefacts.bundled import find_artefact
from iqa_runtime.artefacts.contract_json import contract_to_json
from iqa_runtime.artefacts.opening import open_artefact
from iqa_runtime.commands.arrow_rows import ArrowWriter, open_arrow_output
from iqa_runtime.commands.check import check_installation, describe
from iqa_runtime.commands.clips import ClipScorer, Scored, clip_key
from iqa_runtime.commands.options import BackendOptions, ScoringOptions
from iqa_runtime.commands.pictures import PictureWriter
from iqa_runtime.commands.process import exit_code, give_up_output, leave
from iqa_runtime.commands.ranking import Held, open_ranked, ranked
from iqa_runtime.commands.reporting import ReportPlan, has_heat_maps, open_report
from iqa_runtime.commands.resuming import path_key, resume_from
from iqa_runtime.commands.rows import (
    CLIP_KEYS,
    KEYS,
    STREAMED,
    TYPED,
    Format,
    Row,
    RowWriter,
    clip_of,
    open_output,
    open_writer,
)
from iqa_runtime.commands.shared import (
    NOT_RUN,
    SOME_FAILED,
    counter,
    in_flags,
    make_app,
    progress,
    run_app,
    say,
    with_groups,
)
from iqa_runtime.commands.showing import printable, printable_json
from iqa_runtime.commands.sources import InputOptions, Inputs
from iqa_runtime.commands.summary import Summary
from iqa_runtime.commands.thresholds import BELOW_THRESHOLD, ThresholdOptions, Thresholds
from iqa_runtime.errors import BackendError, FileError
from iqa_runtime.files.inputs import pair_references
from iqa_runtime.files.locking import locked
from iqa_runtime.files.overwriting import Named, check_page, check_targets, is_stream
from iqa_runtime.grouping import Grouping
from iqa_runtime.images.header import Frame
from iqa_runtime.images.loading import DEFAULT_PIXEL_LIMIT
from iqa_runtime.scoring.patch_plans import format_patch_plan
from iqa_runtime.scoring.resizing import format_resize
from iqa_runtime.scoring.time_limits import interruptible

_NAME = "iqa-run"
_SCORING, _ROWS, _PICTURES, _INSTEAD = "Scoring", "Rows", "Pictures", "Instead of scoring"

app = make_app()


def main() -> NoReturn:
    """Run the command line and exit.

    0 done, 1 some images failed or the device cannot run the artefact, 2 not run, 3 some images are worse than their
    threshold, 130 interrupted, 143 terminated, 141 output closed.
    """
    run_app(app, _NAME, exit_codes={BackendError: SOME_FAILED, IqaError: NOT_RUN})


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"iqa-run {__version__}")
        raise typer.Exit


@app.command()
@with_groups
def run(
    artefact: Annotated[
        str,
        typer.Argument(
            metavar="ARTEFACT", help="File written by iqa-export, or a bundled model: edge, mfe-edge or lpips."
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
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Items handed to the backend at a time. Default: as many as it works on at once.",
            rich_help_panel=_SCORING,
        ),
    ] = None,
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
            "--version", callback=_show_version, is_eager=True, help="Show the version.", rich_help_panel=_INSTEAD
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
            job = _plan_job(found, reference, form, output, resume, every, measure, threshold.read(), grouping)
            opened = open_artefact(artefact, trust=backend.trust)
            page = None if report is None else _plan_report(report, job, pixel_limit, scoring, restored)
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
                return _score(scorer, clips, opened.files(), job, pictures, page, lock)
    except BrokenPipeError:
        return give_up_output()
    except (IqaError, FileNotFoundError):
        raise
    except OSError as error:
        raise FileError(f"cannot write the rows ({error.strerror}); check the disk, or give --output") from error


@dataclass(frozen=True, slots=True)
class _Job:
    """What to score and where to write it; `keep` is None unless an earlier run is resumed."""

    inputs: Inputs
    left: list[str]
    references: str | list[str] | None
    form: Format
    output: Path | None
    keep: list[Row] | None
    every: float | None
    thresholds: Thresholds
    grouping: Grouping | None

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the rows."""
        return KEYS if self.every is None else CLIP_KEYS

    @property
    def images(self) -> list[str]:
        """What rows call the images."""
        return self.inputs.names

    def kept(self) -> Iterator[Row]:
        """Yield the rows of an earlier run that are of the images of this one, or of frames of theirs."""
        named = {path_key(path) for path in self.images}
        for row in self.keep or []:
            path = path_key(row["path"])
            if path in named or clip_of(path) in named:
                yield row


def _plan_job(
    collect: Callable[[], Inputs],
    reference: str | None,
    form: Format | None,
    output: Path | None,
    resumed: bool,
    every: float | None,
    measured: bool,
    thresholds: Thresholds,
    grouping: Grouping | None,
) -> _Job:
    if form is None:
        suffixes = {f".{known}": known for known in (Format.JSON, *STREAMED, *TYPED)} | {".feather": Format.ARROW}
        by_stream = Format.TABLE if output is None and sys.stdout.isatty() else Format.JSONL
        form = suffixes.get(output.suffix.lower(), by_stream) if output else by_stream
    if form in TYPED and output is None:
        raise UsageError(f"--format {form} needs --output: a file of it is whole only at the end")
    if resumed and (output is None or form not in (*STREAMED, *TYPED)):
        raise UsageError("--resume needs --output with rows that read back: --format jsonl, csv, parquet or arrow")
    if resumed and output and is_stream(output):
        raise UsageError(f"--resume: {output} is no file whose rows could be read; give another --output")
    inputs = collect()
    images = left = inputs.names
    keep = None
    if resumed and output:
        keep, left = resume_from(output, form, images, KEYS if every is None else CLIP_KEYS, measured=measured)
        say(_NAME, f"{len(images) - len(left)} already scored, {len(left)} left")
    references = None if reference is None else pair_references(left, reference)
    return _Job(inputs, left, references, form, output, keep, every, thresholds, grouping)


def _plan_report(
    report: Path, job: _Job, pixel_limit: int, scoring: ScoringOptions, restored: Path | None
) -> ReportPlan:
    references = {job.references} if isinstance(job.references, str) else {*(job.references or ())}
    of_each = 1 + (restored is not None) + job.inputs.has_references
    pictures = len(job.images) * of_each + len(references)
    images = len(job.images) if job.every is None else None
    return ReportPlan(report, images, pictures, pixel_limit, cast(Frame | None, scoring.frame))


def _score(
    scorer: Scorer,
    clips: ClipScorer,
    artefact: Sequence[Named],
    job: _Job,
    pictures: PictureWriter,
    page: ReportPlan | None,
    lock: ExitStack,
) -> int:
    contract = scorer.contract
    compared = job.references is not None or job.inputs.has_references
    pairs = job.inputs.pairs(job.left, job.references)
    results = clips.score(pairs, compared=compared)  # refuses a missing or needless reference at once
    _check_same_artefact(job, scorer)
    job.thresholds.check(contract)
    if job.keep is not None:
        job = replace(job, keep=job.thresholds.rejudged(job.keep, job.inputs.place))
    _check_overwriting(job, pictures, page, artefact)
    if not contract.weights.trained:
        say(_NAME, "the artefact is untrained (random weights): its scores only show that the pipeline runs")
    summary = Summary()
    kept = list(job.kept())
    for row in kept:
        summary.judge(row)
    stopped: BaseException | None = None
    # Rows that go to the same terminal one by one show how far it is.
    at_the_end = job.form is Format.TABLE or job.grouping is not None
    rows_on_terminal = job.output is None and sys.stdout.isatty() and not at_the_end
    with (
        open_report(page, scorer, _title(scorer)) as report,
        _writer(job, scorer) as writer,
        progress(shown=not rows_on_terminal) as tell,
    ):
        advance = counter(tell, "scoring", len(job.left))
        shown = [*kept]
        try:
            report.keep(kept, job.inputs.place)
            for scored in results:
                row = job.thresholds.judged(_row(scored), job.inputs.place(scored.image))
                writer.write(row)
                summary.add(scored)
                summary.judge(row)
                report.write(row, scored.result)
                if job.grouping is not None:
                    shown.append(row)
                complaint = pictures.write(scored.image, scored.source, scored.result)
                if complaint is not None:
                    summary.undrawn += 1
                    say(_NAME, complaint)
                if not scored.is_frame:
                    advance()
        except (KeyboardInterrupt, IqaError, MemoryError, OSError) as error:
            stopped = error  # once the rows so far are safe
        summary.interrupted = report.interrupted = stopped is not None
        report.summary = summary.text(contract)
        if job.grouping is not None:
            known = ranked(shown, job.grouping, job.images)
            report.added = [{key: row[key] for key in ("group", "rank")} for row in known]
    if stopped is not None and not isinstance(stopped, KeyboardInterrupt):
        raise stopped
    say(_NAME, f"{summary.text(contract)}; {scorer.backend_name} {scorer.provider}")
    code = SOME_FAILED if not summary.is_clean else BELOW_THRESHOLD if summary.below else 0
    if stopped is not None or scorer.overdue or clips.overdue:
        lock.close()
        leave(code if stopped is None else exit_code(stopped))
    return code


def _row(scored: Scored) -> Row:
    row = scored.row()
    return row if row["error"] is None else row | {"error": in_flags(row["error"], app)}


def _check_same_artefact(job: _Job, scorer: Scorer) -> None:
    found = {row["artefact"] for row in job.keep or []} - {scorer.artefact_key}
    found -= {clip_key(scorer.artefact_key, job.every)} if job.every is not None else set()
    if found:
        raise UsageError(
            f"{job.output}: its rows are of another artefact, other crops or another size, or of frames at other "
            f"distances ({min(found)}, this run is {scorer.artefact_key}); give another --output"
        )


def _check_overwriting(job: _Job, pictures: PictureWriter, page: ReportPlan | None, artefact: Sequence[Named]) -> None:
    references = [job.references] if isinstance(job.references, str) else job.references or []
    read = [*artefact, *job.inputs.read()]
    read += [("a reference", reference) for reference in references]
    rows: list[Named] = [("--output", job.output)] if job.output else []
    pages = [] if page is None else list(page.targets())
    check_targets([*rows, *pages, *pictures.paths(job.left)], read)
    check_targets(pages, rows)
    check_targets(pictures.paths(job.left), [*rows, *pages])


def _writer(job: _Job, scorer: Scorer) -> AbstractContextManager[RowWriter | ArrowWriter | Held]:
    if job.grouping is None:
        return _row_writer(job, scorer)
    if job.output and job.form in STREAMED and not is_stream(job.output):
        rewritten = partial(open_output, job.output, job.form, keys=job.keys, at_once=True)
        return open_ranked(job.grouping, job.images, job.keep or [], _row_writer(job, scorer), rewritten)
    whole = _row_writer(replace(job, keep=None), scorer)
    return open_ranked(job.grouping, job.images, job.keep or [], whole)


def _row_writer(job: _Job, scorer: Scorer) -> AbstractContextManager[RowWriter | ArrowWriter]:
    title = _title(scorer)
    if job.output and job.form in TYPED:
        about = _about(scorer)
        return open_arrow_output(job.output, job.form, keep=job.keep, keys=job.keys, metadata=about)
    if job.output:
        return open_output(job.output, job.form, title, keep=job.keep, keys=job.keys)
    # No file name may break the output, however little the terminal's encoding can show.
    stream = cast(io.TextIOWrapper, sys.stdout)
    if job.form is Format.TABLE:
        stream.reconfigure(errors="backslashreplace")
    else:
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", newline="")
    return open_writer(stream, job.form, title, job.keys)


def _about(scorer: Scorer) -> dict[str, str]:
    """Return what a file with typed columns says about its run."""
    return {
        "iqa.version": __version__,
        "iqa.artefact": scorer.artefact_key,
        "iqa.artefact_sha256": scorer.file.sha256,
        "iqa.backend": f"{scorer.backend_name} {scorer.provider}",
        "iqa.contract": contract_to_json(scorer.contract),
    }


def _title(scorer: Scorer) -> str:
    contract = scorer.contract
    untrained = "" if contract.weights.trained else " - UNTRAINED"
    resized = "" if scorer.resize is None else f"resized to {format_resize(scorer.resize)}, "
    plan = format_patch_plan(scorer.patch_plan)
    items = "whole pictures" if plan == "whole" else f"crops {plan}"
    what = f"{contract.model} {contract.variant} {contract.task}, {resized}{items}"
    quantiles = contract.score.quantiles
    among = "" if quantiles is None else f"; percentile among {quantiles.images} {quantiles.population}"
    return f"{what}; {contract.score}{among}{untrained}"


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
