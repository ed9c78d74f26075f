"""The command ``iqa-export``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, cast, get_args

import typer

from iqa_runtime.cli import PARSE_ERROR
from iqa_runtime.contract import Task
from iqa_runtime.errors import DependencyError, IqaError, UsageError

if TYPE_CHECKING:
    from iqa_export.systems import System

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def export_command(
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
        Path | None, typer.Option(metavar="FILE", help="Artefact to write. Default: MODEL-VARIANT-TASK.onnx.")
    ] = None,
    opset: Annotated[int | None, typer.Option(help="ONNX operator set, 20 to 23. Default: 20.")] = None,
    list_systems: Annotated[bool, typer.Option("--list", help="Show systems, variants and tasks, and stop.")] = False,
) -> None:
    """Export a trained IQA network to an artefact that iqa-run scores with, and prove that it computes the same."""
    # Here and not above, so that --help and usage errors don't wait for torch.
    try:
        from rich.console import Console

        from iqa_export.exporting import Request, choose_variant, export, load_checkpoint
        from iqa_export.listing import show_systems
        from iqa_export.onnx_export import OPSET, check_opset
        from iqa_export.systems import GraphChoice, find_system
    except ImportError as error:
        raise DependencyError(f'{error}; install the exporter: pip install "iqa-deploy[cpu,export]"') from error
    from iqa_runtime.patches import parse_plan

    console = Console(stderr=True)
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
    request = Request(
        system=system,
        choice=choice,
        checkpoint=checkpoint,
        output=output or Path(f"{system.name}-{chosen_variant}-{chosen_task}.onnx"),
        plan=system.plan if crops is None else parse_plan(crops, system.plan),
        cache_reference=cache_reference,
        reference_image=reference_image,
        opset=opset,
    )
    if not checkpoint.trained:
        typer.echo(f"iqa-export: untrained: {checkpoint.file} are random weights; scores will mean nothing", err=True)
    with console.status(f"exporting {system.title} {chosen_variant}, {chosen_task}"):
        report = export(request)
    report.show(Console())
    typer.echo(f"wrote {', '.join(str(request.output.parent / graph.file) for graph in report.graphs)}", err=True)


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


def run_app(command: typer.Typer, name: str) -> NoReturn:
    """Run a command line and exit: 0 done, 1 failed, 2 usage, 130 interrupted; every error is one line on stderr."""
    message = None
    try:
        code = command(prog_name=name, standalone_mode=False) or 0
    except PARSE_ERROR as error:
        code, message = 2, getattr(error, "format_message", error.__str__)()
    except UsageError as error:
        code, message = 2, str(error)
    except IqaError as error:
        code, message = 1, str(error)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    if message is not None:
        typer.echo(f"{name}: {message}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
