"""A tiny float32 artefact that sees degradations, and photographs to calibrate it with."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from iqa_calibration.graphs.finishing import embed_contract, save
from iqa_calibration.int8.observers import OBSERVERS, Observation, Range
from iqa_runtime.contract import Contract
from tiny_contract import tiny_contract

SIDE = 24


def artefact_contract(*, trained: bool = True) -> Contract:
    return tiny_contract(SIDE, model="activity", variant="tiny", trained=trained)


def activity_graph() -> ModelProto:
    """Score how much neighbouring pixels differ: differences, their mean, a hidden layer, a weighted sum."""
    edges = np.zeros((8, 3, 3, 3), np.float32)
    for channel in range(8):
        edges[channel, channel % 3, 1, 1] = 1
        edges[channel, channel % 3, channel % 3, (channel // 3) % 3] -= 1
    random = np.random.default_rng(0)
    constants = {
        "edges.weight": edges,
        "hidden.weight": random.uniform(0, 0.5, (8, 128)).astype(np.float32),
        "last.weight": random.uniform(0, 0.05, (128, 1)).astype(np.float32),
        "axis": np.array([1]),
    }
    nodes = [
        helper.make_node("Conv", ["image", "edges.weight"], ["differences"], name="edges"),
        helper.make_node("Abs", ["differences"], ["magnitudes"], name="magnitudes"),
        helper.make_node("GlobalAveragePool", ["magnitudes"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["features"], name="flatten"),
        helper.make_node("MatMul", ["features", "hidden.weight"], ["hidden"], name="hidden"),
        helper.make_node("Relu", ["hidden"], ["active"], name="relu"),
        helper.make_node("MatMul", ["active", "last.weight"], ["column"], name="last"),
        helper.make_node("Squeeze", ["column", "axis"], ["score"], name="squeeze"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("batch", 3, SIDE, SIDE))],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ("batch",))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def attending_graph() -> ModelProto:
    """Score the same by products of the differences with one another, each a sum over all places."""
    model = activity_graph()
    graph = model.graph
    places = (SIDE - 2) ** 2
    constants = {
        "shape": np.array([0, 8, places]),
        "share": np.array(1 / places, np.float32),
        "hidden.weight": np.random.default_rng(0).uniform(0, 0.1, (64, 128)).astype(np.float32),
    }
    for tensor in list(graph.initializer):
        constants.setdefault(tensor.name, numpy_helper.to_array(tensor))
    head, tail = graph.node[:2], graph.node[3:]
    middle = [
        helper.make_node("Reshape", ["magnitudes", "shape"], ["maps"], name="reshape"),
        helper.make_node("Transpose", ["maps"], ["turned"], name="turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["maps", "turned"], ["sums"], name="pair"),
        helper.make_node("Mul", ["sums", "share"], ["pooled"], name="pool"),
    ]
    attending = helper.make_graph(
        [*head, *middle, *tail],
        "graph",
        graph.input,
        graph.output,
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(attending, opset_imports=model.opset_import, ir_version=10)


def write_artefact(path: Path, contract: Contract, model: ModelProto | None = None) -> Path:
    model = model or activity_graph()
    embed_contract(model, contract)
    save(model, path)
    return path


@pytest.fixture
def broken_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the observer of the default method cover a thousandth of what it saw."""

    def narrow(observation: Observation, *, symmetric: bool = True) -> Range:  # noqa: ARG001 - as observers are called
        return Range(observation.low / 1000, observation.high / 1000)

    monkeypatch.setitem(OBSERVERS, "mse", narrow)


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    return write_artefact(tmp_path / "tiny.onnx", artefact_contract())


@pytest.fixture
def attending_artefact(tmp_path: Path) -> Path:
    return write_artefact(tmp_path / "attending.onnx", artefact_contract(), attending_graph())


@pytest.fixture
def untrained_artefact(tmp_path: Path) -> Path:
    return write_artefact(tmp_path / "untrained.onnx", artefact_contract(trained=False))


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of six textures that differ in how busy they are."""
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for index in range(6):
        walk = np.cumsum(random.normal(0, 3 + 2 * index, (40, 50, 3)), axis=1) + 128
        cv2.imwrite(str(folder / f"texture{index}.png"), np.clip(walk, 0, 255).astype(np.uint8))
    return folder
