"""A small network as the exporter hands it on, looked at node by node."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from iqa_calibration.graphs.runner import Runner
from iqa_export.onnx_export import to_onnx
from iqa_export.torch_layers import TracedLayers
from iqa_runtime.contract import TensorInput

ROUNDING = 1e-6
"""Absolute, for values of about one: float32 sums in another order."""

INPUTS = [TensorInput(name="image", shape=("batch", 3, 8, 8), mean=(0, 0, 0), std=(1, 1, 1))]
OUTPUTS = ["score", "map"]


class Small(nn.Module):
    """Its windows put the places of the batch into the first axis; its mask is no float."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, image):
        features = nn.functional.gelu(self.convolution(image))
        windows = features.reshape(-1, 4, 4, 2, 8).transpose(1, 2).flatten(0, 1)
        bright = windows.mean((1, 2, 3)) > 0
        weighted = windows * bright[:, None, None, None]
        return weighted.reshape(image.shape[0], -1).mean(1), features.mean(1)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return Small().requires_grad_(False)


@pytest.fixture(scope="module")
def layers(network) -> TracedLayers:
    return TracedLayers(network, INPUTS, OUTPUTS, opset=20)


def test_tensors_have_the_names_values_and_shapes_of_the_graph(network, layers):
    model = to_onnx(network, INPUTS, OUTPUTS)
    names = [name for node in model.graph.node for name in node.output if name in layers.shapes]
    assert len(names) >= 5
    image = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = Runner(onnx.load_from_string(model.SerializeToString()), extra_outputs=names).run(
        {"image": image.numpy()}, names
    )
    actual = layers.run([image], names)
    for name in names:
        assert layers.shapes[name] == expected[name].shape, name
        np.testing.assert_allclose(actual[name].numpy(), expected[name], atol=ROUNDING, err_msg=name)


def test_outputs_go_by_the_names_of_the_artefact(network, layers):
    image = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    found = layers.run([image], OUTPUTS)
    for name, value in zip(OUTPUTS, network(image), strict=True):
        np.testing.assert_allclose(found[name].numpy(), value.numpy(), atol=ROUNDING)


def test_only_floats_are_shown_and_of_any_first_axis(layers):
    assert (4, 4, 2, 8) in layers.shapes.values()
    assert not any("gt" in name for name in layers.shapes), "a comparison gives no float"
