import pytest
import torch
from torch import nn

from iqa_export.checkpoints import KeyMap, load_into, random_checkpoint
from iqa_export.deploy.batchnorm import fold_pair, fold_resnet
from iqa_export.models.resnet import ResNet50

FLOAT64 = 1e-12
"""Relative, in float64: exact algebra leaves rounding alone."""


@pytest.mark.parametrize("bias", [True, False])
def test_pair(bias):
    torch.manual_seed(0)
    convolution, norm = nn.Conv2d(3, 4, 3, bias=bias).double(), nn.BatchNorm2d(4).double()
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            tensor.normal_()
        norm.running_var.uniform_(0.5, 2)
        norm.eval()
        x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
        before = convolution.weight.clone()
        torch.testing.assert_close(fold_pair(convolution, norm)(x), norm(convolution(x)), rtol=FLOAT64, atol=FLOAT64)
        assert torch.equal(convolution.weight, before)


def test_without_statistics():
    with pytest.raises(ValueError, match="running statistics"):
        fold_pair(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))


def test_trunk():
    trunk = ResNet50().eval()
    load_into(trunk, random_checkpoint(trunk, 0, KeyMap()), KeyMap())
    trunk = trunk.double()
    folded = fold_resnet(trunk)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert sum(isinstance(module, nn.BatchNorm2d) for module in trunk.modules()) == 53
    with torch.no_grad():
        x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
        for actual, expected in zip(folded(x), trunk(x), strict=True):
            scale = float(expected.abs().max())
            torch.testing.assert_close(actual, expected, rtol=0, atol=FLOAT64 * scale)


def test_trunk_has_the_published_size():
    assert sum(parameter.numel() for parameter in ResNet50().parameters()) == 23_508_032
