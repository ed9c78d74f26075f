"""LPIPS against its formula written once more, place by place, and its deploy form against it in float64."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from iqa_export.checkpoints import load_into, random_checkpoint
from iqa_export.deploy.lpips import DeployLpips
from iqa_export.systems import find_system
from iqa_export.weights import choose_variant, load_checkpoint

EXACT = 1e-12
"""Of the distance: the same products in another order, in float64."""

ALEXNET = ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1))
"""Number in torchvision, stride and padding of each convolution."""
VGG = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""Numbers of the convolutions of each stage."""


def network_of(variant):
    system = find_system("lpips")
    network = system.build(variant).requires_grad_(False)
    checkpoint = random_checkpoint(network, 3, system.key_map(variant))
    load_into(network, checkpoint, system.key_map(variant))
    return network.double(), {key: value.double() for key, value in checkpoint.entries.items()}


def alexnet_features(weights, x):
    for index, (number, stride, padding) in enumerate(ALEXNET):
        if index in (1, 2):
            x = functional.max_pool2d(x, kernel_size=3, stride=2)
        name = f"net.slice{index + 1}.{number}"
        x = functional.relu(functional.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride, padding))
        yield x


def vgg_features(weights, x):
    for index, numbers in enumerate(VGG):
        if index:
            x = functional.max_pool2d(x, kernel_size=2)
        for number in numbers:
            name = f"net.slice{index + 1}.{number}"
            x = functional.relu(functional.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1))
        yield x


FEATURES = {"alex": alexnet_features, "vgg": vgg_features}


def distance(variant, weights, image, reference):
    total = 0.0
    pairs = zip(FEATURES[variant](weights, image), FEATURES[variant](weights, reference), strict=True)
    for layer, (own, other) in enumerate(pairs):
        weight = weights[f"lin{layer}.model.1.weight"].numpy().ravel()
        _, channels, rows, columns = own.shape
        own, other = (value.numpy().reshape(channels, -1) for value in (own, other))
        for place in range(rows * columns):
            first, second = own[:, place], other[:, place]
            difference = first / (np.linalg.norm(first) + 1e-10) - second / (np.linalg.norm(second) + 1e-10)
            total += weight @ difference**2 / (rows * columns)
    return total


def pictures(count, height, width):
    generator = torch.Generator().manual_seed(11)
    return torch.randn(count, 3, height, width, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("variant", "size"), [("alex", (31, 31)), ("alex", (67, 94)), ("vgg", (31, 45))])
def test_the_distance_is_that_of_the_formula(variant, size):
    network, weights = network_of(variant)
    image, reference = pictures(2, *size).chunk(2)
    expected = distance(variant, weights, image, reference)
    assert expected != 0
    for form in (network, DeployLpips(network)):
        np.testing.assert_allclose(form(image, reference).numpy(), [expected], rtol=EXACT)


@pytest.mark.parametrize("variant", ["alex", "vgg"])
def test_items_of_a_batch_are_compared_each_with_its_own_reference(variant):
    network, _ = network_of(variant)
    image, reference = pictures(6, 40, 48).chunk(2)
    together = DeployLpips(network)(image, reference)
    alone = torch.cat([network(image[[index]], reference[[index]]) for index in range(3)])
    torch.testing.assert_close(together, alone, rtol=EXACT, atol=0)


@pytest.mark.parametrize("variant", ["alex", "vgg"])
def test_a_picture_has_no_distance_to_itself(variant):
    network, _ = network_of(variant)
    picture = pictures(1, 40, 48).float()
    assert DeployLpips(network.float())(picture, picture).item() == 0


def test_where_nothing_is_active_there_is_no_distance():
    network, _ = network_of("alex")
    for stage in network.trunk.stages:
        stage[-2].bias.fill_(-1e6)
    image, reference = pictures(2, 40, 48).chunk(2)
    assert DeployLpips(network)(image, reference).item() == 0


@pytest.mark.parametrize("variant", ["alex", "vgg"])
def test_a_state_dict_as_the_package_of_the_authors_saves_it_is_known(variant, tmp_path):
    """It has the linear layers under two names, and the normalisation as buffers."""
    system = find_system("lpips")
    network, weights = network_of(variant)
    state = {key: value.float() for key, value in weights.items()}
    state |= {f"lins.{key[3]}{key[4:]}": value for key, value in state.items() if key.startswith("lin")}
    state |= {f"scaling_layer.{name}": torch.ones(1, 3, 1, 1) for name in ("shift", "scale")}
    torch.save(state, tmp_path / "lpips.pth")

    checkpoint = load_checkpoint(system, str(tmp_path / "lpips.pth"), None)
    assert choose_variant(system, checkpoint.entries.keys(), "fr") == variant
    loaded = system.build(variant)
    load_into(loaded, checkpoint, system.key_map(variant))
    picture = pictures(2, 40, 48).float()
    assert torch.equal(loaded(picture[:1], picture[1:]), network.float()(picture[:1], picture[1:]))
