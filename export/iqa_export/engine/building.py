"""Build a plan out of an ONNX artefact: parse, one optimisation profile, build, write."""

from __future__ import annotations

from dataclasses import astuple, replace
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from iqa_export.engine.checking import check_build, why_no_plan
from iqa_export.engine.logs import last_error, make_log
from iqa_export.engine.options import EngineOptions, options_for
from iqa_export.engine.parsing import check_network, parse
from iqa_export.engine.progress import Progress, make_monitor
from iqa_export.engine.timing_cache import cache_path, prepare_cache, save_cache, use_cache
from iqa_export.engine.writing import Package, write_packages
from iqa_runtime import __version__
from iqa_runtime.artefacts.engine_file import BatchRange, EngineFile, SizeRange
from iqa_runtime.artefacts.files import description_path, encoder_plan
from iqa_runtime.artefacts.graph_file import GraphFile
from iqa_runtime.artefacts.host_key import TITLES, HostKey, import_tensorrt
from iqa_runtime.artefacts.opening import open_artefact
from iqa_runtime.backends import GraphSpec
from iqa_runtime.contract import Contract, FileDigest
from iqa_runtime.errors import BackendError, DependencyError, UsageError
from iqa_runtime.files.overwriting import check_targets


def build_engine(onnx: Path, output: Path, options: EngineOptions, *, progress: Progress | None = None) -> EngineFile:
    """Build a plan, and that of its reference encoder if it has one, and write them with their descriptions.

    The network is strongly typed: every number format is the graph's own, and float32 is not replaced by TF32. Where
    files of these names exist they are replaced, but only after all has been built.

    Parameters
    ----------
    onnx
        An artefact, exported or calibrated.
    output
        The plan to write; its description becomes ``<output>.json``, and a reference encoder ``<stem>.reference.plan``.
    options
        How.
    progress
        Is told of each step, and may end the build by an exception.

    Returns
    -------
    EngineFile
        What was written to ``<output>.json``.

    Raises
    ------
    UsageError
        If the options don't fit each other, the library or the artefact.
    FileError, ArtefactError
        If the artefact cannot be read or a file not be written.
    DependencyError
        If no TensorRT is installed, or it cannot be loaded.
    BackendError
        If there is no GPU to build on, or the parser or the builder refuses the graph.
    """
    host = check_build(options, output)
    artefact = open_artefact(onnx)
    contract = artefact.contract
    check_contract(onnx, contract)
    options = options_for(options, contract)
    if contract.reference_encoder is not None and options.mark_layers:
        raise UsageError(
            f"{onnx}: ``mark_layers`` shows the layers of a whole graph, and a reference encoder has some of its own; "
            "leave it out, or export without ``cache_reference``"
        )
    check_targets(
        [("``output``", output), ("``output``", description_path(output))], [("the source of the engine", onnx)]
    )
    trt = import_tensorrt(host.library)
    packages = []
    if artefact.encoder is not None:
        encoder = _build(trt, artefact.encoder, encoder_plan(output), None, options, host, progress)
        packages.append(encoder)
        contract = replace(contract, reference_encoder=encoder.described.plan)
    packages.append(_build(trt, artefact.graph, output, contract, options, host, progress))
    write_packages(packages, key=options.sign)
    return packages[-1].described


def check_contract(onnx: Path, contract: Contract) -> None:
    """Refuse artefacts whose graphs were made for something else.

    Raises
    ------
    UsageError
        Naming what to make instead.
    """
    reason = why_no_plan(contract.precision, contract.target)
    if reason is not None:
        raise UsageError(
            f"{onnx}: {reason}; convert the float32 artefact: iqa-calibrate MODEL.onnx --{contract.precision} "
            "--target tensorrt"
        )


def _build(
    trt: ModuleType,
    graph: GraphFile,
    output: Path,
    contract: Contract | None,
    options: EngineOptions,
    host: HostKey,
    progress: Progress | None,
) -> Package:
    content, marked = _serialised(trt, graph, contract, options, host, progress)
    described = EngineFile(
        contract=contract,
        plan=FileDigest(file=output.name, sha256=sha256(content).hexdigest()),
        source=FileDigest(file=graph.path.name, sha256=graph.sha256),
        host=host,
        portability="ampere_or_later" if options.hardware_compatible or host.library == "tensorrt_rtx" else "same_gpu",
        version_compatible=options.version_compatible,
        batch=BatchRange(min=options.min_batch, opt=options.opt_batch, max=options.max_batch),
        sizes=_sizes(options),
        level=options.builder_level,
        workspace=options.workspace,
        stripped=options.strip,
        refittable=options.refittable,
        layer_tensors=marked,
        exporter=f"iqa-deploy {__version__}",
    )
    return Package(output, content, described)


