"""Each network on the CPU: as written in PyTorch, exported plainly, in deploy form in every precision.

All take as many items a call as there are threads, so that everyone has the same work and whoever spreads it well wins.
Random weights where none come with the package; times do not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.artefacts.opening import open_artefact, read_contract
from iqa_runtime.backends import GraphSpec, choose_backend
from iqa_runtime.benchmark.host import measure_machine
from iqa_runtime.contract import Contract
from speed.packages import import_openvino
from speed.turns import Contender, Work

PHOTOGRAPHS = Path(__file__).parents[2] / "calibration" / "iqa_calibration" / "photographs"
EAGER = "PyTorch eager, as written"
COMPILED = "torch.compile, as written"


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """Our deploy form in one precision, on one backend.

    Attributes
    ----------
    name
        In the document.
    precision, backend, attention
        As in `iqa_calibration.jobs.forms.Form`; ``fp32`` is the export itself.
    floats
        What operators on floats compute in; None for what the artefact was judged in.
    """

    name: str
    precision: str
    backend: str
    attention: bool = False
    floats: str | None = None

    @property
    def artefact(self) -> str:
        """Name of the artefact it runs."""
        if self.precision == "fp32":
            return DEPLOYED
        return f"{DEPLOYED}, {self.precision} for {self.backend}{', attention too' if self.attention else ''}"


FORMS = (
    Deployed(name="fp32, ONNX Runtime", precision="fp32", backend="onnxruntime"),
    Deployed(name="fp32, OpenVINO", precision="fp32", backend="openvino"),
    Deployed(name="bf16, OpenVINO", precision="bf16", backend="openvino"),
    Deployed(name="int8, ONNX Runtime", precision="int8", backend="onnxruntime"),
    Deployed(name="int8, OpenVINO", precision="int8", backend="openvino"),
    Deployed(name="int8, OpenVINO, floats in bf16", precision="int8", backend="openvino", floats="bfloat16"),
    Deployed(name="int8, OpenVINO, attention too", precision="int8", backend="openvino", attention=True),
    Deployed(
        name="int8, OpenVINO, attention too, floats in bf16",
        precision="int8",
        backend="openvino",
        attention=True,
        floats="bfloat16",
    ),
)

PLAIN, DYNAMIC, DEPLOYED = "plain export", "plain export, int8 by quantize_dynamic", "deploy form"
PRECISIONS = tuple(dict.fromkeys(form.precision for form in FORMS))

OPENVINO_FLOAT32 = {
    "INFERENCE_PRECISION_HINT": "f32",
    # This pass has crashed the process while compiling attention (2026.4).
    "SNIPPETS_MODE": "DISABLE",
}
"""In which alone its results can be compared with those of the others."""

BATCHES = (1, 16)
_COMPILE_SECONDS = 900.0

Feed = dict[str, NDArray[Any]]


def makers(model: str, work: str, threads: int) -> list[Contender]:
    """Return what writes the files of a model; each can be left out or fail without the others."""
    options = {"model": model, "work": work, "threads": threads}
    graphs = [
        Contender(name=PLAIN, role="part", make="speed.networks:make_plain", options=options),
        Contender(name=DEPLOYED, role="part", make="speed.networks:make_artefact", options=options),
        Contender(name=DYNAMIC, role="part", make="speed.networks:make_dynamic", options=options),
    ]
    reduced = {form.artefact: form for form in FORMS if form.precision != "fp32"}
    for name, form in reduced.items():
        chosen = {"precision": form.precision, "backend": form.backend, "attention": form.attention}
        graphs.append(Contender(name=name, role="part", make="speed.networks:make_artefact", options=options | chosen))
    return graphs


def contenders(model: str, work: str, threads: int) -> list[Contender]:
    """Return who takes part with one model.

    Option ``file`` names the maker of the file that each reads, ``graph`` the one that knows its multiplications.
    """
    options = {"model": model, "work": work, "threads": threads, "graph": PLAIN, "file": DEPLOYED}
    found = [
        Contender(name=EAGER, role="rival", make="speed.networks:eager", options=options),
        Contender(
            name=COMPILED,
            role="rival",
            make="speed.networks:compiled",
            options=options,
            load=_COMPILE_SECONDS,
        ),
    ]
    plain: dict[str, tuple[str, dict[str, Any]]] = {
        f"{PLAIN}, ONNX Runtime": ("plain_onnxruntime", {"file": PLAIN}),
        f"{PLAIN}, OpenVINO in float32": ("plain_openvino", {"file": PLAIN, "settings": OPENVINO_FLOAT32}),
        f"{PLAIN}, OpenVINO as it comes": ("plain_openvino", {"file": PLAIN, "settings": {}}),
        f"{DYNAMIC}, ONNX Runtime": ("plain_onnxruntime", {"file": DYNAMIC, "precision": "int8"}),
    }
    found += [
        Contender(name=name, role="rival", make=f"speed.networks:{function}", options=options | chosen)
        for name, (function, chosen) in plain.items()
    ]
    found += [
        Contender(
            name=f"{DEPLOYED}, {form.name}",
            role="ours",
            make="speed.networks:deployed",
            options=options | asdict(form) | {"graph": DEPLOYED, "file": form.artefact},
        )
        for form in FORMS
    ]
    return found


def make_plain(options: dict[str, Any]) -> Work:
    """Export the network as written, with nothing but what PyTorch's exporter does."""
    import onnx

    from iqa_calibration.graphs.finishing import count_macs
    from iqa_export.onnx_export import to_onnx

    path = _plain(options)
    if not path.exists():
        model = _model(options)
        exported = to_onnx(model.as_written(), list(model.contract.inputs), [model.contract.score.name])
        onnx.save_model(exported, path)
    return Work(call=_nothing, facts=_sizes(path, count_macs(onnx.load_model(path))))


