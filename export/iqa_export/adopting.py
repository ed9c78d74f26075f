"""Put a contract around a graph that another exporter wrote.

What the graph computes stays; its inputs and outputs get our names and shapes, the head of the contract file is added,
and what is not asked for is left out. The graph as it came, run on ONNX Runtime item by item, is the oracle of parity,
or the network in PyTorch where one is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import onnx
import torch
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper, version_converter
from torch import Tensor, nn

from iqa_calibration.graphs.runner import Runner
from iqa_calibration.graphs.structure import opset_of
from iqa_export.checkpoints import Checkpoint
from iqa_export.onnx_export import MOST_BYTES, simplify
from iqa_export.systems.contract_file import ContractFile, ExtraTable, HeadTable, MapTable, Output, ScoreTable
from iqa_runtime.backends import GraphSpec
from iqa_runtime.contract import METADATA_KEY, FileDigest, TensorInput
from iqa_runtime.errors import ArtefactError, FileError, UsageError, first_line

Table = TypeVar("Table", ScoreTable, MapTable, ExtraTable)

_PREFIX = "adopted/"
"""Of every tensor in the graph, so that none is one of ours."""
_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul")
_HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_RANK_WITH_CHANNEL = 4
_ENOUGH_OPSET = 13
"""The first in which weights of 8 bits have a scale for each channel, and `ReduceSum` takes axes as an input."""
_SEED, _ITEMS = 0, 3
_ROUNDING = 1e-4
"""Share of the largest value by which an item may differ in a batch: what parity allows."""
_DYNAMIC_BATCH = (
    "export it with a batch axis of any size: torch.onnx.export(..., dynamic_axes={NAME: {0: 'batch'}}), or "
    "dynamic_shapes with dynamo=True"
)


class ForeignGraph:
    """An ONNX file as it came, and which of its inputs are the pictures.

    Parameters
    ----------
    path
        The file; weights in files beside it are read, too.
    description
        Names its inputs, where their order does not tell.

    Raises
    ------
    FileError, ArtefactError
        If it cannot be read, or is no float32 graph on pictures.
    UsageError
        If the contract file names an input that it has not.
    """

    def __init__(self, path: Path, description: ContractFile) -> None:
        self.path = path
        self.said = f"``adopt={path}``"
        self.model = _read(path)
        _check_precision(path, self.model)
        graph = self.model.graph
        weights = {tensor.name for tensor in graph.initializer}
        inputs = [entry for entry in graph.input if entry.name not in weights]
        # Graphs before IR version 4 list their weights as inputs, too.
        del graph.input[:]
        graph.input.extend(inputs)
        self.inputs = _chosen(path, inputs, description)
        self.description = _with_names(path, description, [output.name for output in graph.output])

    def checkpoint(self) -> Checkpoint:
        """Return what stands for the weights: the file itself, of which no entry is loaded."""
        digest = FileDigest.of_file(self.path)
        return Checkpoint({}, digest.file, digest.sha256)

    def build(self) -> nn.Module:
        """Return it as a network in PyTorch that runs on ONNX Runtime, one item after the other."""
        return _OnnxNetwork(self)

    def adopted(self, tensors: Sequence[TensorInput], spec: GraphSpec, *, opset: int) -> ModelProto:
        """Return the graph with the inputs and outputs of a contract.

        Parameters
        ----------
        tensors, spec
            Inputs and outputs of the contract.
        opset
            A graph of an earlier operator set is converted to this one.

        Raises
        ------
        ArtefactError
            If its inputs have other shapes, it cannot be converted, or it does not take batches of any size.
        """
        model = ModelProto()
        model.CopyFrom(self.model)
        for entry, tensor in zip(self.inputs, tensors, strict=True):
            _check_input(self.path, entry, tensor)
        del model.graph.value_info[:]
        _set_shapes(model, self.inputs, tensors)
        model = _at_opset(self.path, model, opset)
        _rename(model.graph)
        self._name_inputs(model, tensors)
        self._name_outputs(model, spec)
        simplify(model)
        self._check_batches(model, tensors)
        return model

    def _name_inputs(self, model: ModelProto, tensors: Sequence[TensorInput]) -> None:
        graph = model.graph
        del graph.input[:]
        for entry, tensor in reversed(list(zip(self.inputs, tensors, strict=True))):
            graph.node.insert(0, helper.make_node("Identity", [tensor.name], [_PREFIX + entry.name]))
        graph.input.extend(_info(tensor.name, tensor.shape) for tensor in tensors)

    def _name_outputs(self, model: ModelProto, spec: GraphSpec) -> None:
        graph, description = model.graph, self.description
        del graph.output[:]
        picked = [description.score.output, *(each.output for each in description.further)]
        for output, tensor in zip(picked, spec.outputs, strict=True):
            value = f"{_PREFIX}{output}"
            if tensor.name == spec.outputs[0].name and isinstance(description.head, HeadTable):
                value = _add_mean(model, value, description.head)
            if tensor.is_fixed:
                operator, numbers = "Reshape", [-1, *tensor.item_shape]
            else:  # a map of a picture's own size, mostly with an axis of its one channel
                operator, numbers = "Squeeze", [1] if _rank(model, value) == _RANK_WITH_CHANNEL else []
            constants = [numpy_helper.from_array(np.array(numbers, np.int64), f"{tensor.name}.shape")]
            graph.initializer.extend(constants if numbers else [])
            names = [value, *(constant.name for constant in constants if numbers)]
            graph.node.append(helper.make_node(operator if numbers else "Identity", names, [tensor.name]))
            graph.output.append(_info(tensor.name, ("batch", *tensor.item_shape)))

    def _check_batches(self, model: ModelProto, tensors: Sequence[TensorInput]) -> None:
        """Hold a batch to its items, one by one: the graph was perhaps traced for one of them.

        Of pictures at their own size there is one a run.
        """
        if any(isinstance(size, str) for tensor in tensors for size in tensor.shape[1:]):
            return
        random = np.random.RandomState(_SEED)
        feeds = {
            tensor.name: random.standard_normal((_ITEMS, *map(int, tensor.shape[1:]))).astype(np.float32)
            for tensor in tensors
        }
        runner = Runner(model)
        alone = [runner.run({name: values[i : i + 1] for name, values in feeds.items()}) for i in range(_ITEMS)]
        try:
            together = runner.run(feeds)
        except ArtefactError as error:
            raise ArtefactError(f"{self.path}: takes one item at a time; {_DYNAMIC_BATCH}") from error
        for name, values in together.items():
            expected = np.concatenate([values[name] for values in alone])
            if values.shape != expected.shape or not np.allclose(
                values, expected, rtol=0, atol=_ROUNDING * float(np.abs(expected).max()), equal_nan=True
            ):
                raise ArtefactError(
                    f"{self.path}: gives other values in {name!r} for an item in a batch of {_ITEMS} than for the same "
                    f"item alone; {_DYNAMIC_BATCH}"
                )


class _OnnxNetwork(nn.Module):
    """A graph as it came, as a network; fixed to a batch of one or not, it is run one item at a time."""

    def __init__(self, graph: ForeignGraph) -> None:
        super().__init__()
        self._names = [entry.name for entry in graph.inputs]
        try:
            self._runner = Runner(graph.model)
        except ArtefactError as error:
            raise ArtefactError(f"{graph.path}: {error}; export it with operators that ONNX itself has") from error

    def forward(self, *pictures: Tensor) -> dict[str, Tensor]:
        """Return every output by its name."""
        runs = []
        for index in range(len(pictures[0])):
            feed = {name: tensor[index : index + 1].numpy() for name, tensor in zip(self._names, pictures, strict=True)}
            runs.append(self._runner.run(feed))
        return {name: torch.from_numpy(np.concatenate([run[name] for run in runs])) for name in runs[0]}


def _read(path: Path) -> ModelProto:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FileError(f"{path}: cannot read the graph ({error.strerror or error}); check the path") from error
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's own, which is no dependency that we name
        raise ArtefactError(
            f"{path}: no ONNX file, or damaged; give what torch.onnx.export or tf2onnx wrote"
        ) from error
    if not model.graph.node or not model.graph.output:
        raise ArtefactError(f"{path}: no ONNX graph, or an empty one; give what torch.onnx.export or tf2onnx wrote")
    if any(entry.key == METADATA_KEY for entry in model.metadata_props):
        raise ArtefactError(f"{path}: is an artefact already, with a contract of its own; iqa-run --info shows it")
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # files beside it may be absent, short, or named in ways that the library refuses
        raise ArtefactError(f"{path}: its weights in files beside it cannot be read ({first_line(error)})") from error
    if model.ByteSize() > MOST_BYTES:
        raise ArtefactError(f"{path}: {model.ByteSize() / 1e9:.1f} GB with its weights; an artefact holds 2 GB at most")
    return model


def _check_precision(path: Path, model: ModelProto) -> None:
    """Refuse what is not float32: it is judged against the float32 graph when it is made of it."""
    quantised = next((node.op_type for node in model.graph.node if node.op_type in _QUANTISED), None)
    if quantised is not None:
        raise ArtefactError(
            f"{path}: is quantised ({quantised}); adopt the float32 graph, and let --int8 quantise and judge it"
        )
    if any(tensor.data_type in _HALVES for tensor in model.graph.initializer):
        raise ArtefactError(
            f"{path}: has weights in half precision; adopt the float32 graph, and let --fp16 convert and judge it"
        )


def _chosen(path: Path, inputs: list[ValueInfoProto], description: ContractFile) -> list[ValueInfoProto]:
    """Return the inputs of the image and, where the task has one, the reference."""
    wanted = ["image"] if description.task == "nr" else ["image", "reference"]
    by_name = {entry.name: entry for entry in inputs}
    there = ", ".join(by_name) or "none"
    if len(inputs) != len(wanted):
        raise ArtefactError(
            f"{path}: has {len(inputs)} inputs ({there}), and the task {description.task} has {len(wanted)}; correct "
            "task in the contract file, or export a graph that takes pictures alone"
        )
    named = {"image": description.onnx.image, "reference": description.onnx.reference}
    for role, name in named.items():
        if name is not None and name not in by_name:
            raise UsageError(f"onnx.{role} = {name!r} in the contract file: the inputs of {path} are {there}")
    chosen = [by_name.get(named[role] or role) for role in wanted]
    rest = [entry for entry in inputs if all(entry is not each for each in chosen)]
    found = [rest.pop(0) if entry is None else entry for entry in chosen]
    if len({entry.name for entry in found}) < len(found):
        raise UsageError(f"onnx.image and onnx.reference are both {found[0].name!r}; {path} has {there}")
    return found


def _with_names(path: Path, description: ContractFile, names: list[str]) -> ContractFile:
    """Return a description whose outputs are the names of the graph's."""

    def named(place: str, name: str, output: Output) -> str:
        wanted = description.onnx.outputs.get(name, output)
        if isinstance(wanted, int) and wanted < len(names):
            return names[wanted]
        if wanted in names:
            return str(wanted)
        where = f"onnx.outputs.{name}" if name in description.onnx.outputs else f"{place}.output"
        raise UsageError(
            f"{where} = {wanted!r} in the contract file: the outputs of {path} are {', '.join(names)}; write "
            "the name of one, or its place from 0"
        )

    return msgspec.structs.replace(
        description,
        score=_at(description.score, named("score", "score", description.score.output)),
        maps=tuple(_at(each, named(f"maps[{i}]", each.name, each.output)) for i, each in enumerate(description.maps)),
        extras=tuple(
            _at(each, named(f"extras[{i}]", each.name, each.output)) for i, each in enumerate(description.extras)
        ),
    )


