"""The calibration job: a float32 artefact becomes one in less, is judged, and is written only if it may be."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec
import onnx
from onnx import ModelProto

from iqa_calibration.gate.gate import GateResult
from iqa_calibration.gate.gate_set import GateSet
from iqa_calibration.graphs.finishing import embed_contract, save
from iqa_calibration.graphs.half_storage import widen
from iqa_calibration.graphs.reading_back import check_artefact
from iqa_calibration.graphs.structure import opset_of
from iqa_calibration.images.items import Cropper, check_seed
from iqa_calibration.images.sets import DEFAULT_COUNT, CalibrationSet, split
from iqa_calibration.jobs.candidates import Candidate, Maker
from iqa_calibration.jobs.forms import Form
from iqa_calibration.jobs.judging import Judge, Progress, judged_on
from iqa_calibration.jobs.records import CalibrationRecord, gate_to_contract
from iqa_calibration.jobs.report import Attempt, Report
from iqa_calibration.jobs.report_page import write_page
from iqa_runtime.artefacts.opening import Artefact, open_artefact
from iqa_runtime.contract import Contract, FileDigest
from iqa_runtime.errors import ArtefactError, IqaError, UsageError
from iqa_runtime.files.overwriting import check_output, check_targets, replaced_at_once
from iqa_runtime.images.loading import Source


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to make.

    Attributes
    ----------
    artefact
        The float32 artefact.
    form
        What it shall become.
    images
        Photographs; some calibrate, the others judge.
    output
        Path of the artefact; its reports go beside it.
    seed
        Of all that is drawn.
    limit
        Most photographs that calibrate.
    cache
        Folder where the statistics of int8 are kept.
    gate
        Whether the result is judged. If not, all photographs calibrate and the contract says so.
    threads
        Items computed at once, each on one thread; no result depends on it.
    command
        The user's own command line without what a `Form` says, to name alternatives by.
    """

    artefact: Path
    form: Form
    images: tuple[Source, ...]
    output: Path
    seed: int = 0
    limit: int = DEFAULT_COUNT
    cache: Path | None = None
    gate: bool = True
    threads: int = 1
    command: tuple[str, ...] = ("iqa-calibrate",)


def calibrate(request: Request, progress: Progress = lambda *_: None) -> Report:
    """Make the artefact, judge it, and write it with its reports; a refused one is not written, its reports are.

    Returns
    -------
    Report
        Also written as ``<stem>.report.json`` and ``<stem>.report.html``. Where the gate refused, it has the
        alternatives that were tried, up to the first that passes.

    Raises
    ------
    UsageError, ArtefactError, FileError, ImageError
        If the request cannot be met.
    DependencyError, BackendError
        If OpenVINO is needed and is not there, or the processor has no bfloat16.
    """
    started = time.perf_counter()
    check_seed(request.seed)
    _check_paths(request)
    fp32, artefact = _read(request.artefact)
    contract = artefact.contract
    check_artefact(artefact)
    source = FileDigest(file=artefact.path.name, sha256=artefact.graph.sha256)
    Cropper(contract)  # refuses what cannot be calibrated before any image is read
    calibrating, judging = split(request.images, request.seed) if request.gate else (list(request.images), [])
    gate_set = GateSet.build(contract, judging, seed=request.seed) if request.gate else None
    maker = Maker(
        fp32,
        lambda: CalibrationSet.build(
            contract,
            calibrating,
            count=request.limit,
            seed=request.seed,
            apart_from=() if gate_set is None else gate_set.digests,
            progress=lambda done, total: progress("reading photographs", done, total),
        ),
        cache=request.cache,
        threads=request.threads,
        progress=progress,
    )
    if gate_set is not None:
        gate = _Gate(Judge(fp32, gate_set, threads=request.threads, progress=progress), request.form)
        candidate = maker.make(request.form, gate, measure=True)
        verdict, times = gate.decisive, gate.judge.times(candidate.model, request.form)
        attempts = [] if verdict.passed else _tried(request, maker, gate.judge)
    else:
        gate, verdict, times, attempts = None, None, None, []
        # What only a gate can allow stays undone.
        unjudged = replace(request.form, search=False, attention=bool(request.form.attention))
        candidate = maker.make(unjudged, lambda _: True)
    written = _contract(contract, request, candidate, maker, verdict)
    report = Report(
        contract=written,
        judged_on=judged_on(request.form),
        source=source,
        source_bytes=artefact.graph.size,
        gate=verdict,
        item_ms=times,
        images=() if gate is None else gate.images,
        converted=candidate.converted,
        kept_float=candidate.kept_float,
        sensitivities=candidate.sensitivities,
        alternatives=tuple(attempts),
        seconds=time.perf_counter() - started,
    )
    return _write(request, candidate.model, report)


