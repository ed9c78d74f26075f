"""Put weights into a plan without building it again: back into a stripped one, or others into a refittable one.

Written against the API of TensorRT 10.3 to 11.4; not yet run on a GPU.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from iqa_export.engine.logs import last_error, make_log
from iqa_export.engine.parsing import describe_errors
from iqa_export.engine.writing import Package, write_packages
from iqa_runtime import __version__
from iqa_runtime.contract import PLAN_SUFFIX, Contract, FileDigest, read_contract
from iqa_runtime.errors import BackendError, FileError, UsageError
from iqa_runtime.host_key import current_host, import_tensorrt
from iqa_runtime.overwriting import check_targets
from iqa_runtime.plan import PlanFile, check_host, json_path, load_plan

_SAME_GRAPH = ("model", "variant", "task", "options", "precision", "target", "inputs", "score", "maps", "extras")
"""Fields of the contract that two artefacts of one graph share, whatever their weights."""


def refit_engine(plan: Path, onnx: Path, output: Path, *, sign: Path | None = None) -> PlanFile:
    """Write a plan with the weights of an ONNX artefact.

    Parameters
    ----------
    plan
        Built with ``--strip`` or ``--refittable``, on a host like this one.
    onnx
        The artefact it was built from; of a refittable plan, another one of the same graph.
    output
        The plan to write. It is complete and takes no other weights: to change them again, start from `plan`.
    sign
        Private key to sign its description with; None for no signature.

    Returns
    -------
    PlanFile
        What was written to ``<output>.json``.

    Raises
    ------
    UsageError
        If the plan takes no weights, or not these, or `output` would replace it.
    FileError, ArtefactError, DependencyError
        As `iqa_runtime.plan.load_plan` and `iqa_runtime.read_contract`.
    BackendError
        If it is not a plan for this host, or TensorRT refuses it or the weights.
    """
    if output.suffix != PLAN_SUFFIX:
        raise UsageError(f"--output {output}: the name of an engine must end in {PLAN_SUFFIX}")
    if not output.parent.is_dir():
        raise FileError(f"{output.parent}: no such folder; create it or choose another --output")
    targets = [("--output", output), ("--output", json_path(output))]
    check_targets(targets, [("the plan that takes the weights", plan), ("the artefact that gives them", onnx)])
    described, content = load_plan(plan)
    contract = read_contract(onnx)
    source = FileDigest.of_file(onnx)
    _check(plan, described, onnx, contract, source)
    check_host(plan, described, current_host(described.host.library))
    refitted = _refitted(import_tensorrt(described.host.library), plan, described, content, onnx)
    result = replace(
        described,
        contract=contract,
        plan=FileDigest(file=output.name, sha256=sha256(refitted).hexdigest()),
        source=source,
        stripped=False,
        refittable=False,
        exporter=f"iqa-deploy {__version__}",
    )
    write_packages([Package(output, refitted, result)], key=sign)
    return result


def _check(plan: Path, described: PlanFile, onnx: Path, contract: Contract, source: FileDigest) -> None:
    if described.host.library == "tensorrt_rtx":
        raise UsageError(f"{plan}: TensorRT-RTX built it, whose plans take no other weights; build one from {onnx}")
    if not (described.stripped or described.refittable):
        raise UsageError(f"{plan}: takes no other weights; build it so: {described.rebuild_command} --refittable")
    built_from = described.contract
    if built_from is None or contract.reference_encoder is not None:
        raise UsageError(f"{plan}: has a reference encoder of its own, or is one; build both again from {onnx}")
    if not described.refittable and source.sha256 != described.source.sha256:
        raise UsageError(
            f"{onnx}: SHA-256 is {source.sha256}, {plan} was built from {described.source.sha256} and takes back no "
            "other weights; give that file, or build the plan with --refittable"
        )
    other = [name for name in _SAME_GRAPH if getattr(contract, name) != getattr(built_from, name)]
    if other:
        raise UsageError(f"{onnx}: not the graph of {plan}: another {', '.join(other)}; build a plan from it instead")


def _refitted(trt: ModuleType, plan: Path, described: PlanFile, content: bytes, onnx: Path) -> bytes:
    log = make_log(trt)
    try:
        runtime = trt.Runtime(log)
        engine = runtime.deserialize_cuda_engine(content)
        if engine is None:
            raise BackendError(
                f"{plan}: TensorRT cannot load it ({last_error(log)}); rebuild it: {described.rebuild_command}"
            )
        refitter = trt.Refitter(engine, log)
    except TypeError as error:  # the binding's words for a null pointer
        raise BackendError(
            f"{plan}: TensorRT cannot start here ({last_error(log)}); check the driver with nvidia-smi"
        ) from error
    onnx_refitter = trt.OnnxParserRefitter(refitter, log)
    if not onnx_refitter.refit_from_file(str(onnx)):
        raise BackendError(f"{onnx}: TensorRT cannot take its weights: {describe_errors(onnx_refitter, log)}")
    if not refitter.refit_cuda_engine():
        missing = ", ".join(refitter.get_missing_weights()) or "none is missing"
        raise BackendError(
            f"{onnx}: TensorRT cannot put its weights into {plan} ({last_error(log)}; missing: {missing}); build a "
            "plan from it instead"
        )
    return _with_weights(trt, engine)


def _with_weights(trt: ModuleType, engine: Any) -> bytes:
    """Serialise an engine with its weights, which one that was stripped leaves out unless told otherwise."""
    serialization = engine.create_serialization_config()
    serialization.clear_flag(trt.SerializationFlag.EXCLUDE_WEIGHTS)
    return bytes(engine.serialize_with_config(serialization))
