"""The command ``iqa-engine``: TensorRT engines of artefacts that are exported already. Needs no torch, no onnx."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer

from iqa_export.commands.options import EngineBuildOptions
from iqa_runtime.artefacts.files import PLAN_SUFFIX, REFERENCE_ENCODER_SUFFIX, is_engine
from iqa_runtime.commands.shared import make_app, progress, run_app, say, with_groups
from iqa_runtime.errors import UsageError

if TYPE_CHECKING:
    from iqa_calibration.jobs.forms import Form
    from iqa_runtime.artefacts.host_key import Flavour

_NAME = "iqa-engine"

Sign = Annotated[
    Path | None, typer.Option(metavar="KEY.pem", help="Sign the engine's description with this Ed25519 private key.")
]

app = make_app()


@app.callback()
def engine_command() -> None:
    """Build TensorRT engines of exported artefacts, put other weights into them, and say what they are."""


@app.command()
@with_groups
def build(
    artefact: Annotated[
        Path, typer.Argument(metavar="MODEL.onnx", help="Artefact written by iqa-export or iqa-calibrate.")
    ],
    engine: EngineBuildOptions,
    output: Annotated[Path | None, typer.Option(metavar="X.plan", help="Engine to write. Default: MODEL.plan.")] = None,
    sign: Sign = None,
) -> None:
    """Build an engine of an artefact, on the GPU that will run it."""
    write_engine(_NAME, artefact, output, sign=sign, **engine.arguments())


@app.command()
def refit(
    artefact: Annotated[
        Path, typer.Argument(metavar="NEW.onnx", help="Artefact that gives the weights: the same graph.")
    ],
    engine: Annotated[
        Path, typer.Argument(metavar="OLD.plan", help="Engine built with --strip or --refittable; it stays as it is.")
    ],
    output: Annotated[Path | None, typer.Option(metavar="X.plan", help="Engine to write. Default: NEW.plan.")] = None,
    sign: Sign = None,
) -> None:
    """Write an engine with the weights of another artefact, without a build."""
    from iqa_export.engine import refit_engine

    if is_engine(artefact):
        raise UsageError(f"{artefact}: an engine; give the ONNX artefact first, then the engine that gets its weights")
    plan = output or artefact.with_suffix(PLAN_SUFFIX)
    refit_engine(engine, artefact, plan, sign=sign)
    say(_NAME, f"wrote {plan} and {plan.name}.json: {engine.name} with the weights of {artefact.name}")


@app.command()
def info(
    engine: Annotated[Path, typer.Argument(metavar="X.plan", help="Engine, with its description beside it.")],
    trust: Annotated[
        Path | None, typer.Option(metavar="KEY.pem", help="Public key that must have signed the engine.")
    ] = None,
) -> None:
    """Show what an engine was built of, where it runs, and how to build it again; iqa-run --info has the contract."""
    from iqa_runtime.artefacts.engine_file import load_engine
    from iqa_runtime.commands.check import describe

    if not is_engine(engine):
        raise UsageError(f"{engine}: no engine (.plan); iqa-run {engine} --info shows what an artefact is")
    described, content = load_engine(engine, trust=trust)
    contract = described.contract
    whose = "the reference encoder of an engine" if contract is None else f"{contract.model} {contract.variant}"
    lines = {"artefact": whose}
    if contract is not None:
        lines["artefact"] += f" {contract.task}, {contract.precision}"
    lines |= describe(replace(described, contract=None, layer_tensors={}))
    lines |= {"bytes": str(len(content)), "layers": str(len(described.layer_tensors))}
    lines["rebuild"] = described.rebuild_command
    width = max(map(len, lines))
    typer.echo("\n".join(f"{key:{width}}  {value}" for key, value in lines.items()))


def write_engine(name: str, artefact: Path, output: Path | None, **options: Any) -> None:
    """Build an engine with a progress bar, and say where it is.

    Raises
    ------
    IqaError
        As `iqa_export.build_engine`, which takes the options.
    """
    from iqa_export import build_engine

    with progress() as tell:
        described = build_engine(artefact, output=output, progress=tell, **options)
    plan = output or artefact.with_suffix(PLAN_SUFFIX)
    host = described.host
    say(name, f"wrote {plan} and {plan.name}.json, for {host.gpu.name if host.gpu else 'RTX GPUs'}")


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """Whether an export builds an engine, and if not though nobody said so, why."""

    builds: bool
    reason: str | None = None

    @classmethod
    def of(
        cls, engine: bool | None, output: Path | None, target: str | None, library: str | None = None
    ) -> EngineChoice:
        """Choose: what was asked for; else what the name of the output says; else what this host can do.

        Raises
        ------
        UsageError
            If the name of the output contradicts, or there is no such library.
        """
        names_plan = output is not None and is_engine(output)
        if engine is not None:
            if output is not None and names_plan != engine:
                ending = PLAN_SUFFIX if engine else ".onnx"
                raise UsageError(f"--output {output}: {'--engine' if engine else '--no-engine'} writes {ending}")
            return cls(engine)
        if output is not None or target not in (None, "tensorrt"):
            return cls(names_plan)
        from iqa_export.engine import why_no_engine

        reason = why_no_engine(cast("Flavour | None", library))
        return cls(reason is None, reason)


def check_engine(output: Path | None, library: str | None, form: Form | None, *, cache_reference: bool) -> None:
    """Refuse, before an export, an engine that could not be built, or whose ONNX file would replace another one.

    Parameters
    ----------
    output
        The engine that the user named; None for the default name, under which an export replaces what an earlier one
        wrote, with an engine or without.
    library
        What builds it; None for the first that is installed.
    form
        What becomes of the export before the engine is built; None for float32.
    cache_reference
        Whether there will be an encoder of references beside it.

    Raises
    ------
    UsageError
        If the target is another one, options don't go together, or a file is in the way.
    IqaError
        As `iqa_export.engine.checking.check_build`.
    """
    from iqa_export.engine import EngineOptions
    from iqa_export.engine.checking import check_build, why_no_plan

    if form is not None:
        reason = why_no_plan(form.precision, form.target)
        if reason is not None:
            raise UsageError(
                f"--{form.precision} --target {form.target} with an engine: {reason}; choose --target tensorrt"
            )
    check_build(EngineOptions.choose(library=cast("Flavour | None", library)), output or Path(f"MODEL{PLAN_SUFFIX}"))
    if output is None:
        return
    graph = output.with_suffix(".onnx")
    encoder = output.with_name(output.stem + REFERENCE_ENCODER_SUFFIX)
    for path in (graph, encoder) if cache_reference else (graph,):
        if path.exists():
            command = shlex.join(["iqa-engine", "build", str(graph), "--output", str(output)])
            raise UsageError(
                f"--output {output}: the export would replace {path}, from which the engine is built; choose another "
                f"--output, remove that file, or build its engine: {command}"
            )


def main() -> NoReturn:
    """Run the command and exit."""
    run_app(app, _NAME)


if __name__ == "__main__":
    main()
