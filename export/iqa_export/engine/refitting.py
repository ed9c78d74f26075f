"""Put weights into a plan without building it again: back into a stripped one, or others into a refittable one.

Written against the API of TensorRT 10.3 to 11.4; not yet run on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from iqa_export.engine.logs import last_error, make_log
from iqa_export.engine.parsing import describe_errors
from iqa_export.engine.writing import Package, write_packages
from iqa_runtime import __version__
from iqa_runtime.artefacts.engine_file import EngineFile, check_host, read_engine_file
from iqa_runtime.artefacts.files import PLAN_SUFFIX, description_path, encoder_plan
from iqa_runtime.artefacts.graph_file import GraphFile
from iqa_runtime.artefacts.host_key import current_host, import_tensorrt
from iqa_runtime.artefacts.opening import Artefact, open_artefact
from iqa_runtime.contract import Contract, FileDigest
from iqa_runtime.errors import BackendError, UsageError
from iqa_runtime.files.overwriting import check_output, check_targets

_SAME_GRAPH = ("model", "variant", "task", "options", "precision", "target", "inputs", "score", "maps", "extras")
"""Fields of the contract that two artefacts of one graph share, whatever their weights."""


def refit_engine(plan: Path, onnx: Path, output: Path, *, sign: Path | None = None) -> EngineFile:
    """Write a plan with the weights of an ONNX artefact; with a reference encoder, both plans or neither.

    Parameters
    ----------
    plan
        Built stripped or refittable, on a host like this one.
    onnx
        The artefact it was built from; of a refittable plan, another one of the same graph. A reference encoder gets
        the weights of that beside this file.
    output
        The plan to write; a reference encoder becomes ``<stem>.reference.plan``. They are complete and take no other
        weights: to change them again, start from `plan`.
    sign
        Private key to sign the descriptions with; None for no signature.

    Returns
    -------
    EngineFile
        What was written to ``<output>.json``.

    Raises
    ------
    UsageError
        If the plan takes no weights, or not these, or a file to be written would replace one that is read.
    FileError, ArtefactError, DependencyError
        As `iqa_runtime.artefacts.opening.open_artefact`.
    BackendError
        If it is not a plan for this host, or TensorRT refuses it or the weights.
    """
    check_output(output, PLAN_SUFFIX)
    giving = open_artefact(onnx)
    if read_engine_file(plan).contract is None:
        raise UsageError(f"{plan}: the reference encoder of another plan; give that plan, and both get their weights")
    taking = open_artefact(plan)
    targets = [output] if giving.encoder is None else [output, encoder_plan(output)]
    check_targets(
        [("``output``", path) for target in targets for path in (target, description_path(target))],
        [*taking.files("the plan that takes the weights"), *giving.files("the artefact that gives them")],
    )
    contract = giving.contract
    scorer = _Refit.of(taking.graph, giving.graph)
    _check_graph(taking, giving)
    packages = []
    if taking.encoder is not None and giving.encoder is not None:
        encoder = _Refit.of(taking.encoder, giving.encoder)
        packages.append(encoder.package(encoder_plan(output), None))
        contract = replace(contract, reference_encoder=packages[0].described.plan)
    packages.append(scorer.package(output, contract))
    write_packages(packages, key=sign)
    return packages[-1].described


@dataclass(frozen=True, slots=True)
class _Refit:
    """A plan that takes weights, and the graph that gives them."""

    plan: GraphFile
    described: EngineFile
    source: GraphFile

    @classmethod
    def of(cls, plan: GraphFile, source: GraphFile) -> _Refit:
        """Refuse plans that take no weights, or not these, or not here."""
        described = plan.engine
        if described is None:
            raise UsageError(f"{plan.path}: no engine; give the engine that takes the weights")
        if described.host.library == "tensorrt_rtx":
            raise UsageError(
                f"{plan.path}: TensorRT-RTX built it, whose plans take no other weights; build one from {source.path}"
            )
        if not (described.stripped or described.refittable):
            raise UsageError(
                f"{plan.path}: takes no other weights; build it so: {described.rebuild_command} --refittable"
            )
        if not described.refittable and source.sha256 != described.source.sha256:
            raise UsageError(
                f"{source.path}: SHA-256 is {source.sha256}, {plan.path} was built from {described.source.sha256} and "
                "takes back no other weights; give that file, or build the plan with ``refittable``"
            )
        check_host(plan.path, described, current_host(described.host.library))
        return cls(plan, described, source)

    def package(self, output: Path, contract: Contract | None) -> Package:
        """Put the weights in and describe the result."""
        content = self._refitted()
        described = replace(
            self.described,
            contract=contract,
            plan=FileDigest(file=output.name, sha256=sha256(content).hexdigest()),
            source=FileDigest(file=self.source.path.name, sha256=self.source.sha256),
            stripped=False,
            refittable=False,
            exporter=f"iqa-deploy {__version__}",
        )
        return Package(output, content, described)

    def _refitted(self) -> bytes:
        trt = import_tensorrt(self.described.host.library)
        log = make_log(trt)
        try:
            runtime = trt.Runtime(log)
            engine = runtime.deserialize_cuda_engine(self.plan.take())
            if engine is None:
                raise BackendError(
                    f"{self.plan.path}: TensorRT cannot load it ({last_error(log)}); rebuild it: "
                    f"{self.described.rebuild_command}"
                )
            refitter = trt.Refitter(engine, log)
        except TypeError as error:  # the binding's words for a null pointer
            raise BackendError(
                f"{self.plan.path}: TensorRT cannot start here ({last_error(log)}); check the driver with nvidia-smi"
            ) from error
        onnx_refitter = trt.OnnxParserRefitter(refitter, log)
        if not onnx_refitter.refit_from_bytes(self.source.take()):
            raise BackendError(
                f"{self.source.path}: TensorRT cannot take its weights: {describe_errors(onnx_refitter, log)}"
            )
        if not refitter.refit_cuda_engine():
            missing = ", ".join(refitter.get_missing_weights()) or "none is missing"
            raise BackendError(
                f"{self.source.path}: TensorRT cannot put its weights into {self.plan.path} ({last_error(log)}; "
                f"missing: {missing}); build a plan from it instead"
            )
        return _with_weights(trt, engine)


def _with_weights(trt: Any, engine: Any) -> bytes:
    """Serialise an engine with its weights, which one that was stripped leaves out unless told otherwise."""
    serialization = engine.create_serialization_config()
    serialization.clear_flag(trt.SerializationFlag.EXCLUDE_WEIGHTS)
    return bytes(engine.serialize_with_config(serialization))


def _check_graph(taking: Artefact, giving: Artefact) -> None:
    """Refuse weights of another graph."""
    other = [name for name in _SAME_GRAPH if getattr(giving.contract, name) != getattr(taking.contract, name)]
    if other:
        raise UsageError(
            f"{giving.path}: not the graph of {taking.path}: another {', '.join(other)}; build a plan from it instead"
        )
