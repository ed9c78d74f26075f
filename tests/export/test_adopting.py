"""Graphs of other exporters: what becomes of them with a contract, and what is refused."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

import iqa_export
from iqa_export.adopting import ForeignGraph
from iqa_export.parity import ParityError
from iqa_export.systems.contract_file import read_contract_file
from iqa_export.systems.described import described_system
from iqa_runtime import Scorer, read_contract
from iqa_runtime.backends import GraphSpec
from iqa_runtime.backends.tensor_spec import TensorSpec
from iqa_runtime.errors import ArtefactError, FileError, UsageError

SIDE, GRADES = 32, 4
OPSET = 20
ROUNDING = 1e-5
"""Of a score of a few units: some roundings of float32 in another order."""
WEIGHTS = np.random.RandomState(3).standard_normal((3, GRADES)).astype(np.float32)

CONTRACT = f"""
name = "foreign"
licence = "CC0-1.0"
task = "nr"
[input]
crop = {SIDE}
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]
[patch_plan]
kind = "center"
[score]
direction = "higher"
low = 1
high = {GRADES}
bounded = true
scale = "MOS"
[head]
distribution = [1, 2, 3, 4]
"""


def graph(
    *,
    shape: tuple[object, ...] = ("n", 3, SIDE, SIDE),
    kind: int = TensorProto.FLOAT,
    opset: int = 17,
    names: tuple[str, str] = ("input.1", "out"),
    flatten: tuple[int, ...] = (-1, 3),
) -> onnx.ModelProto:
    """Means of the three channels, times `WEIGHTS`: as older exporters write it, the weights among the inputs."""
    axes = {"axes": [2, 3]} if opset < 18 else {}
    nodes = [
        helper.make_node("ReduceMean", [names[0], *([] if axes else ["axes"])], ["score"], keepdims=0, **axes),
        helper.make_node("Reshape", ["score", "shape"], ["image"]),
        helper.make_node("MatMul", ["image", "weights"], [names[1]]),
    ]
    weights = [
        numpy_helper.from_array(WEIGHTS, "weights"),
        numpy_helper.from_array(np.array(flatten, np.int64), "shape"),
        *([] if axes else [numpy_helper.from_array(np.array([2, 3], np.int64), "axes")]),
    ]
    inputs = [
        helper.make_tensor_value_info(names[0], kind, list(shape)),
        helper.make_tensor_value_info("weights", TensorProto.FLOAT, [3, GRADES]),
    ]
    outputs = [helper.make_tensor_value_info(names[1], TensorProto.FLOAT, [shape[0], GRADES])]
    made = helper.make_graph(nodes, "made elsewhere", inputs, outputs, weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def expected_scores(items: np.ndarray) -> np.ndarray:
    logits = items.astype(np.float64).mean((2, 3)) @ WEIGHTS
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return shares @ np.arange(1, GRADES + 1)


class Network(nn.Module):
    """The same in PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(3, GRADES))

    def forward(self, image: Tensor) -> Tensor:
        return image.mean((2, 3)) @ self.weights


@pytest.fixture
def opened(tmp_path):
    """Write a graph and a contract file; return the graph as it is opened for adoption."""

    def make(model: onnx.ModelProto | bytes, contract: str = CONTRACT) -> ForeignGraph:
        path = tmp_path / "foreign.onnx"
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        (tmp_path / "c.toml").write_text(contract, encoding="utf-8")
        return ForeignGraph(path, read_contract_file(tmp_path / "c.toml"))

    return make


@pytest.fixture
def adopted(opened, tmp_path):
    """Adopt a graph with a contract; return what becomes of it, without the checks of an export."""

    def make(model: onnx.ModelProto, contract: str = CONTRACT, *further: TensorSpec) -> onnx.ModelProto:
        found = opened(model, contract)
        system = described_system(tmp_path / "c.toml", found.description, found)
        tensors = [system.crop_input(name) for name in ("image", "reference")[: len(found.inputs)]]
        inputs = tuple(TensorSpec(tensor.name, tensor.shape[1:]) for tensor in tensors)
        return found.adopted(tensors, GraphSpec(inputs, (TensorSpec("score", ()), *further)), opset=OPSET)

    return make


