"""The Python API: what ``iqa-calibrate`` does, as a function."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from iqa_runtime.arguments import check_given, check_number, check_path, check_type
from iqa_runtime.errors import UsageError, needing

if TYPE_CHECKING:
    from iqa_calibration.int8.placement import Target
    from iqa_calibration.jobs.forms import ReducedPrecision
    from iqa_calibration.jobs.report import Report
    from iqa_runtime.images.loading import Source


def calibrate(
    artefact: str | os.PathLike[str],
    *,
    precision: ReducedPrecision,
    images: Source | Sequence[Source] | None = None,
    output: str | os.PathLike[str] | None = None,
    target: Target | None = None,
    method: str | None = None,
    keep_float: Sequence[str] = (),
    attention: bool | None = None,
    search: bool = True,
    gate: bool = True,
    seed: int = 0,
    limit: int | None = None,
    cache: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    command: Sequence[str] | None = None,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> Report:
    """Put a float32 artefact into less, judge it on photographs, and write it if it judges quality as before.

    Parameters
    ----------
    artefact
        What ``iqa-export`` has written, in float32.
    precision
        ``fp16``, ``bf16``, ``int8``, or ``int8-weights``: weights stored as integers, arithmetic in float32.
    images
        Photographs, of which some calibrate and the others judge: folders, lists (a path a line), image files, quoted
        patterns, bytes of image files, or uint8 H x W x 3 RGB arrays; one or several. None for the few that come with
        the package.
    output
        Path to write, ending in ``.onnx``; reports go beside it. None for ``MODEL.int8.onnx`` and alike, beside the
        artefact.
    target
        Who will run it: ``onnxruntime``, ``openvino`` or ``tensorrt``. None for ONNX Runtime, and for anybody where the
        precision is ``fp16``.
    method
        ``int8``: how ranges are chosen, ``mse``, ``minmax``, ``percentile`` or ``entropy``; None for ``mse``.
    keep_float
        Nodes, layers or blocks that stay float.
    attention
        ``int8``: whether long products of two activations are quantised too; None for OpenVINO if the gate accepts it,
        else not.
    search
        Whether parts of the graph may return to float32 until the gate accepts.
    gate
        Whether the result is judged. If not, all photographs calibrate, it is written, and its contract says so.
    seed
        Of all that is drawn, 0 to 2**32 - 1.
    limit
        Most photographs that calibrate; None for 64.
    cache
        Folder where the statistics of int8 are kept; None to keep none.
    threads
        Threads of ONNX Runtime and OpenVINO; None for the CPUs this process may use.
    command
        The command line that asked, without what names the precision: the report names alternatives by it. None for
        ``iqa-calibrate`` with the artefact.
    progress
        Is told of progress: the name of the stage, what of it is done, and of how much, None where that is not known.

    Returns
    -------
    Report
        Also written, as ``<output>.report.json`` and ``.html``. Where ``report.passed`` is False the gate has refused:
        no artefact was written, and ``report.verdict()`` says why and what would pass.

    Raises
    ------
    UsageError
        If parameters are out of range, or don't go together or with the artefact.
    ArtefactError, FileError, ImageError
        If a file cannot be read, or not be written.
    DependencyError, BackendError
        If a library is missing that calibration or the target needs, or the processor has no bfloat16.

    Warns
    -----
    UserWarning
        If the photographs are those of the package, or few.

    Examples
    --------
    >>> report = calibrate("yoto.onnx", precision="int8", images="photographs")  # doctest: +SKIP
    >>> report.passed, report.file.file  # doctest: +SKIP
    (True, 'yoto.int8.onnx')
    """
    with needing("what calibration needs", extras="cpu,calibration"):
        from iqa_calibration.images.sets import DEFAULT_COUNT, find_photographs
        from iqa_calibration.jobs.forms import Form
        from iqa_calibration.jobs.job import Request
        from iqa_calibration.jobs.job import calibrate as run
    from iqa_calibration.photographs import packaged_photographs
    from iqa_runtime.cpu import available_cpus
    from iqa_runtime.scorer import MAX_THREADS

    check_given("artefact", artefact)
    for name, path in {"artefact": artefact, "output": output, "cache": cache}.items():
        check_path(name, path)
    for name, text in {"precision": precision, "target": target, "method": method}.items():
        check_type(name, text, "text", str)
    for name, switch in {"attention": attention, "search": search, "gate": gate}.items():
        check_type(name, switch, "True or False", bool)
    if isinstance(keep_float, str) or not isinstance(keep_float, Sequence):
        raise UsageError("``keep_float``: give a list of names")
    check_number("limit", limit)
    check_number("threads", threads, most=MAX_THREADS)
    check_type("seed", seed, "a whole number", int)
    form = Form.choose(
        precision,
        target=target,
        method=method,
        keep_float=tuple(keep_float),
        attention=attention,
        search=search,
    )
    source = Path(artefact)
    photographs: Sequence[Source]
    if images is None:
        photographs = packaged_photographs()
        warnings.warn(f"no ``images``: using the {len(photographs)} photographs of the package", stacklevel=2)
    else:
        photographs = find_photographs(images)
    request = Request(
        artefact=source,
        form=form,
        images=tuple(photographs),
        output=source.with_name(source.name.removesuffix(".onnx") + form.suffix) if output is None else Path(output),
        seed=seed,
        limit=DEFAULT_COUNT if limit is None else limit,
        cache=None if cache is None else Path(cache),
        gate=gate,
        threads=available_cpus() if threads is None else threads,
        command=("iqa-calibrate", str(source)) if command is None else tuple(command),
    )
    return run(request, progress or (lambda *_: None))
