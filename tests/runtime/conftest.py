"""Tiny artefacts with scores that can be worked out by hand, and images to score."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from iqa_calibration.graphs.finishing import embed_contract
from iqa_runtime.contract import (
    OWN_SIZE,
    BakedReference,
    Contract,
    ExtraOutput,
    FileDigest,
    MapOutput,
    PatchPlan,
    Resize,
    ScoreOutput,
    TensorInput,
    Weights,
)

SIDE = 32
CELLS = 4
_ELEMENT_TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}


class ArtefactFactory:
    """Writes artefacts; pixels reach their graphs as ``x / 255`` unless a test says otherwise.

    Every method returns the path of a new file. `changes` are fields of the contract to replace.
    """

    side = SIDE
    cells = CELLS

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def mean(self, name: str = "mean", *, dtype: str = "float32", resize: Resize | None = None, **changes: Any) -> Path:
        """NR: the mean of the crop, 0 to 1."""
        nodes = [helper.make_node("ReduceMean", ["image", "axes"], ["score"], keepdims=0)]
        return self.write(
            name,
            nodes,
            [_axes(1, 2, 3)],
            self.contract(inputs=(_crops("image", dtype=dtype, resize=resize),), **changes),
        )

    def first_channel(self, name: str = "first_channel", **changes: Any) -> Path:
        """NR: the mean of the network's first channel."""
        nodes = [
            helper.make_node("Gather", ["image", "zero"], ["channel"], axis=1),
            helper.make_node("ReduceMean", ["channel", "axes"], ["score"], keepdims=0),
        ]
        constants = [_axes(1, 2), numpy_helper.from_array(np.array(0, dtype=np.int64), "zero")]
        return self.write(name, nodes, constants, self.contract(**changes))

    def difference(self, name: str = "difference", *, task: str = "fr", per_item: int = 0, **changes: Any) -> Path:
        """FR or NAR, two inputs: the mean absolute difference of the crops, lower is better."""
        nodes = [
            helper.make_node("Sub", ["image", "reference"], ["difference"]),
            helper.make_node("Abs", ["difference"], ["absolute"]),
            helper.make_node("ReduceMean", ["absolute", "axes"], ["score"], keepdims=0),
        ]
        inputs = (_crops("image", per_item=per_item), _crops("reference", per_item=per_item))
        contract = self.contract(task=task, inputs=inputs, score=_score(higher_is_better=False), **changes)
        return self.write(name, nodes, [_axes(*range(1, 5 if per_item else 4))], contract)

    def packed(self, name: str = "packed", *, per_item: int = 4, **changes: Any) -> Path:
        """NR, P crops an item: the square of the mean of all P, so that the grouping shows."""
        nodes = [
            helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["mean", "mean"], ["score"]),
        ]
        settings: dict[str, Any] = {
            "inputs": (_crops("image", per_item=per_item),),
            "patch_plan": PatchPlan(kind="random", size=SIDE, count=per_item, seed=0),
        }
        return self.write(name, nodes, [_axes(1, 2, 3, 4)], self.contract(**{**settings, **changes}))

    def cached(self, name: str = "cached", *, task: str = "nar", per_item: int = 0, **changes: Any) -> Path:
        """FR or NAR with an encoder beside it: mean |crop - features|, features = the crop's mean over the channels."""
        channels, last = (2, 5) if per_item else (1, 4)
        stack = (per_item,) if per_item else ()
        encoder = helper.make_graph(
            [helper.make_node("ReduceMean", ["reference", "axes"], ["reference_features"], keepdims=1)],
            "encoder",
            [_value("reference", ("batch", *stack, 3, SIDE, SIDE))],
            [_value("reference_features", ("batch", *stack, 1, SIDE, SIDE))],
            [_axes(channels)],
        )
        encoder_file = self.folder / f"{name}.reference.onnx"
        _save(encoder, encoder_file)
        features = TensorInput(
            name="reference_features", shape=("batch", *stack, 1, SIDE, SIDE), layout="features", color=None
        )
        settings: dict[str, Any] = {
            "task": task,
            "inputs": (_crops("image", per_item=per_item), features),
            "score": _score(higher_is_better=False),
            "reference_encoder": FileDigest(
                file=encoder_file.name, sha256=hashlib.sha256(encoder_file.read_bytes()).hexdigest()
            ),
        }
        nodes = [
            helper.make_node("Sub", ["image", "reference_features"], ["difference"]),
            helper.make_node("Abs", ["difference"], ["absolute"]),
            helper.make_node("ReduceMean", ["absolute", "axes"], ["score"], keepdims=0),
        ]
        return self.write(name, nodes, [_axes(*range(1, last))], self.contract(**{**settings, **changes}))

    def baked(self, name: str = "baked", *, width: int = 80, height: int = 64, **changes: Any) -> Path:
        """FR, the reference inside: the mean of the five crops of an image of one size."""
        nodes = [helper.make_node("ReduceMean", ["image", "axes"], ["score"], keepdims=0)]
        settings: dict[str, Any] = {
            "task": "fr",
            "inputs": (_crops("image", per_item=5),),
            "baked_reference": BakedReference(file="clean.png", sha256="0" * 64, width=width, height=height),
        }
        return self.write(name, nodes, [_axes(1, 2, 3, 4)], self.contract(**{**settings, **changes}))

    def mapped(self, name: str = "mapped", *, weighted: bool = True, **changes: Any) -> Path:
        """NR with maps: quality = mean of a cell's first channel, weight = that of its second; score as in `mean`."""
        cell = SIDE // CELLS
        pool = {"kernel_shape": [cell, cell], "strides": [cell, cell]}
        nodes = [
            helper.make_node("ReduceMean", ["image", "axes"], ["score"], keepdims=0),
            helper.make_node("AveragePool", ["image"], ["pooled"], **pool),
            helper.make_node("Split", ["pooled"], ["red", "green", "blue"], axis=1, num_outputs=3),
            helper.make_node("Squeeze", ["red", "one"], ["quality_map"]),
            helper.make_node("Squeeze", ["green", "one"], ["weight_map"]),
        ]
        maps = (MapOutput(name="quality_map", rows=CELLS, columns=CELLS),)
        if weighted:
            maps += (MapOutput(name="weight_map", rows=CELLS, columns=CELLS),)
        constants = [_axes(1, 2, 3), numpy_helper.from_array(np.array([1], dtype=np.int64), "one")]
        return self.write(name, nodes, constants, self.contract(maps=maps, **changes))

    def restoring(self, name: str = "restoring", **changes: Any) -> Path:
        """NR: score as in `mean`; restores every crop to half its brightness plus 0.7, and so beyond white."""
        nodes = [
            helper.make_node("ReduceMean", ["image", "axes"], ["score"], keepdims=0),
            helper.make_node("Mul", ["image", "half"], ["dark"]),
            helper.make_node("Add", ["dark", "lift"], ["restored"]),
        ]
        numbers = {"half": 0.5, "lift": 0.7}
        constants = [numpy_helper.from_array(np.array(value, np.float32), key) for key, value in numbers.items()]
        extras = (ExtraOutput(name="restored", shape=(3, SIDE, SIDE)),)
        return self.write(name, nodes, [_axes(1, 2, 3), *constants], self.contract(extras=extras, **changes))

    def naming(self, name: str = "naming", *, gain: float = 1.0, **changes: Any) -> Path:
        """NR: score as in `mean`; names red, green and blue with the mean of that channel as the probability."""
        nodes = [
            helper.make_node("ReduceMean", ["image", "axes"], ["score"], keepdims=0),
            helper.make_node("ReduceMean", ["image", "places"], ["means"], keepdims=0),
            helper.make_node("Mul", ["means", "gain"], ["distortions"]),
        ]
        constants = [
            _axes(1, 2, 3),
            numpy_helper.from_array(np.array([2, 3]), "places"),
            numpy_helper.from_array(np.array(gain, np.float32), "gain"),
        ]
        extras = (ExtraOutput(name="distortions", shape=(3,), labels=("red", "green", "blue")),)
        return self.write(name, nodes, constants, self.contract(extras=extras, **changes))

    def unsound(self, name: str = "unsound", **changes: Any) -> Path:
        """NR: the square root of (mean - 1/2), which is NaN for the darker half of all crops."""
        nodes = [
            helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
            helper.make_node("Sub", ["mean", "half"], ["shifted"]),
            helper.make_node("Sqrt", ["shifted"], ["score"]),
        ]
        constants = [_axes(1, 2, 3), numpy_helper.from_array(np.array(0.5, dtype=np.float32), "half")]
        return self.write(name, nodes, constants, self.contract(**changes))

    def deep(self, name: str = "deep", **changes: Any) -> Path:
        """NR: convolution, attention, LayerNormalization, dense layers with random weights; for tests of rounding."""
        random = np.random.default_rng(0)

        def weight(name: str, *shape: int) -> onnx.TensorProto:
            values = random.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(np.prod(shape[1:]) or 1))
            return numpy_helper.from_array(values.astype(np.float32), name)

        width = 96
        constants = [
            weight("stem", width, 3, 7, 7),
            weight("conv", width, width, 3, 3),
            weight("qkv", width, 3 * width),
            weight("gain", width),
            weight("shift", width),
            weight("up", width, 4 * width),
            weight("down", 4 * width, width),
            weight("head", width, 1),
            numpy_helper.from_array(np.array([0, width, -1], dtype=np.int64), "to_tokens"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "one"),
            numpy_helper.from_array(np.array(width**-0.5, dtype=np.float32), "scale"),
        ]
        nodes = [
            helper.make_node("Conv", ["image", "stem"], ["c1"], strides=[2, 2], pads=[3, 3, 3, 3]),
            helper.make_node("Relu", ["c1"], ["r1"]),
            helper.make_node("Conv", ["r1", "conv"], ["c2"], strides=[2, 2], pads=[1, 1, 1, 1]),
            helper.make_node("Reshape", ["c2", "to_tokens"], ["flat"]),
            helper.make_node("Transpose", ["flat"], ["tokens"], perm=[0, 2, 1]),
            helper.make_node("LayerNormalization", ["tokens", "gain", "shift"], ["normal"]),
            helper.make_node("MatMul", ["normal", "qkv"], ["projected"]),
            helper.make_node("Split", ["projected"], ["q", "k", "v"], axis=2, num_outputs=3),
            helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
            helper.make_node("MatMul", ["q", "kt"], ["similar"]),
            helper.make_node("Mul", ["similar", "scale"], ["scaled"]),
            helper.make_node("Softmax", ["scaled"], ["attention"], axis=-1),
            helper.make_node("MatMul", ["attention", "v"], ["mixed"]),
            helper.make_node("Add", ["mixed", "tokens"], ["residual"]),
            helper.make_node("MatMul", ["residual", "up"], ["wide"]),
            helper.make_node("Gelu", ["wide"], ["bent"]),
            helper.make_node("MatMul", ["bent", "down"], ["narrow"]),
            # ONNX Runtime adds a mean over a middle axis up in another order for another batch size.
            helper.make_node("ReduceMean", ["narrow", "one"], ["vector"], keepdims=0),
            helper.make_node("MatMul", ["vector", "head"], ["column"]),
            helper.make_node("Squeeze", ["column", "one"], ["score"]),
        ]
        normalised = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
        return self.write(name, nodes, constants, self.contract(inputs=(_crops("image", **normalised),), **changes))

    def contract(self, **changes: Any) -> Contract:
        """Return a valid NR contract with fields replaced."""
        settings: dict[str, Any] = {
            "model": "tiny",
            "variant": "test",
            "task": "nr",
            "options": {},
            "precision": "fp32",
            "target": "any",
            "opset": 20,
            "inputs": (_crops("image"),),
            "patch_plan": PatchPlan(kind="five", size=SIDE),
            "pooling": "mean",
            "faithful": "as published",
            "score": _score(higher_is_better=True),
            "weights": Weights(file="tiny.pth", sha256="0" * 64, trained=True, licence="CC0-1.0", trained_on="nothing"),
            "exporter": "tests",
        }
        return Contract(**{**settings, **changes})

    def whole(
        self,
        name: str = "whole",
        *,
        size: tuple[int, int] | None = None,
        task: str = "nr",
        cell: int = 0,
        multiple: int | None = None,
        fit: str | None = None,
        smallest: int | None = None,
        **changes: Any,
    ) -> Path:
        """NR or FR, whole pictures at a fixed size or their own: a mean through a convolution, a map if `cell` > 0.

        The convolution has random weights, as large as a cell (or 4), and steps as long; the reference is subtracted.
        Fields of the input (such as `resize`, `mean`) may be among the changes.
        """
        step = cell or 4
        weights = np.random.default_rng(0).standard_normal((5, 3, step, step), dtype=np.float32)
        nodes = [helper.make_node("Sub", ["image", "reference"], ["pixels"])] if task == "fr" else []
        nodes += [
            helper.make_node("Conv", ["pixels" if nodes else "image", "weights"], ["maps"], strides=[step, step]),
            helper.make_node("Tanh", ["maps"], ["bent"]),
            helper.make_node("ReduceMean", ["bent", "channel"], ["quality_map"], keepdims=0),
            helper.make_node("ReduceMean", ["quality_map", "axes"], ["score"], keepdims=0),
        ]
        constants = [_axes(1, 2), numpy_helper.from_array(weights, "weights")]
        constants.append(numpy_helper.from_array(np.array([1], np.int64), "channel"))
        fields = {key: changes.pop(key) for key in ("mean", "std", "color", "resize", "dtype") if key in changes}
        names = ("image", "reference") if task == "fr" else ("image",)
        if size is not None:
            fields["resize"] = fields.get("resize") or Resize(to="exact", size=size, filter="bilinear")
        settings: dict[str, Any] = {
            "task": task,
            "inputs": tuple(_crops(key, shape=("batch", 3, *(size or OWN_SIZE)), **fields) for key in names),
            "patch_plan": PatchPlan(kind="whole", multiple=multiple, fit=fit, smallest=smallest),  # type: ignore[arg-type]
            "score": ScoreOutput(low=-1, high=1, higher_is_better=True, bounded=True, scale="none"),
        }
        if cell:
            rows, columns = (0, 0) if size is None else (size[0] // cell, size[1] // cell)
            settings["maps"] = (
                MapOutput(name="quality_map", rows=rows, columns=columns, cell=cell if size is None else 0),
            )
        return self.write(name, nodes, constants, self.contract(**{**settings, **changes}))

    def untrained(self, name: str = "untrained") -> Path:
        """As `mean`, with random weights by its contract."""
        weights = Weights(file="random:0", sha256="0" * 64, trained=False, licence="none", trained_on="nothing")
        return self.mean(name, weights=weights)

    def write(
        self,
        name: str,
        nodes: Sequence[onnx.NodeProto],
        constants: Sequence[onnx.TensorProto],
        contract: Contract,
        *,
        graph_inputs: Sequence[TensorInput] | None = None,
    ) -> Path:
        """Write a graph with its contract; `graph_inputs` makes the two differ."""
        inputs = [_value(item.name, item.shape, item.dtype) for item in graph_inputs or contract.inputs]
        dtype = contract.inputs[0].dtype
        outputs = [_value(contract.score.name, ("batch",), dtype)]
        for item in contract.maps:
            cells = ("rows", "columns") if item.cell else (item.rows, item.columns)
            outputs.append(_value(item.name, ("batch", *cells), dtype))
        outputs += [_value(item.name, ("batch", *item.shape), dtype) for item in contract.extras]
        graph = helper.make_graph(list(nodes), name, inputs, outputs, list(constants))
        path = self.folder / f"{name}.onnx"
        _save(graph, path, contract)
        return path


def _crops(name: str, *, per_item: int = 0, dtype: str = "float32", **changes: Any) -> TensorInput:
    settings: dict[str, Any] = {
        "shape": ("batch", per_item, 3, SIDE, SIDE) if per_item else ("batch", 3, SIDE, SIDE),
        "layout": "NPCHW" if per_item else "NCHW",
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
    }
    return TensorInput(name=name, dtype=dtype, **{**settings, **changes})  # type: ignore[arg-type]


def _score(*, higher_is_better: bool) -> ScoreOutput:
    return ScoreOutput(low=0.0, high=1.0, higher_is_better=higher_is_better, bounded=True, scale="brightness")


def _axes(*axes: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(axes, dtype=np.int64), "axes")


def _value(name: str, shape: Sequence[int | str], dtype: str = "float32") -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, _ELEMENT_TYPES[dtype], list(shape))


def _save(graph: onnx.GraphProto, path: Path, contract: Contract | None = None) -> None:
    # The IR version of opset 20, so that every ONNX Runtime the package admits can read it.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    if contract is not None:
        embed_contract(model, contract)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


@pytest.fixture
def artefacts(tmp_path: Path) -> ArtefactFactory:
    """Return a factory of artefacts in a folder of the test's own."""
    folder = tmp_path / "artefacts"
    folder.mkdir()
    return ArtefactFactory(folder)


@pytest.fixture
def noise() -> Callable[..., NDArray[np.uint8]]:
    """Return a function that makes an RGB image of random pixels: height, width, seed."""

    def make(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
        return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)

    return make


@pytest.fixture
def save_png() -> Callable[[Path, NDArray[np.uint8]], Path]:
    """Return a function that writes an RGB image without loss and returns its path."""

    def save(path: Path, image: NDArray[np.uint8]) -> Path:
        encoded, data = cv2.imencode(".png", image[..., ::-1])
        assert encoded
        path.write_bytes(data.tobytes())
        return path

    return save
