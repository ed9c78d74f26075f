"""The command ``iqa-export``: a trained network to what its users deploy."""

from __future__ import annotations

import shlex
import tempfile
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from iqa_calibration.commands.calibrate import check_passed, run_calibration
from iqa_calibration.commands.options import PrecisionOptions
from iqa_export.commands.engine import EngineChoice, check_engine, write_engine
from iqa_export.commands.options import EngineBuildOptions, EngineSwitch, GraphOptions, NetworkOptions
from iqa_runtime.artefacts.files import PLAN_SUFFIX, is_engine
from iqa_runtime.commands.shared import in_flags, make_app, progress, run_app, say, with_groups
from iqa_runtime.errors import FileError, UsageError, needing
from iqa_runtime.files.overwriting import check_output
from iqa_runtime.showing import printable

if TYPE_CHECKING:
    from iqa_calibration.jobs.forms import Form
    from iqa_export.report import Report

_NAME = "iqa-export"
_OWN = NetworkOptions.PANEL

app = make_app()


@app.command(context_settings={"allow_extra_args": True})
@with_groups
def export_command(
    context: typer.Context,
    network: NetworkOptions,
    graph: GraphOptions,
    precision: PrecisionOptions,
    engine: EngineSwitch,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Artefact to write, .onnx or .plan. Default: MODEL-VARIANT-TASK.onnx."),
    ] = None,
    list_systems: Annotated[bool, typer.Option("--list", help="Show systems, variants and tasks, and stop.")] = False,
    new_contract: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a contract file (TOML) to fill in, and stop.", rich_help_panel=_OWN),
    ] = None,
    check_contract: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Tell what is wrong with a contract file, and stop.", rich_help_panel=_OWN),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            "--calibration-images",
            metavar="PATH",
            help="Photographs: folder, list or image; may be repeated. Default: the few of the package.",
            rich_help_panel=PrecisionOptions.PANEL,
        ),
    ] = None,
    refit: Annotated[Path | None, typer.Option(hidden=True, help="Of use for iqa-engine alone.")] = None,
) -> None:
    """Export a trained IQA network to an artefact that iqa-run scores with, and prove that it computes the same."""
    if context.args or refit is not None:
        raise UsageError(_instead(context.args, refit, precision, images or [], engine, output))
    if list_systems:
        _list()
        return
    if new_contract is not None:
        _write_contract(new_contract)
        return
    if check_contract is not None:
        _check_contract(check_contract)
        return
    if not (network.model or network.module or network.contract or network.adopt):
        raise UsageError(
            "--model is missing; --list shows the systems, and --module with --contract brings a network of your own"
        )
    if output is not None and output.suffix not in (".onnx", PLAN_SUFFIX):
        raise UsageError(f"--output {output}: the name must end in .onnx or {PLAN_SUFFIX}")
    choice = EngineChoice.of(engine.engine, output, precision.target, engine.library)
    if not choice.builds and engine.library is not None:
        raise UsageError("--library goes with --engine; add it")
    if choice.builds and precision.precision is not None and precision.target is None:
        precision = replace(precision, target="tensorrt")
    form = precision.form()
    if form is None:
        precision.check_unused()
        if images:
            raise UsageError("--calibration-images goes with --fp16, --bf16, --int8 or --int8-weights; add one of them")
    elif graph.cache_reference:
        raise UsageError(
            f"--cache-reference with --{form.precision}: an artefact that takes cached features of a reference cannot "
            "be judged; leave one of them out, or use --reference-image"
        )
    if choice.builds:
        check_engine(output, engine.library, form, cache_reference=graph.cache_reference)
    path = output.with_suffix(".onnx") if output is not None else None
    if form is None:
        written = _export(network, graph, path)
    else:
        written = _export_reduced(network, graph, precision, form, images, path)
    if choice.builds:
        write_engine(_NAME, written, written.with_suffix(PLAN_SUFFIX), library=engine.library)
    elif choice.reason is not None:
        say(_NAME, f"no engine was built: {in_flags(choice.reason, app)}")


def _export(network: NetworkOptions, graph: GraphOptions, output: Path | None) -> Path:
    """Export float32, print the report, and return where the artefact is."""
    report = _exported(network, graph, output)
    folder = Path() if output is None else output.parent
    paths = [folder / written.file for written in report.graphs]
    say(_NAME, f"wrote {', '.join(map(str, paths))}")
    return paths[0]


