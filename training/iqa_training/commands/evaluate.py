"""The command ``iqa-eval``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from iqa_runtime.artefacts.opening import open_artefact
from iqa_runtime.commands.options import ARTEFACT_HELP, BackendOptions, ScoringOptions
from iqa_runtime.commands.shared import (
    NOT_RUN,
    SOME_FAILED,
    counter,
    make_app,
    progress,
    run_app,
    say,
    with_groups,
)
from iqa_runtime.errors import FileError, IqaError, UsageError, needing
from iqa_runtime.files.overwriting import Named, check_output, check_page, check_targets

_NAME = "iqa-eval"
_POPULATION = "Population"

app = make_app()


@app.command()
@with_groups
def eval_command(
    artefact: Annotated[Path, typer.Argument(metavar="ARTEFACT", help=ARTEFACT_HELP)],
    scoring: ScoringOptions,
    backend: BackendOptions,
    dataset: Annotated[str | None, typer.Option(metavar="NAME", help="Data set; docs/datasets.md lists them.")] = None,
    root: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where it lies, in its published layout.")] = None,
    split: Annotated[
        str,
        typer.Option(
            metavar="PART",
            show_default=False,
            help="Part of it: all, train, test, or official:PART where one is published. Default: all.",
        ),
    ] = "all",
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", show_default=False, help="Seed of split and bootstrap. Default: 0.")
    ] = 0,
    types: Annotated[
        str | None, typer.Option(metavar="TYPE,...", help="Only these distortion types. Default: all.")
    ] = None,
    groups: Annotated[
        list[str] | None,
        typer.Option("--group", metavar="NAME=TYPE,...", help="A row for these types together; may be repeated."),
    ] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Judge PSNR, SSIM and GMSD on the same images, too.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write report (.json), scatter plot (.png) and scores (.csv) here."),
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--report", metavar="FILE.html", help="Write the report here, as a page.")
    ] = None,
    population: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Score these pictures instead of a data set, for --write-quantiles.",
            rich_help_panel=_POPULATION,
        ),
    ] = None,
    population_name: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Which pictures they are, in words. Default: the name of their folder.",
            rich_help_panel=_POPULATION,
        ),
    ] = None,
    write_quantiles: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.onnx",
            help="Write the artefact here, with the quantiles of their scores.",
            rich_help_panel=_POPULATION,
        ),
    ] = None,
) -> int:
    """Judge an artefact on a data set with human scores: SRCC, PLCC, KRCC, RMSE, by distortion type, with intervals."""
    if population is not None or write_quantiles is not None or population_name is not None:
        if population is None or write_quantiles is None:
            raise UsageError("--population and --write-quantiles go together: give pictures, and a file to write")
        asked = (dataset, root, types, groups, baselines, output, page, scoring.crops, scoring.resize, seed)
        judging = (*asked, split != "all")
        if any(judging):
            raise UsageError(
                "--population: pictures alone are no data set, and are scored with the artefact's own crops and size; "
                "give --frame, --timeout and options of the backend beside it, and no others"
            )
        return _write_quantiles(artefact, population, population_name, write_quantiles, scoring, backend)
    if dataset is None or root is None:
        raise UsageError("give --dataset and --root, or --population and --write-quantiles")
    # Here and not above, so that --help and usage errors don't wait for SciPy and matplotlib.
    with needing("training", extras="cpu,train"):
        from rich.console import Console

        from iqa_training.datasets import read_dataset, select
        from iqa_training.evaluation.judge import check_groups, image_groups, judge, measure, select_types
        from iqa_training.evaluation.plots import write_scatter
        from iqa_training.evaluation.report import Artefact, Images, Report, write_scores
        from iqa_training.evaluation.report_page import write_page
        from iqa_training.evaluation.statistics import RESAMPLES
    from iqa_runtime.scorer import Scorer

    if page is not None:
        check_page(page)
    chosen_types = None if types is None else _names("--types", types)
    members = _groups(groups or [])
    chosen = select(read_dataset(dataset, root), split, seed=seed)
    samples = select_types(chosen.samples, chosen_types)
    check_groups(samples, members)
    opened = open_artefact(artefact, trust=backend.trust)
    artefact = opened.path
    files = _output_files(output, f"{artefact.stem}.{dataset}")
    read: list[Named] = [*opened.files(), ("the labels", root)]
    read += [("an image to score", sample.distorted) for sample in samples]
    read += [("a reference", sample.reference) for sample in samples if sample.reference is not None]
    pages: list[Named] = [] if page is None else [("--report", page)]
    check_targets([*(("--output", file) for file in files), *pages], read)
    with Scorer(opened, **scoring.arguments(), **backend.arguments()) as scorer, progress() as tell:
        if not scorer.contract.weights.trained:
            say(_NAME, "the artefact is untrained (random weights): its scores only show that the pipeline runs")
        advance = counter(tell, "scoring", len(samples))
        judged = judge(scorer, samples, baselines=baselines, advance=advance)
        advance = counter(tell, "resampling", len(image_groups(judged.samples, members)) * len(judged.methods))
        rows = measure(judged, members, resamples=RESAMPLES, seed=seed, advance=advance)
        report = Report(
            artefact=Artefact.of_scorer(artefact, scorer),
            images=Images.of_dataset(chosen, part=split, seed=seed, types=chosen_types),
            backend=scorer.backend_name,
            provider=scorer.provider,
            device=scorer.device,
            computed_in=scorer.precision,
            groups=members,
            resamples=RESAMPLES,
            bootstrap_seed=seed,
            rows=tuple(rows),
            failures=judged.failures,
        )
    if files:
        report_file, plot_file, scores_file = files
        report.write(report_file)
        write_scatter(plot_file, judged, rows, report.title)
        write_scores(scores_file, judged)
        say(_NAME, f"wrote {', '.join(map(str, files))}")
    if page is not None:
        write_page(page, report, judged)
    # Only a terminal has a width to fold into.
    report.show(Console(width=None if sys.stdout.isatty() else 1_000_000))
    for failure in judged.failures:
        say(_NAME, failure.error if failure.image in failure.error else f"{failure.image}: {failure.error}")
    return SOME_FAILED if judged.failures else 0


def main() -> NoReturn:
    """Run the command and exit: 0 done, 1 some images failed, 2 not run, 130 interrupted; errors go to stderr."""
    run_app(app, _NAME, exit_codes={IqaError: NOT_RUN})


def _write_quantiles(
    artefact: Path, folder: str, name: str | None, output: Path, scoring: ScoringOptions, backend: BackendOptions
) -> int:
    with needing("training", extras="cpu,train"):
        from iqa_training.evaluation.population import check_artefact, measure_population, write_with_quantiles
    from iqa_runtime.files.inputs import expand_inputs
    from iqa_runtime.scorer import Scorer

    check_output(output, ".onnx")
    opened = open_artefact(artefact, trust=backend.trust)
    check_artefact(opened)
    images = expand_inputs([folder], sys.stdin.buffer)
    read: list[Named] = [*opened.files(), *(("an image to score", image) for image in images)]
    check_targets([("--write-quantiles", output)], read)
    with Scorer(opened, **scoring.arguments(), **backend.arguments()) as scorer, progress() as tell:
        advance = counter(tell, "scoring", len(images))
        found = measure_population(scorer, images, name or Path(folder).resolve().name, advance=advance)
    for failure in found.failures:
        say(_NAME, failure)
    write_with_quantiles(opened, found.quantiles, output)
    scores = found.quantiles.scores
    say(
        _NAME,
        f"wrote {output}: quantiles of {found.quantiles.images} images, {found.quantiles.population}: least "
        f"{scores[0]:.4f}, median {scores[len(scores) // 2]:.4f}, largest {scores[-1]:.4f}",
    )
    return SOME_FAILED if found.failures else 0


def _names(option: str, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise UsageError(f"{option} {text}: give names of distortion types, each once, with commas between them")
    return names


def _groups(texts: list[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for text in texts:
        name, separator, types = text.partition("=")
        if not (name and separator and types) or name in groups:
            raise UsageError(f"--group {text}: give each group once, as NAME=TYPE,TYPE")
        groups[name] = _names(f"--group {name}", types)
    return groups


def _output_files(folder: Path | None, stem: str) -> list[Path]:
    """Return report, plot and scores to write, their folder made before the work begins; nothing without a folder."""
    if folder is None:
        return []
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder}: cannot make the folder ({error.strerror}); choose another --output") from error
    return [folder / f"{stem}.{suffix}" for suffix in ("json", "png", "csv")]


if __name__ == "__main__":
    main()