def _serialised(
    trt: ModuleType,
    graph: GraphFile,
    contract: Contract | None,
    options: EngineOptions,
    host: HostKey,
    progress: Progress | None,
) -> tuple[bytes, dict[str, tuple[int, ...]]]:
    """Return the bytes of the plan, and the tensors it shows."""
    onnx, source = graph.path, graph.take()
    log = make_log(trt)
    try:
        builder = trt.Builder(log)
    except TypeError as error:  # the binding's words for a null pointer, which is what comes without a driver
        raise BackendError(
            f"{onnx}: {TITLES[host.library]} cannot start here ({last_error(log)}); check the driver with nvidia-smi"
        ) from error
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = parse(trt, network, onnx, source, log)
    if contract is not None:
        check_network(trt, network, onnx, GraphSpec.of_artefact(contract))
    marked = _mark(trt, network, parser, source) if options.mark_layers else {}
    config = builder.create_builder_config()
    config.add_optimization_profile(_profile(builder, network, onnx, options))
    _configure(trt, config, options)
    cache = None if options.timing_cache is None else cache_path(options.timing_cache, host)
    if cache is not None:
        use_cache(config, prepare_cache(cache))
    monitor = make_monitor(trt, progress)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    del parser
    if monitor.error is not None:
        raise monitor.error
    if plan is None:
        raise BackendError(
            f"{onnx}: {TITLES[host.library]} cannot build an engine: {_refusal(last_error(log), options)}"
        )
    if cache is not None:
        save_cache(config, cache)
    return bytes(plan), marked


def _mark(trt: ModuleType, network: Any, parser: Any, source: bytes) -> dict[str, tuple[int, ...]]:
    # Here and not above, because building needs no onnx but for this.
    try:
        from iqa_export.engine.marking import mark_layers
    except ImportError as error:
        raise DependencyError(
            f'{error}; ``mark_layers`` reads the graph: pip install "iqa-deploy[calibration]"'
        ) from error
    return mark_layers(trt, network, parser, source)


def _profile(builder: Any, network: Any, onnx: Path, options: EngineOptions) -> Any:
    """Return the one profile: the batch sizes, for every input, and the sizes of pictures where they have their own."""
    range_of_sizes = _sizes(options)
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        batch, *sizes = tensor.shape
        dynamic = () if range_of_sizes is None else (-1, -1)
        fixed = sizes[: len(sizes) - len(dynamic)]
        if batch != -1 or -1 in fixed or tuple(sizes[len(fixed) :]) != dynamic:
            raise BackendError(
                f"{onnx}: input {tensor.name!r} is {list(tensor.shape)}; the batch axis and, of pictures at their own "
                "size, height and width must be dynamic, and no other one: export the model again"
            )
        batches = (options.min_batch, options.opt_batch, options.max_batch)
        ends = ((), (), ()) if range_of_sizes is None else astuple(range_of_sizes)
        shapes = [(items, *fixed, *end) for items, end in zip(batches, ends, strict=True)]
        profile.set_shape(tensor.name, *shapes)
    return profile


def _sizes(options: EngineOptions) -> SizeRange | None:
    if options.min_size is None or options.opt_size is None or options.max_size is None:
        return None
    return SizeRange(min=options.min_size, opt=options.opt_size, max=options.max_size)


def _configure(trt: ModuleType, config: Any, options: EngineOptions) -> None:
    # On by default; float32 in the graph means float32.
    config.clear_flag(trt.BuilderFlag.TF32)
    config.builder_optimization_level = options.builder_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.strip:
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)
    if options.refittable:
        config.set_flag(trt.BuilderFlag.REFIT)
    elif options.strip:
        # The weights that come back are those that were left out, so kernels may be chosen by their values.
        config.set_flag(trt.BuilderFlag.REFIT_IDENTICAL)


def _refusal(reason: str, options: EngineOptions) -> str:
    if "memory" in reason.lower():
        remedy = (
            "raise ``workspace``" if options.workspace is not None else "set ``workspace`` to what the GPU has free"
        )
        return f"{reason}; {remedy}, or lower ``max_batch``"
    if "same input types" in reason.lower():
        return f"{reason}; the graph mixes number formats: convert it again with ``target=tensorrt``"
    return f"{reason}; try another ``builder_level``, or another version of the library"
