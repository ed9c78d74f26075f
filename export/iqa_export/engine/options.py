"""How an engine is built: what the user may choose, and what each library refuses."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from iqa_runtime.artefacts.engine_file import SizeRange
from iqa_runtime.artefacts.host_key import Flavour
from iqa_runtime.contract import Contract, PatchPlan
from iqa_runtime.errors import UsageError
from iqa_runtime.kernels import MAX_SIDE

_LEVELS = range(6)
_SIZE = re.compile(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})")
_LEAST_SIDE = 32
_OPTIMAL, _LARGEST = (768, 1024), (2048, 2048)

_REFUSED_BY_RTX = {
    "version_compatible": "its plans run with the version that built them",
    "hardware_compatible": "its plans run on every GPU of compute capability 8.0 or later as they are",
    "strip": "it leaves weights out only when it builds on a GPU, which is not offered",
    "refittable": "it makes refittable plans only when it builds on a GPU, which is not offered",
    "timing_cache": "it times nothing while it builds",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Choices of one build.

    Attributes
    ----------
    min_batch, opt_batch, max_batch
        Batch sizes the plan takes, and the one it is optimised for. The runtime runs every batch in pieces of
        `opt_batch` items, so that a score does not depend on its neighbours. Eight crops of 224 pixels keep a GPU of
        the size of a Jetson Orin busy; our choice.
    min_size, opt_size, max_size
        Heights and widths of whole pictures at their own size: the least and the most that the plan takes, as the
        network gets them, and those it is optimised for; None for `sizes_for`'s. Of no use for other artefacts.
    workspace
        Scratch memory the builder may use, in bytes; None for the library's own limit, all of the GPU's memory.
    builder_level
        0 to 5: how long the builder looks for faster kernels. 3 is TensorRT's default.
    version_compatible
        Let later versions of the library run the plan too, of the same major version and of the next (10 to 11).
    hardware_compatible
        Let every GPU of compute capability 8.0 or later run it, not only the model it was built on; not on Jetson.
    strip
        Leave the weights out; `refit_engine` puts those of the same ONNX file back.
    refittable
        Let `refit_engine` put other weights in without a build.
    mark_layers
        Make the float tensors inside the network outputs, for ``iqa-compare --layers``. It keeps the builder from
        fusing layers, so such a plan is for looking at; and it takes one item at a time, so that shapes are known.
    timing_cache
        Folder in which what was timed is kept, one file a host, so that the next build is quicker; None for no cache.
    sign
        Private key (PEM, Ed25519) to sign the description of the plan with; None for no signature.
    library
        ``tensorrt`` or ``tensorrt_rtx``; None for the first of these that is installed.
    """

    min_batch: int = 1
    opt_batch: int = 8
    max_batch: int = 8
    min_size: tuple[int, int] | None = None
    opt_size: tuple[int, int] | None = None
    max_size: tuple[int, int] | None = None
    workspace: int | None = None
    builder_level: int = 3
    version_compatible: bool = False
    hardware_compatible: bool = False
    strip: bool = False
    refittable: bool = False
    mark_layers: bool = False
    timing_cache: Path | None = None
    sign: Path | None = None
    library: Flavour | None = None

    @classmethod
    def choose(
        cls,
        *,
        min_batch: int | None = None,
        opt_batch: int | None = None,
        max_batch: int | None = None,
        mark_layers: bool = False,
        **others: Any,
    ) -> EngineOptions:
        """Fill in the batch sizes that were left open: as far as those given allow, and one for marked layers.

        Raises
        ------
        UsageError
            If the choices don't go together.
        """
        default = cls()
        if max_batch is None:
            max_batch = opt_batch if opt_batch is not None else 1 if mark_layers else default.max_batch
        options = cls(
            min_batch=default.min_batch if min_batch is None else min_batch,
            opt_batch=min(max_batch, default.opt_batch) if opt_batch is None else opt_batch,
            max_batch=max_batch,
            mark_layers=mark_layers,
            **others,
        )
        check_options(options)
        return options


def check_options(options: EngineOptions) -> None:
    """Refuse choices that fit no library.

    Raises
    ------
    UsageError
        Naming the option.
    """
    if not 1 <= options.min_batch <= options.opt_batch <= options.max_batch:
        raise UsageError(
            f"``min_batch={options.min_batch}``, ``opt_batch={options.opt_batch}``, ``max_batch={options.max_batch}``: "
            "they must be at least 1 and must not decrease"
        )
    if options.mark_layers and options.max_batch != 1:
        raise UsageError(
            f"``mark_layers`` with ``max_batch={options.max_batch}``: an engine that shows its layers takes one item "
            "at a time; leave the batch sizes out, or make them 1"
        )
    if options.builder_level not in _LEVELS:
        raise UsageError(f"``builder_level={options.builder_level}``: choose 0 (quick to build) to 5 (quick to run)")
    if options.workspace is not None and options.workspace < 1:
        raise UsageError(f"``workspace={options.workspace}``: give a size above zero, or leave it out")
    if options.version_compatible and (options.strip or options.refittable):
        raise UsageError(
            "``version_compatible`` with ``strip`` or ``refittable``: the runtime inside a version-compatible plan "
            "cannot change weights; choose one"
        )


