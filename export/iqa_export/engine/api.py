"""What ``iqa-engine build`` does, as a function."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from iqa_runtime.arguments import check_given, check_path, check_type
from iqa_runtime.artefacts.files import PLAN_SUFFIX, is_engine
from iqa_runtime.errors import UsageError

if TYPE_CHECKING:
    from iqa_runtime.artefacts.engine_file import EngineFile
    from iqa_runtime.artefacts.host_key import Flavour


def build_engine(
    artefact: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str] | None = None,
    min_batch: int | None = None,
    opt_batch: int | None = None,
    max_batch: int | None = None,
    min_size: str | None = None,
    opt_size: str | None = None,
    max_size: str | None = None,
    workspace: int | None = None,
    builder_level: int = 3,
    version_compatible: bool = False,
    hardware_compatible: bool = False,
    strip: bool = False,
    refittable: bool = False,
    mark_layers: bool = False,
    timing_cache: str | os.PathLike[str] | None = None,
    sign: str | os.PathLike[str] | None = None,
    library: Flavour | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> EngineFile:
    """Build a TensorRT engine of an artefact, on the GPU that will run it.

    Parameters
    ----------
    artefact
        An ``.onnx`` file that was exported or calibrated.
    output
        The engine to write, ending in ``.plan``; what it is goes beside it, as ``<output>.json``. None for the name of
        the artefact with that ending.
    min_batch, opt_batch, max_batch
        Batch sizes it takes, in items, and the one it is optimised for and the runtime uses. None for 1, 8 and 8, as
        far as those that are given allow.
    min_size, opt_size, max_size
        Of whole pictures at their own size: the heights and widths it takes, and those it is optimised for, as in
        ``768x1024`` (height, width). None for what `iqa_export.engine.options.sizes_for` chooses.
    workspace, builder_level, version_compatible, hardware_compatible, strip, refittable, mark_layers, timing_cache
        As in `iqa_export.engine.EngineOptions`; the workspace is in bytes.
    sign
        Private key (PEM, Ed25519) to sign the description with; None for no signature.
    library
        ``tensorrt`` or ``tensorrt_rtx``; None for the first of these that is installed.
    progress
        Is told of each step: the phase, the steps done of it, and their number; may end the build by an exception.

    Returns
    -------
    EngineFile
        What was written beside the engine.

    Raises
    ------
    UsageError
        If parameters don't fit each other, the library or the artefact.
    FileError, ArtefactError
        If the artefact cannot be read or a file not be written.
    DependencyError, BackendError
        If TensorRT or a GPU is missing, or TensorRT refuses the graph.

    Examples
    --------
    >>> described = build_engine("yoto.fp16.onnx", output="yoto.plan", max_batch=4)  # doctest: +SKIP
    >>> described.batch.max  # doctest: +SKIP
    4
    """
    from iqa_export.engine import EngineOptions
    from iqa_export.engine import build_engine as build
    from iqa_export.engine.options import parse_size

    check_given("artefact", artefact)
    for name, path in {"artefact": artefact, "output": output, "timing_cache": timing_cache, "sign": sign}.items():
        check_path(name, path)
    numbers = {"min_batch": min_batch, "opt_batch": opt_batch, "max_batch": max_batch, "workspace": workspace}
    for name, number in (numbers | {"builder_level": builder_level}).items():
        check_type(name, number, "a whole number", int)
    for name, size in {"min_size": min_size, "opt_size": opt_size, "max_size": max_size}.items():
        check_type(name, size, "text", str)
    source = Path(artefact)
    if is_engine(source):
        raise UsageError(f"{source}: an engine already; give the ONNX artefact that it was built from")
    options = EngineOptions.choose(
        min_batch=min_batch,
        opt_batch=opt_batch,
        max_batch=max_batch,
        min_size=parse_size("min_size", min_size),
        opt_size=parse_size("opt_size", opt_size),
        max_size=parse_size("max_size", max_size),
        workspace=workspace,
        builder_level=builder_level,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
        strip=strip,
        refittable=refittable,
        mark_layers=mark_layers,
        timing_cache=None if timing_cache is None else Path(timing_cache),
        sign=None if sign is None else Path(sign),
        library=library,
    )
    return build(
        source, source.with_suffix(PLAN_SUFFIX) if output is None else Path(output), options, progress=progress
    )
