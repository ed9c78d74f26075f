"""Ways to run full YOTO that are not ours: what was tried beside what is used, so that it can be tried elsewhere."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from iqa_calibration.graphs.structure import Structure
from speed.networks import OPENVINO_FLOAT32
from speed.packages import import_openvino
from speed.turns import Contender, Work

AS_USED = "as used: one item a thread"
LARGE_MAP = 2**22
"""Elements of an attention map from which on it is cut into blocks: 16 MiB of float32, half the last-level cache of the
host this was written on."""

_SIDE = 224
_ITEMS = 2
_HINTS = {"float32": "f32", "bfloat16": "bf16"}


def contenders(artefact: Path, blocked: dict[int, Path], library: str, precision: str) -> list[Contender]:
    """Return who takes part: one library in one precision, two items a call, two threads.

    Parameters
    ----------
    artefact
        The float32 deploy form, a network of one image.
    blocked
        The same with its largest attention map in so many blocks.
    library
        ``onnxruntime`` or ``openvino``.
    precision
        ``float32`` or, for OpenVINO, ``bfloat16``.
    """
    ideas: dict[str, dict[str, Any]] = {AS_USED: {}}
    ideas |= {f"attention in {count} blocks of queries": {"path": str(path)} for count, path in blocked.items()}
    ideas |= {
        "both items in one run, on two threads": {"batch": _ITEMS, "runs": 1},
        "one item after the other, on two threads": {"runs": 1},
        "threads pinned to cores": {"pinned": True},
    }
    usual = {"path": str(artefact), "precision": precision, "batch": 1, "runs": _ITEMS, "pinned": False}
    return [
        Contender(name=name, role="ours", make=f"speed.ideas:{library}", options=usual | idea)
        for name, idea in ideas.items()
    ]


def in_blocks(model: ModelProto, count: int) -> ModelProto:
    """Return a graph that computes every attention of `LARGE_MAP` elements and more in blocks of its queries.

    Between the product of queries and keys and the softmax there may be operators that work element by element, and
    behind the softmax must come the product with the values.

    Raises
    ------
    ValueError
        If there is no such attention, or its queries cannot be split evenly.
    """
    changed = ModelProto()
    changed.CopyFrom(model)
    structure = Structure(changed)
    shapes = structure.item_shapes
    replaced: dict[str, list[NodeProto]] = {}
    dropped: set[str] = set()
    for name, node in structure.nodes.items():
        shape = shapes.get(node.output[0], ())
        if node.op_type != "Softmax" or int(np.prod(shape)) < LARGE_MAP:
            continue
        if shape[-2] % count:
            raise ValueError(f"{name}: {shape[-2]} queries cannot be split into {count} blocks")
        (product,) = structure.readers[node.output[0]]
        chain = [name]
        while structure.nodes[chain[-1]].op_type != "MatMul":
            (whole,) = [tensor for tensor in structure.nodes[chain[-1]].input if shapes.get(tensor) == shape]
            chain.append(structure.producers[whole])
        chain = [*reversed(chain), product]
        dropped |= set(chain)
        replaced[product] = _blocks([structure.nodes[link] for link in chain], shapes, count)
    if not replaced:
        raise ValueError(f"no attention map has {LARGE_MAP} elements; lower the limit")
    nodes: list[NodeProto] = []
    for name, node in structure.nodes.items():
        nodes += replaced.get(name, [] if name in dropped else [node])
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    return changed


def _blocks(chain: list[NodeProto], shapes: dict[str, tuple[int, ...]], count: int) -> list[NodeProto]:
    """Return what computes a product of queries and keys, what follows it, and the product with the values."""
    queries, out = chain[0].input[0], chain[-1].output[0]
    axis = len(shapes[out]) - 2
    sizes = f"{out}/sizes"
    parts = [f"{queries}/{index}" for index in range(count)]
    constant = numpy_helper.from_array(np.full(count, shapes[out][axis] // count, np.int64), sizes)
    nodes = [
        helper.make_node("Constant", [], [sizes], value=constant),
        helper.make_node("Split", [queries, sizes], parts, axis=axis),
    ]
    results = []
    for index, part in enumerate(parts):
        names = {queries: part}
        for link in chain:
            node = NodeProto()
            node.CopyFrom(link)
            names[link.output[0]] = f"{link.output[0]}/{index}"
            node.name = f"{link.name or link.output[0]}/{index}"
            inputs = [names.get(tensor, tensor) for tensor in link.input]
            del node.input[:], node.output[:]
            node.input.extend(inputs)
            node.output.append(names[link.output[0]])
            nodes.append(node)
        results.append(names[out])
    return [*nodes, helper.make_node("Concat", results, [out], axis=axis)]


def write_blocked(artefact: Path, counts: tuple[int, ...], folder: Path) -> dict[int, Path]:
    """Write graphs of an artefact's with attention in blocks."""
    model = onnx.load_model(artefact)
    paths = {count: folder / f"{artefact.stem}.{count}-blocks.onnx" for count in counts}
    for count, path in paths.items():
        onnx.save_model(in_blocks(model, count), path)
    return paths


def onnxruntime(options: dict[str, Any]) -> Work:
    import onnxruntime as library

    settings = library.SessionOptions()
    settings.intra_op_num_threads = _ITEMS // options["runs"]
    session = library.InferenceSession(options["path"], settings, providers=["CPUExecutionProvider"])
    return _work(options, lambda: lambda items: session.run(None, {"image": items})[0])


def openvino(options: dict[str, Any]) -> Work:
    library = import_openvino()
    core = library.Core()
    model = core.read_model(options["path"])
    model.reshape({"image": [options["batch"], 3, _SIDE, _SIDE]})
    settings = {
        **OPENVINO_FLOAT32,
        "INFERENCE_PRECISION_HINT": _HINTS[options["precision"]],
        "INFERENCE_NUM_THREADS": _ITEMS,
        "NUM_STREAMS": options["runs"],
        "ENABLE_CPU_PINNING": options["pinned"],
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    }
    compiled = core.compile_model(model, "CPU", settings)

    def make() -> Callable[[NDArray[np.float32]], NDArray[Any]]:
        request = compiled.create_infer_request()

        def run(items: NDArray[np.float32]) -> NDArray[Any]:
            request.infer({"image": items}, share_inputs=True, share_outputs=True)
            return np.array(request.get_output_tensor(0).data)

        return run

    return _work(options, make)


def _work(options: dict[str, Any], make: Callable[[], Callable[[NDArray[np.float32]], NDArray[Any]]]) -> Work:
    """Return two items' work: so many runs at once, each of a batch."""
    runs, batch = options["runs"], options["batch"]
    items = np.random.default_rng(0).standard_normal((_ITEMS, 3, _SIDE, _SIDE), dtype=np.float32)
    local = threading.local()
    cores = itertools.cycle(sorted(os.sched_getaffinity(0)))

    def begin() -> None:
        local.run = make()
        if options["pinned"]:
            os.sched_setaffinity(threading.get_native_id(), {next(cores)})

    pool = ThreadPoolExecutor(runs, initializer=begin)
    parts = [items[first : first + batch] for first in range(0, _ITEMS, batch)]

    def call() -> NDArray[Any]:
        return np.concatenate(list(pool.map(lambda part: local.run(part), parts)))

    return Work(call=call, check=call().reshape(-1).astype(np.float64).tolist())