class _Gate:
    """The gate as a search asks it, and the verdict on what the search will return."""

    def __init__(self, judge: Judge, form: Form) -> None:
        self.judge = judge
        self._form = form
        self._decisive: GateResult | None = None

    def __call__(self, model: ModelProto) -> bool:
        result = self.judge.verdict(model, self._form)
        # A search returns the last graph that was accepted; the last one tried if none was.
        if result.passed or self._decisive is None or not self._decisive.passed:
            self._decisive = result
        return result.passed

    @property
    def decisive(self) -> GateResult:
        if self._decisive is None:
            raise UsageError("nothing was judged yet")
        return self._decisive

    @property
    def images(self) -> tuple[str, ...]:
        gate_set = self.judge.gate_set
        return tuple(Path(gate_set.describe(index)).name for index in range(len(gate_set.renditions)))


def _check_paths(request: Request) -> None:
    output = request.output
    check_output(output, ".onnx")
    read = [("an image", image) for image in request.images if isinstance(image, (str, Path))]
    check_targets([("``output``", output)], [("the float32 artefact", request.artefact), *read])


def _read(path: Path) -> tuple[ModelProto, Artefact]:
    artefact = open_artefact(path)
    contract = artefact.contract
    if artefact.engine is not None:
        raise UsageError(f"{path}: an engine; give the float32 ONNX artefact that it was built from")
    if contract.precision != "fp32":
        raise UsageError(f"{path}: it is {contract.precision} already; give the float32 artefact it was made from")
    try:
        model = onnx.load_model_from_string(artefact.graph.take())
    except Exception as error:  # protobuf's own, which has no stubs
        raise ArtefactError(f"{path}: onnx cannot read it ({error}); export it again") from error
    widen(model)
    return model, artefact


def _tried(request: Request, maker: Maker, judge: Judge) -> list[Attempt]:
    """Try one alternative after the other, up to the first that passes."""
    attempts: list[Attempt] = []
    for form in request.form.alternatives():
        # Other ranges and precisions without a search: whatever passes so, passes at once in the command that is named.
        searches = request.form == replace(form, search=request.form.search, attention=request.form.attention)
        gate = _Gate(judge, form)
        command = (*request.command, *form.arguments)
        try:
            maker.make(form if searches else replace(form, search=False), gate)
        except IqaError as error:
            attempts.append(Attempt(command=command, passed=False, reasons=(str(error),)))
            continue
        result = gate.decisive
        attempts.append(
            Attempt(
                command=command,
                passed=result.passed,
                reasons=result.reasons,
                largest=result.largest,
                mean=result.mean,
                srcc=result.srcc,
            )
        )
        if result.passed:
            break
    return attempts


def _contract(
    fp32: Contract, request: Request, candidate: Candidate, maker: Maker, verdict: GateResult | None
) -> Contract:
    form = request.form
    calibration = None
    if not (form.as_it_is or form.precision == "int8-weights"):
        calibration = CalibrationRecord(
            **asdict(maker.calibration.record),
            method=form.method or "range check",
            converted=candidate.converted,
            kept_float=candidate.kept_float,
            attention=candidate.attention,
        )
    return replace(
        fp32,
        precision=form.precision,
        target=form.target,
        opset=opset_of(candidate.model),
        calibration=None if calibration is None else calibration.to_contract(),
        gate=gate_to_contract(verdict, judged_on(form), request.seed),
    )


def _write(request: Request, model: ModelProto, report: Report) -> Report:
    output = request.output
    reports = [output.with_name(f"{output.stem}.report.{suffix}") for suffix in ("json", "html")]
    with replaced_at_once([*reports, output] if report.passed else reports) as folder:
        if report.passed:
            result = ModelProto()
            result.CopyFrom(model)
            report = replace(report, contract=embed_contract(result, report.contract))
            whole = folder / output.name
            save(result, whole)
            open_artefact(whole)
            report = replace(report, file=FileDigest.of_file(whole), bytes=whole.stat().st_size)
        content = msgspec.json.format(msgspec.json.encode(report.content()), indent=2)
        (folder / reports[0].name).write_bytes(content + b"\n")
        write_page(report, folder / reports[1].name)
    return report
