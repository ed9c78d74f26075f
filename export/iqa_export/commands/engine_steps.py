"""What ``iqa-export`` does about engines: refuse what cannot be, build one, put other weights into one."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from iqa_export.commands.engine_flags import EngineFlags
from iqa_runtime.artefacts.files import PLAN_SUFFIX, REFERENCE_ENCODER_SUFFIX
from iqa_runtime.errors import UsageError

if TYPE_CHECKING:
    from iqa_calibration.jobs.forms import Form
    from iqa_export.exporting import Request


def check_artefact_alone(
    context: typer.Context,
    artefact: Path,
    model: str | None,
    engine: bool | None,
    refit: Path | None,
    precisions: tuple[bool, ...],
) -> None:
    """Refuse what does not go with an artefact that is exported already.

    Raises
    ------
    UsageError
        Naming the options.
    """
    known = {"artefact", "output", "engine", "refit", *(field.name for field in fields(EngineFlags))}
    # By the name of its source: typer has had click's enumeration in different places.
    sources = {name: context.get_parameter_source(name) for name in context.params if name not in known}
    foreign = [
        f"--{name.replace('_', '-')}" for name, source in sources.items() if source and source.name == "COMMANDLINE"
    ]
    if model is not None:
        raise UsageError("MODEL.onnx and --model: give an artefact to build an engine of, or a system to export")
    if artefact.suffix.lower() == PLAN_SUFFIX:
        raise UsageError(f"{artefact}: an engine already; give the ONNX artefact that it was built from")
    if refit is not None and engine is not None:
        raise UsageError("--refit changes an engine, --engine builds one: choose")
    if refit is None and not engine:
        raise UsageError("MODEL.onnx is exported already; --engine builds an engine of it, --refit changes one")
    if any(precisions):
        raise UsageError("MODEL.onnx with a precision: iqa-calibrate converts it; build the engine of the result")
    if foreign:
        raise UsageError(f"{', '.join(foreign)}: of use for an export alone; MODEL.onnx is exported already")


def check_engine(request: Request, form: Form | None, plan: Path, flags: EngineFlags, *, named: bool) -> None:
    """Refuse, before the export, an engine that could not be built, or whose ONNX file would replace another one.

    Parameters
    ----------
    request
        The export.
    form
        What becomes of it before the engine is built; None for float32.
    plan
        The engine to be written.
    flags
        How.
    named
        Whether the user named the engine, and so not the ONNX file. Under a default name an export replaces what an
        earlier one wrote, with an engine or without.

    Raises
    ------
    UsageError
        If the target is another one, options don't go together, or a file is in the way.
    IqaError
        As `iqa_export.engine.checking.check_build`.
    """
    from iqa_export.engine.checking import check_build, why_no_plan

    if form is not None:
        reason = why_no_plan(form.precision, form.target)
        if reason is not None:
            raise UsageError(
                f"--{form.precision} --target {form.target} with an engine: {reason}; choose --target tensorrt"
            )
    if flags.mark_layers and request.cache_reference:
        raise UsageError("--mark-layers with --cache-reference: it shows the layers of one whole graph; leave one out")
    check_build(flags.options(), plan)
    written = [request.output]
    if request.cache_reference:
        written.append(request.output.with_name(request.output.stem + REFERENCE_ENCODER_SUFFIX))
    for path in written:
        if named and path.exists():
            raise UsageError(
                f"--output {plan}: the export would replace {path}, from which the engine is built; choose another "
                f"--output, remove that file, or build its engine: iqa-export {request.output} --engine --output {plan}"
            )


def write_engine(graph: Path, plan: Path, flags: EngineFlags) -> None:
    """Build an engine of an artefact, with a progress bar."""
    from rich.console import Console

    from iqa_calibration.progress import stages
    from iqa_export.engine import build_engine

    with stages(Console(stderr=True)) as progress:
        described = build_engine(graph, plan, flags.options(), progress=progress)
    host = described.host
    typer.echo(f"wrote {plan} and {plan.name}.json, for {host.gpu.name if host.gpu else 'RTX GPUs'}", err=True)


def write_refitted(graph: Path, built: Path, plan: Path, flags: EngineFlags) -> None:
    """Put the weights of an artefact into an engine."""
    from iqa_export.engine import refit_engine

    flags.check_refit()
    refit_engine(built, graph, plan, sign=flags.sign)
    typer.echo(f"wrote {plan} and {plan.name}.json: {built.name} with the weights of {graph.name}", err=True)