def make_dynamic(options: dict[str, Any]) -> Work:
    """Let ONNX Runtime's own tool make weights int8, and activations as they come."""
    import onnx
    from onnxruntime.quantization import quantize_dynamic

    plain, path = _plain(options), _dynamic(options)
    if not path.exists():
        # Shapes of the exporter that the tool's own inference contradicts.
        model = onnx.load_model(plain)
        del model.graph.value_info[:]
        quantize_dynamic(model, path)
    return Work(call=_nothing, facts=_sizes(path, None))


def make_artefact(options: dict[str, Any]) -> Work:
    """Export the deploy form in float32, or calibrate it in another precision."""
    import onnx

    from iqa_calibration.graphs.finishing import count_macs

    model = _model(options)
    if "precision" not in options:
        return Work(call=_nothing, facts=_sizes(model.fp32, count_macs(onnx.load_model(model.fp32))))
    path = model.artefact(_form(options))
    if path is None:
        raise ValueError("refused by the gate")
    return Work(call=_nothing, facts=_sizes(path, None))


def eager(options: dict[str, Any]) -> Work:
    return _torch(options, lambda network: network)


def compiled(options: dict[str, Any]) -> Work:
    def compile_network(network: Any) -> Any:
        import torch

        return torch.compile(network)

    return _torch(options, compile_network)


def plain_onnxruntime(options: dict[str, Any]) -> Work:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options["threads"]
    path = _dynamic(options) if options["file"] == DYNAMIC else _plain(options)
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    feed = _feed(_contract(options), options["threads"])
    return _work(lambda: session.run(None, feed)[0])


def plain_openvino(options: dict[str, Any]) -> Work:
    """Compile for latency, the library's default; without settings it may choose bfloat16."""
    openvino = import_openvino()

    feed = _feed(_contract(options), options["threads"])
    core = openvino.Core()
    model = core.read_model(_plain(options))
    model.reshape({name: list(values.shape) for name, values in feed.items()})
    settings = {"INFERENCE_NUM_THREADS": options["threads"]} | options["settings"]
    compiled = core.compile_model(model, "CPU", settings)
    precision = "bf16" if "bf" in str(compiled.get_property("INFERENCE_PRECISION_HINT")) else "fp32"
    request = compiled.create_infer_request()

    def run() -> NDArray[Any]:
        request.infer(feed, share_inputs=True, share_outputs=True)
        values: NDArray[Any] = request.get_output_tensor(0).data
        return values

    return replace(_work(run), facts={"precision": precision})