def scores(model: onnx.ModelProto, items: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["score"], {"image": items})[0]


@pytest.mark.parametrize("opset", [11, 13, 17, 20])
@pytest.mark.parametrize("shape", [("n", 3, SIDE, SIDE), (1, 3, SIDE, SIDE), ("n", 3, "h", "w"), (4, 3, SIDE, SIDE)])
def test_names_shapes_opset_and_head_become_those_of_the_contract(adopted, opset, shape):
    """Also where inner tensors have our names, which they do here."""
    model = adopted(graph(opset=opset, shape=shape))
    assert model.opset_import[0].version == OPSET
    assert [entry.name for entry in model.graph.input] == ["image"]
    sizes = model.graph.input[0].type.tensor_type.shape.dim
    assert (sizes[0].dim_param, [size.dim_value for size in sizes[1:]]) == ("batch", [3, SIDE, SIDE])
    items = np.random.RandomState(0).standard_normal((5, 3, SIDE, SIDE)).astype(np.float32)
    np.testing.assert_allclose(scores(model, items), expected_scores(items), rtol=0, atol=ROUNDING)


def test_a_graph_with_branches_that_see_names_from_outside(adopted):
    """Both branches of an If read a constant and a tensor of the graph around them, and leave an input out."""
    model = graph()
    branches = {}
    for name, factor in (("then_branch", 2.0), ("else_branch", 3.0)):
        nodes = [
            helper.make_node("Clip", ["out", "", "most"], [f"{name}/clipped"]),
            helper.make_node("Mul", [f"{name}/clipped", f"{name}/factor"], [f"{name}/result"]),
        ]
        result = helper.make_tensor_value_info(f"{name}/result", TensorProto.FLOAT, None)
        constant = numpy_helper.from_array(np.array(factor, np.float32), f"{name}/factor")
        branches[name] = helper.make_graph(nodes, name, [], [result], [constant])
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.1, np.float32), "most"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.0, np.float32), "zero"))
    model.graph.node.append(helper.make_node("ReduceMax", ["weights"], ["largest"], keepdims=0))
    model.graph.node.append(helper.make_node("Greater", ["largest", "zero"], ["positive"]))
    model.graph.node.append(helper.make_node("If", ["positive"], ["chosen"], **branches))
    model.graph.output[0].name = "chosen"
    items = np.random.RandomState(0).standard_normal((3, 3, SIDE, SIDE)).astype(np.float32)
    logits = np.minimum(items.astype(np.float64).mean((2, 3)) @ WEIGHTS, 0.1) * 2
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(scores(adopted(model), items), shares @ np.arange(1, GRADES + 1), rtol=0, atol=ROUNDING)


def test_operators_that_onnx_has_not_are_told(opened):
    model = graph()
    model.graph.node[2].op_type = "OwnProduct"
    model.graph.node[2].domain = "own.domain"
    model.opset_import.append(helper.make_opsetid("own.domain", 1))
    found = opened(model)
    with pytest.raises(ArtefactError, match=r"foreign\.onnx: .*cannot load it .*; export it with operators that ONNX"):
        found.build()


def test_a_graph_that_is_fixed_to_one_item_says_how_to_export_it(adopted):
    with pytest.raises(ArtefactError, match=r"takes one item at a time; .*dynamic_axes"):
        adopted(graph(shape=(1, 3, SIDE, SIDE), flatten=(1, 3)))


def test_a_graph_that_mixes_the_items_of_a_batch_is_refused(adopted):
    model = graph()
    model.graph.node[0].attribute[0].ints[:] = [0, 2, 3]
    with pytest.raises(
        ArtefactError, match=r"(other values in 'score' for an item in a batch of 3|one item at a time)"
    ):
        adopted(model)


def test_what_is_not_asked_for_is_left_out(adopted):
    model = graph()
    model.graph.node.append(helper.make_node("Relu", ["out"], ["unwanted"]))
    model.graph.output.append(helper.make_tensor_value_info("unwanted", TensorProto.FLOAT, None))
    model.doc_string = "/home/somebody"
    result = adopted(model)
    assert [output.name for output in result.graph.output] == ["score"]
    assert "Relu" not in {node.op_type for node in result.graph.node}
    assert b"/home/somebody" not in result.SerializeToString()


