"""The command ``iqa-export``: a trained network, or an artefact exported before, to what its users deploy."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, cast, get_args

import typer

from iqa_calibration.commands.calibrate import check_passed, choose_photographs, options_form, run_job
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
)
from iqa_export.commands.engine_flags import (
    BuilderLevel,
    Engine,
    EngineChoice,
    EngineFlags,
    HardwareCompatible,
    Library,
    MarkLayers,
    MaxBatch,
    MinBatch,
    OptBatch,
    Refit,
    Refittable,
    Sign,
    Strip,
    TimingCache,
    VersionCompatible,
    Workspace,
)
from iqa_export.commands.engine_steps import check_artefact_alone, check_engine, write_engine, write_refitted
from iqa_runtime.artefacts.files import PLAN_SUFFIX
from iqa_runtime.commands.shared import run_app
from iqa_runtime.contract import Task
from iqa_runtime.errors import DependencyError, FileError, UsageError

if TYPE_CHECKING:
    from iqa_calibration.jobs.forms import Form
    from iqa_export.exporting import Request
    from iqa_export.report import Report
    from iqa_export.systems import System

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def export_command(
    context: typer.Context,
    artefact: Annotated[
        Path | None,
        typer.Argument(metavar="[MODEL.onnx]", help="An artefact exported before, for --engine or --refit."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="System to export; --list shows all.")] = None,
    variant: Annotated[
        str | None, typer.Option(help="Its variant. Default: told by the weights, or by the task.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Checkpoint (.pth, .safetensors), or random:SEED for an untrained network."),
    ] = None,
    task: Annotated[str | None, typer.Option(help="nr, fr or nar. Default: the variant's first.")] = None,
    segment: Annotated[
        str | None, typer.Option(help="YOTO with --task fr: joint or single, as the checkpoint was trained.")
    ] = None,
    maps: Annotated[bool, typer.Option("--maps", help="Add quality and weight maps as outputs.")] = False,
    restored: Annotated[bool, typer.Option("--restored", help="Add the restored crop as an output (DRI-IQA).")] = False,
    distortion_feature: Annotated[
        bool, typer.Option("--distortion-feature", help="Add the distortion-aware feature as an output (MFE-Net).")
    ] = False,
    crops: Annotated[
        str | None, typer.Option(help="Patch plan: five, center, grid[:STRIDE], random:COUNT[:SEED].")
    ] = None,
    cache_reference: Annotated[
        bool, typer.Option("--cache-reference", help="Write X.onnx and X.reference.onnx: features once per reference.")
    ] = False,
    reference_image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Bake the features of this reference into the artefact.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Artefact to write, .onnx or .plan. Default: MODEL-VARIANT-TASK.onnx."),
    ] = None,
    opset: Annotated[int | None, typer.Option(help="ONNX operator set, 20 to 23. Default: 20.")] = None,
    calibration_images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FOLDER|LIST|IMAGE",
            help="Photographs for --fp16, --int8, ...; may be repeated. Default: the few packaged.",
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
    engine: Engine = None,
    min_batch: MinBatch = None,
    opt_batch: OptBatch = None,
    max_batch: MaxBatch = None,
    workspace: Workspace = None,
    builder_level: BuilderLevel = None,
    version_compatible: VersionCompatible = False,
    hardware_compatible: HardwareCompatible = False,
    strip: Strip = False,
    refittable: Refittable = False,
    mark_layers: MarkLayers = False,
    refit: Refit = None,
    timing_cache: TimingCache = None,
    sign: Sign = None,
    library: Library = None,
    list_systems: Annotated[bool, typer.Option("--list", help="Show systems, variants and tasks, and stop.")] = False,
) -> None:
    """Export a trained IQA network to an artefact that iqa-run scores with, and prove that it computes the same."""
    flags = EngineFlags(
        min_batch=min_batch,
        opt_batch=opt_batch,
        max_batch=max_batch,
        workspace=workspace,
        builder_level=builder_level,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
        strip=strip,
        refittable=refittable,
        mark_layers=mark_layers,
        timing_cache=timing_cache,
        sign=sign,
        library=library,
    )
    if artefact is not None:
        check_artefact_alone(context, artefact, model, engine, refit, (fp16, bf16, int8, int8_weights))
        plan = output or artefact.with_suffix(PLAN_SUFFIX)
        if refit is not None:
            write_refitted(artefact, refit, plan, flags)
            return
        EngineChoice.of(True, plan, None)
        write_engine(artefact, plan, flags)
        return
    if refit is not None:
        raise UsageError(f"--refit {refit}: MODEL.onnx is missing, the artefact whose weights it gets")
    # Here and not above, so that --help and usage errors don't wait for torch.
    try:
        from rich.console import Console

        from iqa_export.exporting import Request, choose_variant, load_checkpoint
        from iqa_export.listing import show_systems
        from iqa_export.onnx_export import OPSET, check_opset
        from iqa_export.systems import GraphChoice, find_system
    except ImportError as error:
        raise DependencyError(f'{error}; install the exporter: pip install "iqa-deploy[cpu,export]"') from error
    from iqa_runtime.scoring.patch_plans import parse_patch_plan

    if list_systems:
        show_systems(Console())
        return
    if model is None:
        raise UsageError("--model is missing; --list shows the systems")
    system = find_system(model)
    if task is not None and task not in get_args(Task):
        raise UsageError(f"--task {task}: there is {', '.join(get_args(Task))}")
    if variant is not None and variant not in system.tasks:
        raise UsageError(f"--variant {variant}: {system.name} has {', '.join(system.tasks)}")
    choice_of_engine = EngineChoice.of(engine, output, target, library)
    if choice_of_engine.builds:
        flags.options()  # told now rather than after the checkpoint has been read
    else:
        flags.check_unused()
    if choice_of_engine.builds and target is None and (fp16 or bf16 or int8 or int8_weights):
        target = "tensorrt"
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
        options.check_unused()
        if calibration_images:
            raise UsageError("--calibration-images goes with --fp16, --bf16, --int8 or --int8-weights; add one of them")
    elif cache_reference:
        raise UsageError(
            f"--cache-reference with --{form.precision}: an artefact that takes cached features of a reference cannot "
            "be judged; leave one of them out, or use --reference-image"
        )
    if weights is None:
        variant, weights = _bundled(system, variant)
    opset = check_opset(OPSET if opset is None else opset)
    checkpoint = load_checkpoint(system, weights, variant)
    chosen_variant = variant or choose_variant(system, checkpoint.entries.keys(), task)
    chosen_task = cast(Task, task) if task is not None else system.tasks[chosen_variant][0]
    wanted = {"restored": restored, "distortion_feature": distortion_feature}
    choice = GraphChoice(
        variant=chosen_variant,
        task=chosen_task,
        segment=segment,
        maps=maps,
        extras=tuple(name for name, asked in wanted.items() if asked),
    )
    graph = output or Path(f"{system.name}-{chosen_variant}-{chosen_task}{form.suffix if form else '.onnx'}")
    request = Request(
        system=system,
        choice=choice,
        checkpoint=checkpoint,
        output=graph.with_suffix(".onnx") if choice_of_engine.builds else graph,
        patch_plan=system.patch_plan if crops is None else parse_patch_plan(crops, system.patch_plan),
        cache_reference=cache_reference,
        reference_image=reference_image,
        opset=opset,
    )
    plan = graph.with_suffix(PLAN_SUFFIX)
    if choice_of_engine.builds:
        check_engine(request, form, plan, flags, named=output is not None)
    if not checkpoint.trained:
        typer.echo(f"iqa-export: untrained: {checkpoint.file} are random weights; scores will mean nothing", err=True)
    if form is not None:
        _export_reduced(request, form, options, calibration_images or [])
    else:
        report = _export(request)
        typer.echo(f"wrote {', '.join(str(request.output.parent / graph.file) for graph in report.graphs)}", err=True)
    if choice_of_engine.builds:
        write_engine(request.output, plan, flags)
    elif choice_of_engine.reason is not None:
        typer.echo(f"iqa-export: no engine was built: {choice_of_engine.reason}", err=True)


def _export(request: Request) -> Report:
    """Export float32 and print the report."""
    from rich.console import Console

    from iqa_export.exporting import export

    choice = request.choice
    with Console(stderr=True).status(f"exporting {request.system.title} {choice.variant}, {choice.task}"):
        report = export(request)
    report.show(Console())
    return report


def _export_reduced(request: Request, form: Form, options: Options, images: list[str]) -> None:
    """Export float32 for the time being, and make of it what is asked for; the report of the export stays too."""
    output, choice = request.output, request.choice
    if not output.parent.is_dir():
        raise FileError(f"{output.parent}: no such folder; create it or choose another --output")
    photographs = choose_photographs("iqa-export", images, "--calibration-images")
    try:
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.stem}.") as folder:
            stem = f"{request.system.name}-{choice.variant}-{choice.task}"
            fp32 = Path(folder, f"{stem}.onnx")
            try:
                _export(replace(request, output=fp32))
            finally:
                exported = Path(folder, f"{stem}.report.json")
                if exported.exists():
                    exported.replace(output.with_name(f"{output.stem}.export.json"))
            report = run_job("iqa-export", fp32, form, options, photographs, output=output)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{output}: cannot write there ({error.strerror}); check folder and disk") from error
    check_passed(report)


def _bundled(system: System, variant: str | None) -> tuple[str, str]:
    """Return the variant whose weights come with the package, and their path."""
    chosen = next(iter(system.bundled), None) if variant is None else variant
    if chosen is None or chosen not in system.bundled:
        offered = f"; --variant {', '.join(system.bundled)} needs none" if system.bundled else ""
        raise UsageError(
            f"--weights is missing: {system.title} wants {system.weights_source}; "
            f"or random:0 to try the pipeline with an untrained network{offered}"
        )
    if variant is None:
        typer.echo(
            f"iqa-export: neither --weights nor --variant: exporting {system.title}'s {chosen} variant, "
            "whose weights come with the package",
            err=True,
        )
    return chosen, str(system.bundled[chosen])


def main() -> NoReturn:
    """Run the command and exit."""
    run_app(app, "iqa-export")


if __name__ == "__main__":
    main()
