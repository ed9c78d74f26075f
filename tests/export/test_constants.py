"""No constant of a network is lost on the way into its graph, however near to nothing it is."""

import re

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch import fx, nn

from iqa_calibration.graphs.finishing import strip_sources
from iqa_calibration.graphs.folding import fold
from iqa_export.checkpoints import load_into, random_checkpoint
from iqa_export.onnx_export import to_onnx, to_program
from iqa_export.outputs import ExportError
from iqa_export.systems import BUILT_IN, GraphChoice, find_system
from iqa_runtime.contract import TensorInput

SIDE = 8
IMAGE = TensorInput(name="image", shape=("batch", 3, SIDE, SIDE), mean=(0, 0, 0), std=(1, 1, 1))
ROUNDING = 1e-6
"""Relative, of quotients of a few float32 operations."""

QUICK = (("yoto", "edge", "fr"),)
CASES = [
    pytest.param(
        system.name,
        variant,
        task,
        marks=[]
        if (system.name, variant, task) in QUICK
        else [pytest.mark.slow, *([] if variant == "edge" else [pytest.mark.long])],
    )
    for system in BUILT_IN
    for variant, (*_, task) in system.tasks.items()  # with a reference, where there may be one: the larger graph
]

WITHOUT_EFFECT = ("dropout",)
"""Operators whose numbers do nothing in evaluation."""

IN_THE_OPERATOR = ("momentum", "ord")
"""Arguments that do nothing in evaluation, or choose the ONNX operator: the order of a norm."""


class Ratio(nn.Module):
    def __init__(self, form: str, epsilon: float) -> None:
        super().__init__()
        self.form, self.epsilon = form, epsilon

    def forward(self, image):
        mean, power = image.mean((1, 2, 3)), image.square().mean((1, 2, 3))
        if self.form == "after the root":
            return (mean / (power.sqrt() + self.epsilon),)
        if self.form == "under the root":
            return (mean / torch.sqrt(power + self.epsilon),)
        if self.form == "subtracted":
            return (mean / (power.sqrt() - -self.epsilon),)
        if self.form == "clamped":
            return (mean / power.sqrt().clamp_min(self.epsilon),)
        if self.form == "as a tensor":
            return (mean / (power.sqrt() + torch.tensor([self.epsilon])),)
        if self.form == "nearly one":
            return (power * (1 + self.epsilon) - power,)
        return (power * self.epsilon,)


FORMS = ("after the root", "under the root", "subtracted", "clamped", "as a tensor", "nearly one", "scaled")


