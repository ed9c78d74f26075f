"""What each precision buys: file size, time, agreement with float32, on ONNX Runtime and OpenVINO.

    python benchmarks/precision.py [--models edge-nr yoto-nr] [--photographs FOLDER] [--images 2] [--rounds 7]
        [--threads 2] [--work FOLDER] [--json FILE]

Times are medians of rounds in which all rows of a model take turns, PyTorch eager as its authors wrote it among them:
one item on one core, and on all cores as many items as threads; eager one item on all its threads. Agreement is that of
scores of held-back photographs and graded degradations of them, one item an image, on the backend of the row. Trained
weights also went through the gate of `iqa-calibrate`; a precision it refused has no artefact to measure. float16 is for
GPUs: its size counts, and what rounding every half does to the scores.

Models may be measured one at a time: those in the JSON file that are not measured again stay there, each with the host
and the commit it was measured on, and the table printed in the end has them all. --work keeps the artefacts for the
next run; empty it when anything that makes them has changed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from iqa_calibration.gate.gate import LIMITS, compare
from iqa_calibration.gate.gate_set import GateSet
from iqa_calibration.gate.scoring import opened, score
from iqa_calibration.half.casting import emulated
from iqa_calibration.images.sets import read_images, split
from iqa_calibration.jobs.forms import Form
from iqa_calibration.jobs.job import Request, calibrate
from iqa_export.checkpoints import load_into
from iqa_export.exporting import Request as ExportRequest
from iqa_export.exporting import export
from iqa_export.systems import GraphChoice, find_system
from iqa_export.weights import load_checkpoint
from iqa_runtime.artefacts.opening import open_artefact, read_contract
from iqa_runtime.backends import Backend, GraphSpec, choose_backend
from iqa_runtime.benchmark.host import describe_host
from iqa_runtime.contract import Contract
from iqa_runtime.scoring.patch_plans import parse_patch_plan

Feed = dict[str, NDArray[Any]]

ROOT = Path(__file__).parents[1]

MODELS = {
    "edge-nr": ("yoto", GraphChoice(variant="edge", task="nr")),
    "edge-fr": ("yoto", GraphChoice(variant="edge", task="fr")),
    "yoto-nr": ("yoto", GraphChoice(variant="swin_t", task="nr")),
    "cvrkd": ("cvrkd", GraphChoice(variant="student", task="nar")),
    "dri": ("dri", GraphChoice(variant="base", task="nr")),
    "mfe": ("mfe", GraphChoice(variant="van_b2", task="nr")),
}

FORMS = (
    Form.choose("fp16"),
    Form.choose("bf16", target="openvino"),
    Form.choose("int8", target="onnxruntime"),
    Form.choose("int8", target="openvino", attention=False),
    Form.choose("int8", target="openvino", attention=True),
    Form.choose("int8-weights", target="onnxruntime"),
    Form.choose("int8-weights", target="openvino"),
)

EAGER = "PyTorch eager, as written"

SETTLING = 0.02
"""Seconds before each call: threads of the library before it still spin for work."""


@dataclass(kw_only=True)
class Row:
    """One precision of one model on one backend; None where it was not measured or means nothing."""

    precision: str
    backend: str
    megabytes: float | None = None
    one_core_ms: float | None = None
    all_cores_ms: float | None = None
    times_fp32: float | None = None
    times_eager: float | None = None
    largest: float | None = None
    mean: float | None = None
    srcc: float | None = None
    converted: int | None = None
    kept_float: int | None = None
    verdict: str = ""


class Model:
    """One model with random or bundled weights: its float32 artefact, and others made of it."""

    def __init__(self, name: str, work: Path, photographs: list[Path], threads: int) -> None:
        system_name, self.choice = MODELS[name]
        self.system = find_system(system_name)
        self._work, self._photographs, self._threads = work, photographs, threads
        bundled = self.system.bundled.get(self.choice.variant)
        weights = "random:0" if bundled is None else str(bundled)
        self._checkpoint = load_checkpoint(self.system, weights, self.choice.variant)
        self.fp32 = work / f"{name}.onnx"
        if not self.fp32.exists():
            plan = self.system.patch_plan
            export(
                ExportRequest(
                    system=self.system,
                    choice=self.choice,
                    checkpoint=self._checkpoint,
                    output=self.fp32,
                    patch_plan=plan,
                )
            )
        self.contract = read_contract(self.fp32)

    def artefact(self, form: Form) -> Path | None:
        """Make an artefact unless it is there; None if the gate refused it."""
        trained = self._checkpoint.trained
        suffix = f".attention{form.suffix}" if form.attention else form.suffix
        output = self._work / f"{self.fp32.stem}{suffix}"
        if output.with_name(f"{output.stem}.report.json").exists():
            return output if output.exists() else None
        calibrating, _ = split(self._photographs, 0)
        request = Request(
            artefact=self.fp32,
            # A search takes hours for random weights of a large network, and finds nothing that holds for trained ones.
            form=form if trained else replace(form, search=False),
            images=tuple(self._photographs if trained else calibrating),
            output=output,
            cache=self._work / "statistics",
            gate=trained,
            threads=self._threads,
        )
        return output if calibrate(request).passed else None

    def as_written(self) -> torch.nn.Module:
        """Return the published network with the same weights."""
        network = self.system.build(self.choice.variant).requires_grad_(False)
        load_into(network, self._checkpoint, self.system.key_map(self.choice.variant))
        return self.system.as_written(network, self.choice).eval()

    def gate_set(self, images: int) -> GateSet:
        """Return held-back photographs and their degradations, cut into one item each."""
        _, judging = split(self._photographs, 0)
        per_item = self.contract.crops_per_item
        plan = parse_patch_plan("center" if per_item == 1 else f"random:{per_item}", self.contract.patch_plan)
        return GateSet.build(replace(self.contract, patch_plan=plan), judging[:images])


class Calls:
    """Named calls that take turns."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str], tuple[Callable[[], object], int]] = {}

    def add(self, row: str, cores: str, call: Callable[[], object], crops: int) -> None:
        self._calls[row, cores] = call, crops

    def measure(self, rounds: int) -> dict[tuple[str, str], float]:
        """Return the median milliseconds a crop of every call."""
        for call, _ in self._calls.values():
            call()
        times: dict[tuple[str, str], list[float]] = {name: [] for name in self._calls}
        for _ in range(rounds):
            for name, (call, crops) in self._calls.items():
                time.sleep(SETTLING)
                began = time.perf_counter()
                call()
                times[name].append(1000 * (time.perf_counter() - began) / crops)
        return {name: statistics.median(measured) for name, measured in times.items()}