def options_for(options: EngineOptions, contract: Contract) -> EngineOptions:
    """Return the options of a build of this artefact: one picture at a time where pictures come at their own size.

    Raises
    ------
    UsageError
        If options are of no use for it.
    """
    if not contract.has_own_size:
        for name in ("min_size", "opt_size", "max_size"):
            if getattr(options, name) is not None:
                raise UsageError(f"``{name}``: the pictures or crops of this artefact have one size; leave it out")
        return options
    if options.max_batch not in (1, EngineOptions().max_batch):
        raise UsageError(
            f"``max_batch={options.max_batch}``: pictures at their own size are run one at a time; leave it out"
        )
    if options.mark_layers:
        raise UsageError(
            "``mark_layers``: what is inside has another shape for every picture; compare the layers of ONNX files"
        )
    sizes = sizes_for(options, contract.patch_plan)
    return replace(
        options,
        min_batch=1,
        opt_batch=1,
        max_batch=1,
        min_size=sizes.min,
        opt_size=sizes.opt,
        max_size=sizes.max,
    )


def sizes_for(options: EngineOptions, plan: PatchPlan) -> SizeRange:
    """Return the sizes of pictures that a plan is built for.

    Those left open are the least that the network takes, or 32 pixels a side; 768 x 1024; and 2048 x 2048, which is
    enough for most pictures of a browser and takes little of a GPU (our choice).

    Raises
    ------
    UsageError
        If they decrease, are no multiples where the network wants such, or smaller than it takes.
    """
    unit = plan.multiple or 1
    least = -(-(plan.smallest or _LEAST_SIDE) // unit) * unit
    largest = options.max_size or tuple(max(least, side) for side in _fitted(_LARGEST, unit))
    wanted = options.min_size or (min(least, largest[0]), min(least, largest[1]))
    best = options.opt_size or tuple(
        min(max(low, side), high) for low, side, high in zip(wanted, _fitted(_OPTIMAL, unit), largest, strict=True)
    )
    sizes = SizeRange(min=wanted, opt=(best[0], best[1]), max=(largest[0], largest[1]))
    smallest = plan.smallest or 1
    for name, size in (("min_size", sizes.min), ("opt_size", sizes.opt), ("max_size", sizes.max)):
        words = f"``{name}={size[0]}x{size[1]}``"
        if min(size) < smallest:
            raise UsageError(f"{words}: the network takes {smallest} x {smallest} pixels and more")
        if max(size) > MAX_SIDE:
            raise UsageError(f"{words}: sides of up to {MAX_SIDE} pixels can be taken whole")
        if any(side % unit for side in size):
            raise UsageError(f"{words}: pictures are made multiples of {unit}; give such sizes")
    if not all(low <= opt <= high for low, opt, high in zip(sizes.min, sizes.opt, sizes.max, strict=True)):
        raise UsageError(
            f"``min_size`` {sizes.min}, ``opt_size`` {sizes.opt}, ``max_size`` {sizes.max}: they must not decrease"
        )
    return sizes


def parse_size(name: str, text: str | None) -> tuple[int, int] | None:
    """Read a height and width as they are written in a command: HxW.

    Raises
    ------
    UsageError
        If it is something else.
    """
    if text is None:
        return None
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UsageError(f"``{name}={text}``: write height and width in pixels, as in 768x1024")
    return int(match[1]), int(match[2])


def _fitted(size: tuple[int, int], unit: int) -> tuple[int, int]:
    return max(unit, size[0] // unit * unit), max(unit, size[1] // unit * unit)


def check_library(options: EngineOptions, library: Flavour) -> None:
    """Refuse what a library does not do.

    TensorRT-RTX 1.7 without a GPU ignores hardware compatibility and the timing cache, and fails to build with any of
    the others: to be told beforehand is better than either.

    Raises
    ------
    UsageError
        Naming the option and the reason.
    """
    if library != "tensorrt_rtx":
        return
    for name, reason in _REFUSED_BY_RTX.items():
        if getattr(options, name):
            raise UsageError(
                f"``{name}``: TensorRT-RTX has no such thing here ({reason}); leave it out, or "
                "build with TensorRT on the GPU that will run the plan"
            )
