import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from iqa_calibration.graphs.structure import opset_of
from iqa_export.onnx_export import NEWEST_OPSET, OPSET, check_opset, to_onnx
from iqa_runtime.contract import TensorInput
from iqa_runtime.errors import UsageError

ROUNDING = 1e-6
"""Absolute, for values of about one: float32 sums in another order."""


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, image, reference):
        difference = nn.functional.gelu(self.convolution(image)) - self.convolution(reference)
        return difference.mean((1, 2, 3)), difference.mean(1)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return TwoInputs().requires_grad_(False)


INPUTS = [
    TensorInput(name=name, shape=("batch", 3, 16, 16), mean=(0, 0, 0), std=(1, 1, 1)) for name in ("image", "reference")
]


@pytest.fixture(scope="module")
def model(network) -> onnx.ModelProto:
    return to_onnx(network, INPUTS, ["score", "map"])


def test_names_and_only_the_batch_is_dynamic(model):
    shapes = {
        tensor.name: [dim.dim_param or dim.dim_value for dim in tensor.type.tensor_type.shape.dim]
        for tensor in (*model.graph.input, *model.graph.output)
    }
    crop = ["batch", 3, 16, 16]
    assert shapes == {"image": crop, "reference": crop, "score": ["batch"], "map": ["batch", 16, 16]}
    assert opset_of(model) == OPSET


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batch(network, model, batch):
    image, reference = torch.randn(batch, 3, 16, 16), torch.randn(batch, 3, 16, 16)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"image": image.numpy(), "reference": reference.numpy()})
    for actual, expected in zip(outputs, network(image, reference), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=ROUNDING)


def test_nothing_of_the_source_tree_is_inside(model):
    data = model.SerializeToString()
    for trace in (str(Path(__file__).parent), sys.prefix, "stack_trace", "site-packages"):
        assert trace.encode() not in data


def test_weights_are_inside(model, tmp_path):
    onnx.save_model(model, tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert all(not weight.external_data for weight in model.graph.initializer)


def test_exporting_again_gives_the_same_bytes(network, model):
    assert to_onnx(network, INPUTS, ["score", "map"]).SerializeToString() == model.SerializeToString()


def test_opsets():
    assert check_opset(OPSET) == OPSET
    for opset in (OPSET - 1, NEWEST_OPSET + 1):
        with pytest.raises(UsageError, match="``opset="):
            check_opset(opset)


def test_global_state_is_left_alone(network):
    import logging
    import warnings

    filters, level = list(warnings.filters), logging.getLogger("torch.onnx").level
    to_onnx(network, INPUTS, ["score", "map"])
    assert warnings.filters == filters
    assert logging.getLogger("torch.onnx").level == level


def test_a_convolution_and_its_normalisation_are_one(network):
    del network
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(1))
    layers[1].running_mean.normal_()
    layers[1].running_var.uniform_(0.5, 2)
    crops = torch.randn(2, 3, 16, 16)
    expected = layers.eval()(crops)[:, 0].detach()
    model = to_onnx(layers, INPUTS[:1], ["score"])
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"image": crops.numpy()})[0], expected, rtol=0, atol=ROUNDING)