def test_a_map_loses_the_axis_of_its_channel(adopted):
    model = graph()
    model.graph.node.append(helper.make_node("ReduceMax", ["input.1"], ["max"], axes=[1], keepdims=1))
    model.graph.output.append(helper.make_tensor_value_info("max", TensorProto.FLOAT, None))
    text = f'\n[[maps]]\nname = "quality_map"\noutput = "max"\nrows = {SIDE}\ncolumns = {SIDE}\n'
    result = adopted(model, CONTRACT + text, TensorSpec("quality_map", (SIDE, SIDE)))
    items = np.random.RandomState(0).standard_normal((2, 3, SIDE, SIDE)).astype(np.float32)
    session = onnxruntime.InferenceSession(result.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(["quality_map"], {"image": items})[0], items.max(1))


def test_a_pair_at_its_own_size_keeps_height_and_width_free(adopted):
    """Two inputs in the order that the file says, and a map that follows the size."""
    nodes = [
        helper.make_node("Sub", ["ref", "dist"], ["difference"]),
        helper.make_node("ReduceMax", ["difference"], ["map"], axes=[1], keepdims=1),
        helper.make_node("ReduceMean", ["map"], ["score"], axes=[1, 2, 3], keepdims=0),
    ]
    sizes = ["n", 3, "h", "w"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name in ("ref", "dist")]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("score", "map")]
    model = helper.make_model(
        helper.make_graph(nodes, "pair", inputs, outputs), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    text = (
        CONTRACT.split("[head]")[0].replace('"nr"', '"fr"').replace(f"crop = {SIDE}\n", "").replace("center", "whole")
    )
    text += '[[maps]]\nname = "quality_map"\noutput = "map"\ncell = 1\n[onnx]\nimage = "dist"\n'
    result = adopted(model, text, TensorSpec("quality_map", ("rows", "columns"), cell=1))
    session = onnxruntime.InferenceSession(result.SerializeToString(), providers=["CPUExecutionProvider"])
    for height, width in ((8, 9), (17, 5)):
        image, reference = np.random.RandomState(0).standard_normal((2, 1, 3, height, width)).astype(np.float32)
        score, cells = session.run(["score", "quality_map"], {"image": image, "reference": reference})
        expected = (reference - image).max(1)
        np.testing.assert_array_equal(cells, expected)
        np.testing.assert_allclose(score, [expected.mean()], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(
    ("model", "contract", "error", "said"),
    [
        (graph(kind=TensorProto.UINT8), CONTRACT, ArtefactError, "'input.1' is uint8; export it with float32 inputs"),
        (graph(shape=("n", 3, 64, 64)), CONTRACT, ArtefactError, "n?.*any x 3 x 64 x 64, the contract file says"),
        (graph(shape=("n", SIDE, SIDE, 3)), CONTRACT, ArtefactError, "channels last; .*--inputs-as-nchw input.1"),
        (graph(shape=("n", 3, SIDE)), CONTRACT, ArtefactError, "the contract file says"),
        (graph(), CONTRACT.replace('"nr"', '"fr"'), ArtefactError, r"has 1 inputs \(input\.1\), and the task fr has 2"),
        (graph(), CONTRACT + "[onnx]\nimage = 'x'", UsageError, r"onnx\.image = 'x' .*: the inputs of .* are input\.1"),
        (
            graph(),
            CONTRACT.replace("[score]", "[score]\noutput = 'mos'"),
            UsageError,
            r"score\.output = 'mos'.*are out",
        ),
        (graph(), CONTRACT.replace("[score]", "[score]\noutput = 1"), UsageError, r"score\.output = 1 in the contract"),
        (graph(), CONTRACT + "[onnx.outputs]\nscore = 'x'", UsageError, r"onnx\.outputs\.score = 'x'"),
        (b"no graph at all", CONTRACT, ArtefactError, "no ONNX file, or damaged"),
        (b"", CONTRACT, ArtefactError, "no ONNX graph, or an empty one"),
        (graph().SerializeToString()[:-40], CONTRACT, ArtefactError, "no ONNX"),
    ],
)
def test_what_cannot_be_adopted_is_told(adopted, opened, model, contract, error, said):
    with pytest.raises(error, match=said):
        opened(model, contract) if isinstance(model, bytes) else adopted(model, contract)


def test_a_file_that_is_not_there_and_one_that_is_an_artefact(opened, tmp_path):
    with pytest.raises(FileError, match="cannot read the graph"):
        ForeignGraph(tmp_path / "absent.onnx", opened(graph()).description)
    model = graph()
    model.metadata_props.add(key="iqa.contract", value="{}")
    with pytest.raises(ArtefactError, match="is an artefact already"):
        opened(model)


@pytest.mark.parametrize(("what", "said"), [("quantised", "let --int8 quantise"), ("half", "let --fp16 convert")])
def test_less_than_float32_is_refused(opened, what, said):
    model = graph()
    if what == "half":
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(2, np.float16), "half"))
    else:
        model.graph.node.append(helper.make_node("QuantizeLinear", ["out", "scale"], ["quantised"]))
    with pytest.raises(ArtefactError, match=said):
        opened(model)