def deployed(options: dict[str, Any]) -> Work:
    """Run our artefact on our backend, as `Scorer` does."""
    artefact, threads = open_artefact(_artefact(options)), options["threads"]
    contract = artefact.contract
    choice = choose_backend(artefact, options["backend"], device="cpu", precision=options["floats"])
    backend = choice.create(artefact.graph, GraphSpec.of_artefact(contract), threads=threads)
    backend.activate()
    name = contract.score.name
    feed = _feed(contract, options.get("items", threads))
    return _work(lambda: backend.infer(feed, [name])[name])


def batches(model: str, work: str, threads: int) -> list[Contender]:
    """Return the deploy form on its own, by the number of items it is given at a time."""
    form = next(form for form in FORMS if form.precision == "fp32")
    options = {"model": model, "work": work, "threads": threads} | asdict(form)
    return [
        Contender(
            name=f"{items} at a time", role="ours", make="speed.networks:deployed", options=options | {"items": items}
        )
        for items in BATCHES
    ]


def machine(options: dict[str, Any]) -> Work:
    """Measure what `iqa-bench` measures of the machine."""
    measured = measure_machine(options["threads"])
    return Work(call=_nothing, facts={"bandwidth_gbytes": measured.bandwidth, "float32_gflops": measured.peak})


def _model(options: dict[str, Any]) -> Any:
    from precision import Model

    from iqa_calibration.images.sets import read_images

    work = Path(options["work"])
    work.mkdir(parents=True, exist_ok=True)
    return Model(options["model"], work, read_images(PHOTOGRAPHS), options["threads"])


def _torch(options: dict[str, Any], prepared: Callable[[Any], Any]) -> Work:
    import torch

    torch.set_num_threads(options["threads"])
    model = _model(options)
    network = prepared(model.as_written())
    tensors = [torch.from_numpy(values) for values in _feed(model.contract, options["threads"]).values()]

    def run() -> NDArray[Any]:
        with torch.inference_mode():
            values: NDArray[Any] = network(*tensors)[0].numpy()
        return values

    return _work(run)


def _feed(contract: Contract, items: int) -> Feed:
    random = np.random.default_rng(0)
    return {
        tensor.name: random.standard_normal((items, *(int(size) for size in tensor.shape[1:])), dtype=np.float32)
        for tensor in contract.inputs
    }


def _work(run: Callable[[], NDArray[Any]]) -> Work:
    return Work(call=run, check=run().reshape(-1).astype(np.float64).tolist())


def _nothing() -> None:
    return None


def _sizes(path: Path, macs: int | None) -> dict[str, Any]:
    return {"megabytes": path.stat().st_size / 1e6} | ({} if macs is None else {"gmac": macs / 1e9})


def _plain(options: dict[str, Any]) -> Path:
    return Path(options["work"]) / f"{options['model']}.plain.onnx"


def _dynamic(options: dict[str, Any]) -> Path:
    return Path(options["work"]) / f"{options['model']}.dynamic.onnx"


def _artefact(options: dict[str, Any]) -> Path:
    suffix = ".onnx"
    if options["precision"] != "fp32":
        suffix = f"{'.attention' if options['attention'] else ''}{_form(options).suffix}"
    return Path(options["work"]) / f"{options['model']}{suffix}"


def _form(options: dict[str, Any]) -> Any:
    from iqa_calibration.jobs.forms import Form

    attention = options["attention"] if options["precision"] == "int8" else None
    return Form.choose(options["precision"], target=options["backend"], attention=attention)


def _contract(options: dict[str, Any]) -> Contract:
    return read_contract(Path(options["work"]) / f"{options['model']}.onnx")