def open_backend(path: Path, backend: str, threads: int) -> tuple[Backend, Contract]:
    artefact = open_artefact(path)
    choice = choose_backend(artefact, backend, device="cpu")
    spec = GraphSpec.of_artefact(artefact.contract)
    return choice.create(artefact.graph, spec, threads=threads), artefact.contract


def add_backend(calls: Calls, row: str, backend: Backend, item: Feed, crops: int, threads: int) -> None:
    batch = {name: np.repeat(tensor, threads, axis=0) for name, tensor in item.items()}
    calls.add(row, "one", lambda: backend.infer(item, ["score"]), crops)
    calls.add(row, "all", lambda: backend.infer(batch, ["score"]), crops * threads)


def add_eager(calls: Calls, network: torch.nn.Module, item: Feed, crops: int, threads: int) -> None:
    tensors = [torch.from_numpy(tensor) for tensor in item.values()]

    def run(cores: int) -> None:
        torch.set_num_threads(cores)
        with torch.inference_mode():
            network(*tensors)

    calls.add(EAGER, "one", lambda: run(1), crops)
    calls.add(EAGER, "all", lambda: run(threads), crops)


def backends_of(form: Form | None) -> tuple[str, ...]:
    """Name the backends that run a form; float16 none, being for GPUs."""
    if form is None:
        return ("onnxruntime", "openvino")
    return () if form.precision == "fp16" else (str(form.target),)