def test_weights_in_a_file_beside_it_are_taken_in(tmp_path, opened):
    description = opened(graph()).description
    model = graph()
    onnx.save_model(model, tmp_path / "two.onnx", save_as_external_data=True, location="two.data", size_threshold=0)
    found = ForeignGraph(tmp_path / "two.onnx", description)
    held = {tensor.name: tensor for tensor in found.model.graph.initializer}
    np.testing.assert_array_equal(numpy_helper.to_array(held["weights"]), WEIGHTS)
    (tmp_path / "two.data").unlink()
    with pytest.raises(ArtefactError, match="its weights in files beside it cannot be read"):
        ForeignGraph(tmp_path / "two.onnx", description)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A graph, its contract, and a checkpoint with the same weights, in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("foreign.onnx").write_bytes(graph().SerializeToString())
    Path("c.toml").write_text(CONTRACT, encoding="utf-8")
    torch.save({"params": {"weights": torch.from_numpy(WEIGHTS)}}, "net.pth")
    return {"adopt": "foreign.onnx", "contract": "c.toml", "output": "x.onnx"}


def test_an_adopted_graph_is_an_artefact_and_says_that_nobody_saw_its_network(files):
    report = iqa_export.export(**files)
    assert report.passed
    assert (report.oracle, report.gmac_as_written) == ("the graph as it came", None)
    contract = read_contract("x.onnx")
    assert (contract.weights.file, contract.weights.trained, contract.opset) == ("foreign.onnx", True, OPSET)
    pixels = np.random.RandomState(0).randint(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    item = ((pixels / 255 - 0.5) / 0.25).transpose(2, 0, 1)[None]
    with Scorer("x.onnx") as scorer:
        assert scorer.score(pixels).value == pytest.approx(expected_scores(item)[0], abs=ROUNDING)


def test_outputs_that_the_file_names_are_those_of_the_graph_as_it_came(files):
    """Its second output is the score; the first, which a network in PyTorch would give first, is something else."""
    model = graph()
    model.graph.node.append(helper.make_node("Neg", ["out"], ["negative"]))
    model.graph.output.insert(0, helper.make_tensor_value_info("negative", TensorProto.FLOAT, ["n", GRADES]))
    Path("foreign.onnx").write_bytes(model.SerializeToString())
    with Path("c.toml").open("a", encoding="utf-8") as file:
        file.write('[onnx.outputs]\nscore = "out"\n')
    assert iqa_export.export(**files).passed


def test_with_its_network_parity_is_that_with_pytorch(files):
    module = f"{__name__}:Network"
    report = iqa_export.export(**files, module=module, weights="net.pth")
    assert report.passed
    assert report.oracle == "PyTorch"
    assert (report.contract.weights.file, report.contract.weights.entry) == ("net.pth", "params")
    torch.save({"weights": torch.from_numpy(WEIGHTS * 1.01)}, "net.pth")
    with pytest.raises(ParityError, match="the graph differs from the network"):
        iqa_export.export(**files, module=module, weights="net.pth")
    with pytest.raises(UsageError, match="``weights``: ``adopt`` has its own"):
        iqa_export.export(**files, weights="net.pth")