def _at(table: Table, output: str) -> Table:
    return msgspec.structs.replace(table, output=output)


def _check_input(path: Path, entry: ValueInfoProto, tensor: TensorInput) -> None:
    """Hold an input to what the contract says of it; sizes that are not fixed become the contract's."""
    kind = entry.type.tensor_type
    if kind.elem_type != TensorProto.FLOAT:
        name = TensorProto.DataType.Name(kind.elem_type).lower()
        raise ArtefactError(
            f"{path}: its input {entry.name!r} is {name}; export it with float32 inputs, normalised outside of it"
        )
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
    expected = list(tensor.shape)
    shown = [str(size or "any") for size in sizes]
    if len(sizes) == len(expected) == 4 and sizes[3] == expected[1] and sizes[1] not in (None, expected[1]):
        raise ArtefactError(
            f"{path}: its input {entry.name!r} is {' x '.join(shown)}, channels last; export it with channels first "
            f"(tf2onnx: --inputs-as-nchw {entry.name})"
        )
    if len(sizes) != len(expected) or any(
        size is not None and size != wanted for size, wanted in zip(sizes[1:], expected[1:], strict=True)
    ):
        raise ArtefactError(
            f"{path}: its input {entry.name!r} is {' x '.join(shown)}, the contract file says "
            f"{' x '.join(map(str, expected))}; correct the one that is wrong"
        )


