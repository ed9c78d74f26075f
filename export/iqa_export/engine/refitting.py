"""Put weights into a plan without building it again: back into a stripped one, or others into a refittable one.

Written against the API of TensorRT 10.3 to 11.4; not yet run on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from iqa_export.engine.checking import check_output
from iqa_export.engine.logs import last_error, make_log
from iqa_export.engine.parsing import describe_errors
from iqa_export.engine.writing import Package, write_packages
from iqa_runtime import __version__
from iqa_runtime.artefacts.engine_file import PlanFile, check_host, encoder_plan, json_path, load_plan
from iqa_runtime.artefacts.host_key import current_host, import_tensorrt
from iqa_runtime.artefacts.opening import read_contract
from iqa_runtime.contract import Contract, FileDigest
from iqa_runtime.errors import BackendError, UsageError
from iqa_runtime.files.overwriting import check_targets
from iqa_runtime.scoring.references import encoder_path

_SAME_GRAPH = ("model", "variant", "task", "options", "precision", "target", "inputs", "score", "maps", "extras")
"""Fields of the contract that two artefacts of one graph share, whatever their weights."""


def refit_engine(plan: Path, onnx: Path, output: Path, *, sign: Path | None = None) -> PlanFile:
    """Write a plan with the weights of an ONNX artefact; with a reference encoder, both plans or neither.

    Parameters
    ----------
    plan
        Built with ``--strip`` or ``--refittable``, on a host like this one.
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
    PlanFile
        What was written to ``<output>.json``.

    Raises
    ------
    UsageError
        If the plan takes no weights, or not these, or a file to be written would replace one that is read.
    FileError, ArtefactError, DependencyError
        As `iqa_runtime.artefacts.engine_file.load_plan` and `iqa_runtime.read_contract`; also if a reference encoder is
        missing, or belongs to another plan or artefact.
    BackendError
        If it is not a plan for this host, or TensorRT refuses it or the weights.
    """
    check_output(output)
    contract = read_contract(onnx)
    targets = [output]
    sources = [("the plan that takes the weights", plan), ("the artefact that gives them", onnx)]
    encoder_onnx = None
    if contract.reference_encoder is not None:
        encoder_onnx = encoder_path(onnx, contract)
        targets.append(encoder_plan(output))
        sources.append(("the reference encoder that takes weights", encoder_plan(plan)))
        sources.append(("the reference encoder that gives them", encoder_onnx))
    check_targets([("--output", path) for target in targets for path in (target, json_path(target))], sources)
    scorer = _Refit.read(plan, onnx)
    built_from = _check_graph(scorer, contract)
    packages = []
    if encoder_onnx is not None:
        encoder = _Refit.read(encoder_path(plan, built_from), encoder_onnx)
        packages.append(encoder.package(encoder_plan(output), None))
        contract = replace(contract, reference_encoder=packages[0].described.plan)
    packages.append(scorer.package(output, contract))
    write_packages(packages, key=sign)
    return packages[-1].described


@dataclass(frozen=True, slots=True)
class _Refit:
    """A plan that takes weights, as it is on disk, and the file that gives them."""

    plan: Path
    described: PlanFile
    content: bytes
    onnx: Path
    source: FileDigest

    @classmethod
    def read(cls, plan: Path, onnx: Path) -> _Refit:
        """Read both, and refuse plans that take no weights, or not these, or not here."""
        described, content = load_plan(plan)
        source = FileDigest.of_file(onnx)
        if described.host.library == "tensorrt_rtx":
            raise UsageError(f"{plan}: TensorRT-RTX built it, whose plans take no other weights; build one from {onnx}")
        if not (described.stripped or described.refittable):
            raise UsageError(f"{plan}: takes no other weights; build it so: {described.rebuild_command} --refittable")
        if not described.refittable and source.sha256 != described.source.sha256:
            raise UsageError(
                f"{onnx}: SHA-256 is {source.sha256}, {plan} was built from {described.source.sha256} and takes back "
                "no other weights; give that file, or build the plan with --refittable"
            )
        check_host(plan, described, current_host(described.host.library))
        return cls(plan, described, content, onnx, source)

    def package(self, output: Path, contract: Contract | None) -> Package:
        """Put the weights in and describe the result."""
        content = self._refitted()
        described = replace(
            self.described,
            contract=contract,
            plan=FileDigest(file=output.name, sha256=sha256(content).hexdigest()),
            source=self.source,
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
            engine = runtime.deserialize_cuda_engine(self.content)
            if engine is None:
                raise BackendError(
                    f"{self.plan}: TensorRT cannot load it ({last_error(log)}); rebuild it: "
                    f"{self.described.rebuild_command}"
                )
            refitter = trt.Refitter(engine, log)
        except TypeError as error:  # the binding's words for a null pointer
            raise BackendError(
                f"{self.plan}: TensorRT cannot start here ({last_error(log)}); check the driver with nvidia-smi"
            ) from error
        onnx_refitter = trt.OnnxParserRefitter(refitter, log)
        if not onnx_refitter.refit_from_file(str(self.onnx)):
            raise BackendError(f"{self.onnx}: TensorRT cannot take its weights: {describe_errors(onnx_refitter, log)}")
        if not refitter.refit_cuda_engine():
            missing = ", ".join(refitter.get_missing_weights()) or "none is missing"
            raise BackendError(
                f"{self.onnx}: TensorRT cannot put its weights into {self.plan} ({last_error(log)}; missing: "
                f"{missing}); build a plan from it instead"
            )
        return _with_weights(trt, engine)


def _with_weights(trt: Any, engine: Any) -> bytes:
    """Serialise an engine with its weights, which one that was stripped leaves out unless told otherwise."""
    serialization = engine.create_serialization_config()
    serialization.clear_flag(trt.SerializationFlag.EXCLUDE_WEIGHTS)
    return bytes(engine.serialize_with_config(serialization))


def _check_graph(scorer: _Refit, contract: Contract) -> Contract:
    """Refuse weights of another graph; return the contract of the plan."""
    plan, onnx, built_from = scorer.plan, scorer.onnx, scorer.described.contract
    if built_from is None:
        raise UsageError(f"{plan}: the reference encoder of another plan; give that plan, and both get their weights")
    other = [name for name in _SAME_GRAPH if getattr(contract, name) != getattr(built_from, name)]
    if other:
        raise UsageError(f"{onnx}: not the graph of {plan}: another {', '.join(other)}; build a plan from it instead")
    return built_from
