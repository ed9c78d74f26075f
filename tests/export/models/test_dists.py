"""DISTS against its formula written once more with NumPy's statistics, and its deploy form against it in float64."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from iqa_export.checkpoints import load_into, random_checkpoint
from iqa_export.deploy.dists import DeployDists
from iqa_export.models.dists import CHANNELS, L2Pooling
from iqa_export.systems import find_system
from iqa_export.weights import choose_variant, load_checkpoint

EXACT = 1e-10
"""Absolute, float64, of similarities up to one: filters of the network are float32's, else rounding alone."""
STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""Numbers in torchvision of the convolutions of each stage."""


@pytest.fixture(scope="module")
def dists():
    system = find_system("dists")
    network = system.build("vgg16").requires_grad_(False)
    key_map = system.key_map("vgg16")
    checkpoint = random_checkpoint(network, 5, key_map)
    # Positive, as those trained: they are divided by their sum.
    for name in ("alpha", "beta"):
        checkpoint.entries[name] = checkpoint.entries[name].abs()
    load_into(network, checkpoint, key_map)
    return network.double(), {key: value.double() for key, value in checkpoint.entries.items()}


def pictures(count, height, width):
    generator = torch.Generator().manual_seed(12)
    return torch.rand(count, 3, height, width, generator=generator, dtype=torch.float64)


def pooled(x):
    """Root of the mean of squares under the window (1, 2, 1) x (1, 2, 1) / 16, the inner taps of Hanning's of five."""
    padded = functional.pad(x**2, (1, 1, 1, 1))
    rows, columns = ((side + 1) // 2 for side in x.shape[2:])
    total = torch.zeros(*x.shape[:2], rows, columns, dtype=x.dtype)
    for row, tap in enumerate((1, 2, 1)):
        for column, other in enumerate((1, 2, 1)):
            total += tap * other / 16 * padded[:, :, row::2, column::2][:, :, :rows, :columns]
    return torch.sqrt(total + 1e-12)


def stages(weights, x):
    yield x
    mean, std = (
        torch.tensor(values).double()[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    x = (x - mean) / std
    for index, numbers in enumerate(STAGES):
        if index:
            x = pooled(x)
        for number in numbers:
            name = f"stage{index + 1}.{number}"
            x = functional.relu(functional.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1))
        yield x


def distance(weights, image, reference):
    alpha, beta = (weights[name].numpy().ravel() for name in ("alpha", "beta"))
    similarity, start = 0.0, 0
    for own, other in zip(stages(weights, image), stages(weights, reference), strict=True):
        for first, second in zip(own[0].flatten(1).numpy(), other[0].flatten(1).numpy(), strict=True):
            (variance, covariance), (_, other_variance) = np.cov(first, second, bias=True)
            texture = (2 * first.mean() * second.mean() + 1e-6) / (first.mean() ** 2 + second.mean() ** 2 + 1e-6)
            structure = (2 * covariance + 1e-6) / (variance + other_variance + 1e-6)
            similarity += alpha[start] * texture + beta[start] * structure
            start += 1
    assert start == sum(CHANNELS) == 1475
    return 1 - similarity / (alpha.sum() + beta.sum())


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (33, 46)])
def test_the_distance_is_that_of_the_formula(dists, size):
    network, weights = dists
    image, reference = pictures(2, *size).chunk(2)
    expected = distance(weights, image, reference)
    assert abs(expected) > 1e-3
    for form in (network, DeployDists(network)):
        np.testing.assert_allclose(form(image, reference).numpy(), [expected], rtol=0, atol=EXACT)


def test_items_of_a_batch_are_compared_each_with_its_own_reference(dists):
    network, _ = dists
    image, reference = pictures(6, 20, 24).chunk(2)
    alone = torch.cat([network(image[[index]], reference[[index]]) for index in range(3)])
    torch.testing.assert_close(DeployDists(network)(image, reference), alone, rtol=0, atol=EXACT)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_picture_has_no_distance_to_itself_be_it_flat(dists, level):
    """In float32, where the published form divides rounding by rounding."""
    network, _ = dists
    deployed = DeployDists(network).float()
    textured = pictures(1, 20, 24).float()
    for picture in (textured, torch.full_like(textured, level)):
        # One minus a sum of weights that add up to one within rounding.
        assert abs(deployed(picture, picture).item()) < 1e-6
    network.double()


def test_pooling_halves_odd_sides_upwards():
    assert L2Pooling(2)(torch.ones(1, 2, 5, 8)).shape == (1, 2, 3, 4)


def test_a_state_dict_as_the_package_of_the_authors_saves_it_is_known(dists, tmp_path):
    """It has the filters of the pooling and the normalisation as buffers."""
    system = find_system("dists")
    network, weights = dists
    state = {key: value.float() for key, value in weights.items()}
    state |= {f"stage{index}.{number}.filter": torch.ones(1) for index, number in ((2, 4), (3, 9), (4, 16), (5, 23))}
    state |= {name: torch.ones(1, 3, 1, 1) for name in ("mean", "std")}
    torch.save(state, tmp_path / "dists.pth")
    checkpoint = load_checkpoint(system, str(tmp_path / "dists.pth"), None)
    assert choose_variant(system, checkpoint.entries.keys(), None) == "vgg16"
    loaded = system.build("vgg16")
    load_into(loaded, checkpoint, system.key_map("vgg16"))
    picture = pictures(2, 20, 24).float()
    assert torch.equal(loaded(picture[:1], picture[1:]), network.float()(picture[:1], picture[1:]))
    network.double()
