"""The images of a job become rows, a page and pictures, one after the other."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from typing import cast

from iqa_runtime.commands.arrow_rows import ArrowWriter, about_run, open_arrow_output
from iqa_runtime.commands.clips import ClipScorer, Scored
from iqa_runtime.commands.jobs import NAME, Job, check_overwriting, check_same_artefact
from iqa_runtime.commands.pictures import PictureWriter
from iqa_runtime.commands.process import exit_code, leave
from iqa_runtime.commands.ranking import Held, open_ranked, ranked
from iqa_runtime.commands.reporting import ReportPlan, open_report
from iqa_runtime.commands.rows import STREAMED, TYPED, Format, Row, RowWriter, open_output, open_writer
from iqa_runtime.commands.shared import SOME_FAILED, counter, progress, say
from iqa_runtime.commands.summary import Summary
from iqa_runtime.commands.thresholds import BELOW_THRESHOLD
from iqa_runtime.errors import IqaError
from iqa_runtime.files.overwriting import Named, is_stream
from iqa_runtime.scorer import Scorer
from iqa_runtime.scoring.patch_plans import format_patch_plan
from iqa_runtime.scoring.resizing import format_resize


def score_job(
    scorer: Scorer,
    clips: ClipScorer,
    artefact: Sequence[Named],
    job: Job,
    pictures: PictureWriter,
    page: ReportPlan | None,
    lock: ExitStack,
    in_flags: Callable[[str], str],
) -> int:
    """Score what a job has left, and return the exit code; `in_flags` puts the command's flags into a message."""
    contract = scorer.contract
    compared = job.references is not None or job.inputs.has_references
    pairs = job.inputs.pairs(job.left, job.references)
    results = clips.score(pairs, compared=compared)  # refuses a missing or needless reference at once
    check_same_artefact(job, scorer)
    job.thresholds.check(contract)
    if job.keep is not None:
        job = replace(job, keep=job.thresholds.rejudged(job.keep, job.inputs.place))
    check_overwriting(job, pictures, page, artefact)
    if not contract.weights.trained:
        say(NAME, "the artefact is untrained (random weights): its scores only show that the pipeline runs")
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
                row = job.thresholds.judged(_row(scored, in_flags), job.inputs.place(scored.image))
                writer.write(row)
                summary.add(scored)
                summary.judge(row)
                if job.grouping is not None:
                    shown.append(row)  # first, so that the page never has a row that is not ranked
                report.write(row, scored.result)
                complaint = pictures.write(scored.image, scored.source, scored.result)
                if complaint is not None:
                    summary.undrawn += 1
                    say(NAME, complaint)
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
    say(NAME, f"{summary.text(contract)}; {scorer.backend_name} {scorer.provider}")
    code = SOME_FAILED if not summary.is_clean else BELOW_THRESHOLD if summary.below else 0
    if stopped is not None or scorer.overdue or clips.overdue:
        lock.close()
        leave(code if stopped is None else exit_code(stopped))
    return code


def _row(scored: Scored, in_flags: Callable[[str], str]) -> Row:
    row = scored.row()
    return row if row["error"] is None else row | {"error": in_flags(row["error"])}


def _writer(job: Job, scorer: Scorer) -> AbstractContextManager[RowWriter | ArrowWriter | Held]:
    if job.grouping is None:
        return _row_writer(job, scorer)
    if job.output and job.form in STREAMED and not is_stream(job.output):
        rewritten = partial(open_output, job.output, job.form, keys=job.keys, at_once=True)
        return open_ranked(job.grouping, job.images, job.keep or [], _row_writer(job, scorer), rewritten)
    whole = _row_writer(replace(job, keep=None), scorer)
    return open_ranked(job.grouping, job.images, job.keep or [], whole)


def _row_writer(job: Job, scorer: Scorer) -> AbstractContextManager[RowWriter | ArrowWriter]:
    title = _title(scorer)
    if job.output and job.form in TYPED:
        about = about_run(scorer)
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


def _title(scorer: Scorer) -> str:
    contract = scorer.contract
    untrained = "" if contract.weights.trained else " - UNTRAINED"
    resized = "" if scorer.resize is None else f"resized to {format_resize(scorer.resize)}, "
    plan = format_patch_plan(scorer.patch_plan)
    items = "whole pictures" if plan == "whole" else f"crops {plan}"
    what = f"{contract.model} {contract.variant} {contract.task}, {resized}{items}"
    quantiles = contract.score.quantiles
    among = "" if quantiles is None else f"; percentile among {quantiles.images} images ({quantiles.population})"
    return f"{what}; {contract.score}{among}{untrained}"
