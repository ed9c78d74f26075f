"""The options of ``iqa-export`` that shape an engine; light, so that ``--help`` waits for no library."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from iqa_runtime.artefacts.files import PLAN_SUFFIX
from iqa_runtime.errors import UsageError

if TYPE_CHECKING:
    from iqa_export.engine import EngineOptions
    from iqa_runtime.artefacts.host_key import Flavour

Engine = Annotated[
    bool | None,
    typer.Option(
        "--engine/--no-engine", help="Build a TensorRT engine (.plan). Default: where TensorRT and a GPU are."
    ),
]
MinBatch = Annotated[int | None, typer.Option(min=1, help="Smallest batch the engine takes. Default: 1.")]
OptBatch = Annotated[int | None, typer.Option(min=1, help="Batch it is optimised for. Default: 8.")]
MaxBatch = Annotated[int | None, typer.Option(min=1, help="Largest batch it takes. Default: --opt-batch.")]
Workspace = Annotated[
    int | None, typer.Option(min=1, metavar="MIB", help="Memory the builder may use, MiB. Default: all of the GPU's.")
]
BuilderLevel = Annotated[int | None, typer.Option(min=0, max=5, help="0 builds quickest, 5 runs quickest. Default: 3.")]
VersionCompatible = Annotated[
    bool, typer.Option("--version-compatible", help="The engine runs with later TensorRT versions too.")
]
HardwareCompatible = Annotated[
    bool, typer.Option("--hardware-compatible", help="The engine runs on other GPUs, from compute capability 8.0 on.")
]
Strip = Annotated[bool, typer.Option("--strip", help="Leave the weights out of the engine.")]
Refittable = Annotated[
    bool, typer.Option("--refittable", help="Let the weights of other artefacts be put into the engine later.")
]
MarkLayers = Annotated[
    bool, typer.Option("--mark-layers", help="Make the tensors inside outputs too, for iqa-compare --layers; slow.")
]
Refit = Annotated[
    Path | None,
    typer.Option(
        metavar="OLD.plan",
        help="Put the weights of MODEL.onnx into this engine, built with --strip or --refittable, without a build.",
    ),
]
TimingCache = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Keep what the builder timed here, one file a host.")
]
Sign = Annotated[
    Path | None, typer.Option(metavar="KEY.pem", help="Sign the engine's description with this Ed25519 private key.")
]
Library = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="tensorrt, or tensorrt_rtx. Default: the first of them that is installed."),
]

_MIB = 2**20


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """Whether an engine is built, and if not though nobody said so, why."""

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
        names_plan = output is not None and output.suffix == PLAN_SUFFIX
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


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFlags:
    """The options as given; None or False where they were not."""

    min_batch: int | None
    opt_batch: int | None
    max_batch: int | None
    workspace: int | None
    builder_level: int | None
    version_compatible: bool
    hardware_compatible: bool
    strip: bool
    refittable: bool
    mark_layers: bool
    timing_cache: Path | None
    sign: Path | None
    library: str | None

    def options(self) -> EngineOptions:
        """Return what the builder is told.

        Raises
        ------
        UsageError
            If they don't go together.
        """
        from iqa_export.engine import EngineOptions
        from iqa_export.engine.options import check_options

        default = EngineOptions()
        largest = self.max_batch or self.opt_batch or (1 if self.mark_layers else default.max_batch)
        options = EngineOptions(
            min_batch=self.min_batch or default.min_batch,
            opt_batch=self.opt_batch or min(largest, default.opt_batch),
            max_batch=largest,
            workspace=None if self.workspace is None else self.workspace * _MIB,
            builder_level=default.builder_level if self.builder_level is None else self.builder_level,
            version_compatible=self.version_compatible,
            hardware_compatible=self.hardware_compatible,
            strip=self.strip,
            refittable=self.refittable,
            mark_layers=self.mark_layers,
            timing_cache=self.timing_cache,
            sign=self.sign,
            library=cast("Flavour | None", self.library),
        )
        check_options(options)
        return options

    def check_unused(self) -> None:
        """Refuse options that mean nothing where no engine is written."""
        for option in self._given():
            raise UsageError(f"{option} goes with --engine; add it")

    def check_refit(self) -> None:
        """Refuse options of a build where weights go into an engine that was built before."""
        for option in self._given():
            if option != "--sign":
                raise UsageError(f"{option} with --refit: the engine stays as it was built; leave it out")

    def _given(self) -> list[str]:
        given = [field.name for field in fields(self) if getattr(self, field.name) not in (None, False)]
        return [f"--{name.replace('_', '-')}" for name in given]