def _set_shapes(model: ModelProto, inputs: Sequence[ValueInfoProto], tensors: Sequence[TensorInput]) -> None:
    """Give inputs the shapes of the contract; what outputs said of theirs may hold for a batch of one alone."""
    shapes = {entry.name: tensor.shape for entry, tensor in zip(inputs, tensors, strict=True)}
    for entry in model.graph.input:
        entry.CopyFrom(_info(entry.name, shapes[entry.name]))
    for entry in model.graph.output:
        entry.type.tensor_type.ClearField("shape")


def _at_opset(path: Path, model: ModelProto, opset: int) -> ModelProto:
    written = opset_of(model)
    if written >= opset:
        return model
    try:
        return version_converter.convert_version(model, opset)
    except Exception as error:  # the library's exceptions have no common base
        if written >= _ENOUGH_OPSET:
            return model
        raise ArtefactError(
            f"{path}: operator set {written} cannot be converted to {opset} ({first_line(error)}); export it with "
            f"opset {opset}"
        ) from error


def _rename(graph: GraphProto) -> None:
    """Put the prefix before the name of every tensor, in graphs inside nodes too, which see those outside."""
    sparse = [part for tensor in graph.sparse_initializer for part in (tensor.values, tensor.indices)]
    for entry in (*graph.input, *graph.output, *graph.value_info, *graph.initializer, *sparse):
        entry.name = _PREFIX + entry.name
    for node in graph.node:
        # A name that is empty stands for an input that was left out.
        node.input[:] = [name and _PREFIX + name for name in node.input]
        node.output[:] = [name and _PREFIX + name for name in node.output]
        for entry in node.attribute:
            for inner in (*entry.graphs, *([entry.g] if entry.HasField("g") else [])):
                _rename(inner)


def _add_mean(model: ModelProto, value: str, head: HeadTable) -> str:
    """Add the mean of a distribution to a graph; return its name."""
    graph = model.graph
    if head.values == "logits":
        graph.node.append(helper.make_node("Softmax", [value], ["head.probabilities"], axis=1))
        value = "head.probabilities"
    graph.initializer.append(numpy_helper.from_array(np.array(head.distribution, np.float32), "head.grades"))
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "head.axes"))
    graph.node.append(helper.make_node("Mul", [value, "head.grades"], ["head.weighted"]))
    graph.node.append(helper.make_node("ReduceSum", ["head.weighted", "head.axes"], ["head.mean"], keepdims=0))
    return "head.mean"


def _rank(model: ModelProto, name: str) -> int | None:
    graph = onnx.shape_inference.infer_shapes(model).graph
    known = {entry.name: entry.type.tensor_type.shape for entry in graph.value_info}
    return len(known[name].dim) if name in known else None


def _info(name: str, shape: Sequence[Any]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