def measure(model: Model, images: int, rounds: int, threads: int) -> list[Row]:
    gate_set = model.gate_set(images)
    item: Feed = dict(next(next(gate_set.images())))
    crops = model.contract.crops_per_item
    rows: dict[str, Row] = {}
    calls = Calls()
    expected: NDArray[np.float64] | None = None
    with ExitStack() as stack:
        for form in (None, *FORMS):
            precision = "fp32" if form is None else f"{form.precision}{', attention too' if form.attention else ''}"
            path = model.fp32 if form is None else model.artefact(form)
            for name in backends_of(form) or ("",):
                row = Row(precision=precision, backend=name)
                rows[f"{precision} {name}"] = row
                if path is None:
                    row.verdict = "refused by the gate"
                    continue
                row.megabytes = path.stat().st_size / 1e6
                if name:
                    backend, contract = open_backend(path, name, threads)
                    stack.enter_context(backend)
                    add_backend(calls, f"{precision} {name}", backend, item, crops, threads)
                    scores = score(backend, gate_set)
                else:
                    contract = read_contract(path)
                    judged = emulated(onnx.load_model(path))
                    with opened(judged, gate_set.contract, "onnxruntime", threads=threads) as backend:
                        scores = score(backend, gate_set)
                if expected is None:
                    expected = scores
                    continue
                describe(row, contract, expected, scores, gate_set)
        add_eager(calls, model.as_written(), item, crops, threads)
        rows[EAGER] = Row(precision=EAGER, backend="")
        times = calls.measure(rounds)
    for name, row in rows.items():
        row.one_core_ms, row.all_cores_ms = times.get((name, "one")), times.get((name, "all"))
        if row.all_cores_ms is not None:
            row.times_eager = times[EAGER, "all"] / row.all_cores_ms
            if row.backend:
                row.times_fp32 = times[f"fp32 {row.backend}", "all"] / row.all_cores_ms
    return list(rows.values())


def describe(
    row: Row, contract: Contract, expected: NDArray[np.float64], scores: NDArray[np.float64], gate_set: GateSet
) -> None:
    """Fill in how far the scores agree, and what stayed float."""
    kind = {"fp32": "fp16", "int8-weights": "int8"}.get(contract.precision, contract.precision)
    result = compare(expected, scores, gate_set, LIMITS[kind])  # type: ignore[index]
    row.largest, row.mean, row.srcc = result.largest, result.mean, result.srcc
    if contract.calibration is not None:
        row.converted = contract.calibration["converted"]
        row.kept_float = len(contract.calibration["kept_float"])
    if not contract.weights.trained:
        row.verdict = "untrained"
    elif contract.precision != "fp32":
        row.verdict = "passed the gate"


def table(models: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a table in Markdown."""
    numbers = ("MB", "ms a crop, 1 core", "all cores", "x fp32", "x eager", "largest difference", "mean", "SRCC")
    yield f"| model | precision | backend | {' | '.join(numbers)} | layers: reduced / float | gate |"
    yield "| --- | --- | --- |" + " ---: |" * 9 + " --- |"
    for name, entry in models.items():
        for row in (Row(**fields) for fields in entry["rows"]):
            layers = "" if row.converted is None else f"{row.converted} / {row.kept_float}"
            cells = [name, row.precision, row.backend, *map(_number, (row.megabytes, row.one_core_ms))]
            cells += map(_number, (row.all_cores_ms, row.times_fp32, row.times_eager))
            cells += ["" if share is None else f"{share:.2%}" for share in (row.largest, row.mean)]
            cells += ["" if row.srcc is None else f"{row.srcc:.5f}", layers, row.verdict]
            yield f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="MODEL")
    parser.add_argument("--photographs", type=Path, default=ROOT / "calibration/iqa_calibration/photographs")
    parser.add_argument(
        "--images", type=int, default=2, help="held-back photographs that are scored, with 16 others each"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, help="folder for the artefacts; default: a temporary one")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    # Before any library starts threads: this asks git.
    host = msgspec.to_builtins(describe_host())
    host["versions"]["torch"] = torch.__version__
    stored = arguments.json is not None and arguments.json.exists()
    models: dict[str, Any] = json.loads(arguments.json.read_text(encoding="utf-8"))["models"] if stored else {}
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        for name in arguments.models:
            model = Model(name, work, read_images(arguments.photographs), arguments.threads)
            rows = measure(model, arguments.images, arguments.rounds, arguments.threads)
            load = os.getloadavg()[0]
            models[name] = {"host": host, "threads": arguments.threads, "rounds": arguments.rounds, "load": load}
            models[name]["rows"] = [asdict(row) for row in rows]
            if arguments.json is not None:
                ordered = {known: models[known] for known in MODELS if known in models}
                arguments.json.write_text(json.dumps({"models": ordered}, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table({known: models[known] for known in MODELS if known in models})))


if __name__ == "__main__":
    main()