def _export_reduced(
    network: NetworkOptions,
    graph: GraphOptions,
    precision: PrecisionOptions,
    form: Form,
    images: list[str] | None,
    output: Path | None,
) -> Path:
    """Export float32 for the time being, and make of it what is asked for; the report of the export stays too."""
    from iqa_calibration.images.sets import find_photographs

    parent = Path()
    if output is not None:
        check_output(output)
        parent = output.parent
    if images:
        find_photographs(images)  # told now rather than after the export

    def target(fp32: str) -> Path:
        return Path(fp32 + form.suffix) if output is None else output

    try:
        with tempfile.TemporaryDirectory(dir=parent, prefix=".iqa-export.") as folder:
            try:
                report = _exported(network, graph, Path(folder))
            finally:
                for exported in Path(folder).glob("*.report.json"):
                    written = target(exported.name.removesuffix(".report.json"))
                    exported.replace(written.with_name(f"{written.stem}.export.json"))
                for told in Path(folder).glob("*.error.txt"):
                    told.replace(parent / told.name)
            fp32 = Path(folder, report.graphs[0].file)
            written = target(fp32.stem)
            calibrated = run_calibration(_NAME, fp32, precision, images, written)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{parent}: cannot write there ({error.strerror}); check folder and disk") from error
    check_passed(calibrated)
    return written


def _exported(network: NetworkOptions, graph: GraphOptions, output: Path | None) -> Report:
    """Export float32 and print the report."""
    from rich.console import Console

    from iqa_export import export

    with progress() as tell:
        tell(f"exporting {network.model or network.module or network.adopt}", 0, None)
        report = export(**asdict(network), **asdict(graph), output=output)
    report.show(Console())
    return report


def _list() -> None:
    from rich.console import Console

    with needing("the exporter", extras="cpu,export"):
        from iqa_export.listing import show_systems
    show_systems(Console())


def _write_contract(path: Path) -> None:
    """Write the file to fill in, where there is none yet."""
    from iqa_export.systems.contract_template import TEMPLATE

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE)
    except FileExistsError as error:
        raise UsageError(f"--new-contract {path}: is there already; choose another name, or remove it") from error
    except OSError as error:
        raise FileError(f"{path}: cannot write it ({error.strerror or error}); check folder and disk") from error
    say(_NAME, f"wrote {path}; fill it in, then iqa-export --check-contract {shlex.quote(str(path))}")


def _check_contract(path: Path) -> None:
    """Say what a contract file says, in a line for each part; raise what is wrong with it."""
    with needing("the exporter", extras="cpu,export"):
        from iqa_export.systems.contract_file import read_contract_file
        from iqa_export.systems.described import described_system
    system = described_system(path, read_contract_file(path), None)
    print(printable(f"{path}: sound"))
    for part, said in system.summary():
        print(printable(f"  {part}: {said}"))


def _instead(
    arguments: list[str],
    refit: Path | None,
    precision: PrecisionOptions,
    images: list[str],
    engine: EngineSwitch,
    output: Path | None,
) -> str:
    """Say what to type for an artefact that is exported already, with the options that were given."""
    model = arguments[0] if arguments else "NEW.onnx"
    if is_engine(Path(model)):
        return f"{model}: an engine already; iqa-engine info shows what it is"
    if not model.lower().endswith(".onnx"):
        return f"{model}: of no use here; --model names what is exported, --list shows the systems"
    target = [] if output is None else ["--output", str(output)]
    if refit is not None:
        command = shlex.join(["iqa-engine", "refit", model, str(refit), *target])
        return f"--refit: iqa-engine puts weights into an engine: {command}"
    library = [] if engine.library is None else ["--library", engine.library]
    builds = engine.engine or (output is not None and is_engine(output))
    if builds and precision.precision is not None and precision.target is None:
        precision = replace(precision, target="tensorrt")
    form = precision.form()
    if form is None:
        command = shlex.join(["iqa-engine", "build", model, *target, *library])
        return f"{model}: exported already; iqa-engine builds an engine of it: {command}"
    converted = Path(model.removesuffix(".onnx") + form.suffix) if output is None else output.with_suffix(".onnx")
    calibrate = ["iqa-calibrate", model, *precision.typed()]
    calibrate += [argument for image in images for argument in ("--images", image)]
    calibrate += [] if output is None else ["--output", str(converted)]
    if not builds:
        return f"{model}: exported already; iqa-calibrate converts it: {shlex.join(calibrate)}"
    build = ["iqa-engine", "build", str(converted), *target, *library]
    return (
        f"{model}: exported already; iqa-calibrate converts it, and then iqa-engine builds an engine: "
        f"{shlex.join(calibrate)} && {shlex.join(build)}"
    )


def main() -> NoReturn:
    """Run the command and exit."""
    options = [f"--{field.name.replace('_', '-')}" for field in fields(EngineBuildOptions)]
    run_app(app, _NAME, moved=dict.fromkeys([*options, "--sign"], "iqa-engine build MODEL.onnx takes it"))


if __name__ == "__main__":
    main()
