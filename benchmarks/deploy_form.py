"""What the deploy form buys: each network per item on ONNX Runtime, beside its plain export and PyTorch eager.

    python benchmarks/deploy_form.py [--rounds 7] [--threads 2] [--json FILE] [--quick]

The same random weights in every row, all rows interleaved in every round, medians; ratios are within this one run, and
so are shares of the peak, which is a product of float32 matrices on ONNX Runtime. --quick takes the edge variant alone:
a look at whether it works.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import torch
from speed import products
from torch.utils.flop_counter import FlopCounterMode

from iqa_calibration.graphs.finishing import count_macs
from iqa_export.checkpoints import load_into, random_checkpoint
from iqa_export.onnx_export import to_onnx
from iqa_export.systems import GraphChoice, System, find_system
from iqa_runtime.benchmark.host import describe_host
from iqa_runtime.contract import TensorInput

CASES = (
    ("yoto", GraphChoice(variant="swin_t", task="nr"), False),
    ("yoto", GraphChoice(variant="swin_t", task="fr", segment="joint"), False),
    ("yoto", GraphChoice(variant="swin_t", task="fr", segment="joint"), True),
    ("cvrkd", GraphChoice(variant="student", task="nar"), True),
)
QUICK = (("yoto", GraphChoice(variant="edge", task="nr"), False),)
EAGER, PLAIN = "PyTorch eager, as written", "plain export, ONNX Runtime"
PRODUCT = "matrix product, ONNX Runtime"


class Rows:
    """Named calls to be timed, and the work of each."""

    def __init__(self) -> None:
        self.calls: dict[str, Callable[[], object]] = {}
        self.gmac: dict[str, float] = {}

    def add(self, name: str, call: Callable[[], object], gmac: float) -> None:
        self.calls[name], self.gmac[name] = call, gmac

    def measure(self, rounds: int) -> dict[str, float]:
        for call in self.calls.values():
            call()
        seconds: dict[str, list[float]] = {name: [] for name in self.calls}
        for _ in range(rounds):
            for name, call in self.calls.items():
                started = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - started)
        return {name: statistics.median(times) for name, times in seconds.items()}


def session(model: onnx.ModelProto, folder: Path, threads: int) -> onnxruntime.InferenceSession:
    path = folder / "model.onnx"
    onnx.save_model(model, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def add_onnx(rows: Rows, name: str, module: torch.nn.Module, inputs: list[TensorInput], threads: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = to_onnx(module, inputs, ["score"])
        ready = session(model, Path(folder), threads)
        feeds = {tensor.name: example(tensor, seed).numpy() for seed, tensor in enumerate(inputs)}
        rows.add(name, lambda: ready.run(None, feeds), count_macs(model) / 1e9)


def example(tensor: TensorInput, seed: int) -> torch.Tensor:
    shape = (1, *(int(size) for size in tensor.shape[1:]))
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))


def measure_case(
    system: System, choice: GraphChoice, cached: bool, threads: int, rounds: int
) -> list[dict[str, object]]:
    network = system.build(choice.variant).requires_grad_(False)
    keys = system.key_map(choice.variant)
    load_into(network, random_checkpoint(network, 0, keys), keys)
    inputs = [system.crop_input("image", variant=choice.variant)]
    if choice.task != "nr":
        inputs.append(system.crop_input("reference", variant=choice.variant))
    rows = Rows()
    written = system.as_written(network, choice).eval()
    examples = [example(tensor, seed) for seed, tensor in enumerate(inputs)]

    def eager() -> object:
        with torch.inference_mode():
            return written(*examples)

    add_onnx(rows, PLAIN, written, inputs, threads)
    # Not the plain export's: folding already merges what is computed twice where the reference is the image itself.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        written(*examples)
    rows.add(EAGER, eager, counter.get_total_flops() / 2e9)
    if cached:
        _, scorer = system.reference_split(network, choice)
        deployed_inputs = [inputs[0], system.feature_input(choice.variant)]
        add_onnx(rows, "deploy form, reference cached, ONNX Runtime", scorer, deployed_inputs, threads)
    else:
        add_onnx(rows, "deploy form, ONNX Runtime", system.deployed(network, choice), inputs, threads)
    product = products.gemm_onnxruntime({"threads": threads, "dtype": "float32"})
    rows.add(PRODUCT, product.call, product.facts["gflop"] / 2)
    seconds = rows.measure(rounds)
    peak = rows.gmac[PRODUCT] / seconds[PRODUCT]
    return [
        {
            "system": system.name,
            "variant": choice.variant,
            "task": choice.task,
            "row": name,
            "gmac": round(rows.gmac[name], 1),
            "seconds": round(median, 4),
            "times_pytorch": round(seconds[EAGER] / median, 2),
            "times_plain_export": round(seconds[PLAIN] / median, 2),
            "of_peak": round(rows.gmac[name] / median / peak, 2),
        }
        for name, median in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    host = msgspec.to_builtins(describe_host())  # before any library starts threads: this asks git
    host["versions"]["torch"] = torch.__version__
    torch.set_num_threads(arguments.threads)
    result: dict[str, object] = {"host": host, "threads": arguments.threads, "rounds": arguments.rounds}
    print("| system | task | form | GMAC | seconds | x PyTorch | x plain export | of peak |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |")
    rows = []
    for name, choice, cached in QUICK if arguments.quick else CASES:
        for row in measure_case(find_system(name), choice, cached, arguments.threads, arguments.rounds):
            rows.append(row)
            numbers = [row[key] for key in ("gmac", "seconds", "times_pytorch", "times_plain_export", "of_peak")]
            print(
                "|",
                " | ".join(str(cell) for cell in (row["system"], row["task"], row["row"], *numbers)),
                "|",
                flush=True,
            )
    result["rows"] = rows
    print(json.dumps({key: value for key, value in result.items() if key != "rows"}))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
