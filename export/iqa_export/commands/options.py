"""The options of ``iqa-export`` and ``iqa-engine`` in groups; light, so that ``--help`` waits for no library."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from iqa_runtime.commands.options import FrameOptions

_MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """Which network is exported."""

    PANEL: ClassVar[str] = "Network"

    model: Annotated[str | None, typer.Option(metavar="NAME", help="System to export; --list shows all.")] = None
    module: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FACTORY",
            help="What builds a network of your own, such as package.module:create; its code runs. Goes with "
            "--contract.",
        ),
    ] = None
    contract: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="What your network eats and what its score means (TOML); see --new-contract."
        ),
    ] = None
    adopt: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="An ONNX file of another exporter, to get the contract of --contract."),
    ] = None
    variant: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its variant. Default: told by the weights, or by the task.")
    ] = None
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Checkpoint (.pth, .safetensors), or random:SEED for an untrained network. Default: those of the "
            "package, where the variant has some.",
        ),
    ] = None
    weights_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="Which state dict of the checkpoint, such as params_ema. Default: the one that fits."
        ),
    ] = None
    task: Annotated[
        str | None, typer.Option(metavar="TASK", help="What it does: nr, fr or nar. Default: the variant's first.")
    ] = None
    segment: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="For YOTO with --task fr: joint or single, as the checkpoint was trained."),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphOptions(FrameOptions):
    """What the artefact takes and gives."""

    PANEL: ClassVar[str] = "Graph"

    crops: Annotated[
        str | None,
        typer.Option(
            metavar="PLAN",
            help="Where crops lie: five, center, grid[:STRIDE], random:COUNT[:SEED] or uniform:COUNT. Default: the "
            "system's plan.",
        ),
    ] = None
    resize: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="How pictures are resized first: shorter:N, longer:N, pixels:N or exact:WxH, then [:FILTER][:shrink]"
            "[:draft]. Default: as the system says.",
        ),
    ] = None
    cache_reference: Annotated[
        bool, typer.Option("--cache-reference", help="Write X.onnx and X.reference.onnx: features once per reference.")
    ] = False
    reference_image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Bake the features of this reference into the artefact.")
    ] = None
    maps: Annotated[bool, typer.Option("--maps", help="Add quality and weight maps as outputs.")] = False
    restored: Annotated[bool, typer.Option("--restored", help="Add the restored crop as an output (DRI-IQA).")] = False
    distortion_feature: Annotated[
        bool, typer.Option("--distortion-feature", help="Add the distortion-aware feature as an output (MFE-Net).")
    ] = False
    distortions: Annotated[
        bool,
        typer.Option("--distortions", help="Add probabilities of what was done as an output (MFE-Net edge)."),
    ] = False
    opset: Annotated[int | None, typer.Option(metavar="N", help="ONNX operator set, 20 to 23. Default: 20.")] = None


LIBRARY_HELP = "Library that builds: tensorrt or tensorrt_rtx. Default: the first of them that is installed."


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSwitch:
    """Whether an export builds an engine, too; with other than the defaults, ``iqa-engine build`` does."""

    PANEL: ClassVar[str] = "Engine"

    engine: Annotated[
        bool | None,
        typer.Option(
            "--engine/--no-engine",
            help="Build a TensorRT engine (.plan), too; iqa-engine build has more options. Default: where TensorRT and "
            "a GPU are.",
        ),
    ] = None
    library: Annotated[str | None, typer.Option(metavar="NAME", help=LIBRARY_HELP)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineBuildOptions:
    """How an engine is built; the names are those of `iqa_export.build_engine`."""

    PANEL: ClassVar[str] = "Engine"

    min_batch: Annotated[int | None, typer.Option(min=1, metavar="N", help="Smallest batch it takes. Default: 1.")] = (
        None
    )
    opt_batch: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Batch it is optimised for. Default: 8.")
    ] = None
    max_batch: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Largest batch it takes. Default: --opt-batch.")
    ] = None
    min_size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW",
            help="Of pictures at their own size: least height and width it takes. Default: the network's, or 32x32.",
        ),
    ] = None
    opt_size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Height and width it is optimised for. Default: 768x1024.")
    ] = None
    max_size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Largest height and width it takes. Default: 2048x2048.")
    ] = None
    workspace: Annotated[
        int | None,
        typer.Option(min=1, metavar="MIB", help="Memory the builder may use, in MiB. Default: all of the GPU's."),
    ] = None
    builder_level: Annotated[
        int,
        typer.Option(
            min=0,
            max=5,
            metavar="N",
            show_default=False,
            help="How hard to build: 0 is built quickest, 5 runs quickest. Default: 3.",
        ),
    ] = 3
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Let it run with later TensorRT versions, too.")
    ] = False
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="Let it run on other GPUs, from compute capability 8.0 on.")
    ] = False
    strip: Annotated[bool, typer.Option("--strip", help="Leave the weights out; refit puts them back.")] = False
    refittable: Annotated[
        bool, typer.Option("--refittable", help="Let refit put the weights of other artefacts in later.")
    ] = False
    mark_layers: Annotated[
        bool,
        typer.Option("--mark-layers", help="Make the tensors inside outputs, too, for iqa-compare --layers; slow."),
    ] = False
    timing_cache: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keep what the builder timed here, one file a host.")
    ] = None
    library: Annotated[str | None, typer.Option(metavar="NAME", help=LIBRARY_HELP)] = None

    def arguments(self) -> dict[str, Any]:
        """Return them as `iqa_export.build_engine` takes them."""
        return {**asdict(self), "workspace": None if self.workspace is None else self.workspace * _MIB}