@pytest.mark.parametrize("epsilon", [1e-5, 1e-8, 1e-12, 1e-16])
@pytest.mark.parametrize("form", FORMS)
def test_flat_pictures_score_as_in_pytorch(form, epsilon):
    network = Ratio(form, epsilon).eval()
    session = onnxruntime.InferenceSession(
        to_onnx(network, [IMAGE], ["score"]).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    pictures = torch.zeros(4, 3, SIDE, SIDE)
    pictures[1:] = torch.tensor([1e-6, 0.5, 1.0])[:, None, None, None]
    (actual,) = session.run(None, {"image": pictures.numpy()})
    np.testing.assert_allclose(actual, network(pictures)[0], rtol=ROUNDING)


class Double(nn.Module):
    def __init__(self, form, number):
        super().__init__()
        self.form, self.number = form, number

    def forward(self, image):
        mean = image.double().mean((1, 2, 3))
        return ((mean**self.number if self.form == "power" else mean * self.number + mean).float(),)


@pytest.mark.parametrize("form", ["power", "scaled"])
@pytest.mark.parametrize("number", [1e-50, 1 + 1e-9, 1e60])
def test_numbers_of_float64_that_would_be_lost_are_refused(form, number):
    message = rf"aten.* in the network computes in float64 with {re.escape(repr(number))}.*, without \.double\(\)"
    with pytest.raises(ExportError, match=message):
        to_onnx(Double(form, number), [IMAGE], ["score"])


class Kept(nn.Module):
    """Keeps a number of float64 in a buffer, as the message says."""

    def __init__(self, number):
        super().__init__()
        self.register_buffer("number", torch.tensor(number, dtype=torch.float64))

    def forward(self, image):
        mean = image.double().mean((1, 2, 3))
        return ((mean / (mean.abs() + self.number)).float(),)


@pytest.mark.parametrize("number", [0.1, 1e-12, 1e-40])
def test_numbers_of_float64_are_kept_in_a_buffer(number):
    network = Kept(number).eval()
    session = onnxruntime.InferenceSession(
        to_onnx(network, [IMAGE], ["score"]).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    pictures = torch.zeros(3, 3, SIDE, SIDE)
    pictures[1:] = torch.tensor([1e-12, 0.5])[:, None, None, None]
    (actual,) = session.run(None, {"image": pictures.numpy()})
    np.testing.assert_allclose(actual, network(pictures)[0], rtol=ROUNDING)


@pytest.mark.parametrize("number", [1e-50, 1 + 1e-9])
def test_numbers_that_onnx_runtime_drops_are_refused(number):
    with pytest.raises(ExportError, match=f"{re.escape(repr(number))}, which ONNX Runtime takes for {round(number)}"):
        to_onnx(Kept(number), [IMAGE], ["score"])


def test_numbers_of_float64_that_float32_has_are_kept():
    assert 0.375 in constants_of(to_onnx(Double("scaled", 0.375), [IMAGE], ["score"]))


@pytest.mark.parametrize(("name", "variant", "task"), CASES)
def test_every_constant_of_a_system_is_in_its_graph(name, variant, task):
    system = find_system(name)
    network, keys = system.build(variant).requires_grad_(False), system.key_map(variant)
    load_into(network, random_checkpoint(network, 0, keys), keys)
    segment = "joint" if "joint" in system.segments and task != "nr" and variant != "edge" else None
    choice = GraphChoice(variant=variant, task=task, segment=segment)
    inputs = [system.crop_input("image")] + ([system.crop_input("reference")] if task != "nr" else [])
    program = to_program(system.deployed(network, choice), inputs, ["score"], patch_plan=system.patch_plan)
    assert program.exported_program is not None
    expected = constants_that_inputs_meet(program.exported_program.graph)
    model = program.model_proto
    fold(model)
    strip_sources(model)
    assert len(expected) > 0
    assert expected <= constants_of(model)


def constants_that_inputs_meet(graph: fx.Graph) -> set[np.float32]:
    """Collect the floats among the arguments of operators that depend on an input; others are folded into weights."""
    inputs = {node for node in graph.nodes if node.op == "placeholder" and not node.name.startswith(("p_", "b_", "c_"))}
    dependent, found = set(inputs), set()
    for node in graph.nodes:
        if dependent.isdisjoint(node.all_input_nodes):
            continue
        dependent.add(node)
        if any(name in str(node.target) for name in WITHOUT_EFFECT):
            continue
        names = [argument.name for argument in node.target._schema.arguments] if hasattr(node.target, "_schema") else []
        given = dict(zip(names, node.args, strict=False)) | node.kwargs
        found |= {
            np.float32(value) for key, value in given.items() if isinstance(value, float) and key not in IN_THE_OPERATOR
        }
    return found


def constants_of(model: onnx.ModelProto) -> set[np.float32]:
    found = {np.float32(attribute.f) for node in model.graph.node for attribute in node.attribute}
    for tensor in model.graph.initializer:
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE) and np.prod(tensor.dims) == 1:
            found.add(np.float32(numpy_helper.to_array(tensor).item()))
    return found | {np.float32(number) for node in model.graph.node for number in _lists(node)}


def _lists(node: onnx.NodeProto) -> list[float]:
    return [
        number
        for attribute in node.attribute
        if attribute.type == onnx.AttributeProto.FLOATS
        for number in helper.get_attribute_value(attribute)
    ]
