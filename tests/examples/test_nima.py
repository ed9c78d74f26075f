"""NIMA as in the example: its layers are Keras's, and with the published weights worse pictures score lower."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from iqa_calibration.images.degradations import KINDS, LEVELS, degrade
from iqa_export.systems.contract_file import read_contract_file
from iqa_export.systems.described import described_system
from iqa_runtime.images.loading import load_image
from iqa_runtime.kernels import resize

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "nima"
WEIGHTS = Path(os.environ.get("NIMA_WEIGHTS", FOLDER / "nima.safetensors"))
"""As the README makes them; not part of the repository."""
NAMES = ("brushes", "dandelion", "drum", "mountains", "stream")
ROUNDING = 1e-5
"""Of sums of 9 products of numbers around one, in float32 here and in float64 there."""


@pytest.fixture(scope="module")
def nima():
    sys.path.insert(0, str(FOLDER))
    try:
        yield __import__("nima")
    finally:
        sys.path.remove(str(FOLDER))
        sys.modules.pop("nima", None)


def padded_as_in_keras(values: np.ndarray, stride: int) -> np.ndarray:
    """Pad C x H x W for a kernel of 3: all around, or with a stride of 2 at the bottom and right alone."""
    return np.pad(values, ((0, 0), (0, 1), (0, 1)) if stride == 2 else ((0, 0), (1, 1), (1, 1)))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("depthwise", [True, False])
def test_a_layer_computes_what_keras_does(nima, stride, depthwise):
    """Every output from its definition: sums over the window, (x - mean) / sqrt(var + 0.001), cut to 0 to 6."""
    random = np.random.RandomState(0)
    inputs, outputs, side = 4, 4, 6
    kernel = random.standard_normal((outputs, 1 if depthwise else inputs, 3, 3))
    gamma, beta, mean, variance = (random.uniform(0.5, 1.5, outputs) for _ in range(4))
    values = random.standard_normal((inputs, side, side))
    padded = padded_as_in_keras(values, stride)
    count = (padded.shape[1] - 3) // stride + 1
    expected = np.empty((outputs, count, count))
    for channel in range(outputs):
        seen = padded[channel : channel + 1] if depthwise else padded
        for row in range(count):
            for column in range(count):
                window = seen[:, row * stride : row * stride + 3, column * stride : column * stride + 3]
                expected[channel, row, column] = (window * kernel[channel]).sum()
    each = (slice(None), None, None)
    expected = (expected - mean[each]) / np.sqrt(variance[each] + 0.001) * gamma[each] + beta[each]
    layer = nima.KerasConvolution(inputs, outputs, 3, stride, depthwise=depthwise).eval()
    state = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": variance}
    layer.normalisation.load_state_dict({key: torch.tensor(value) for key, value in state.items()}, strict=False)
    layer.convolution.load_state_dict({"weight": torch.tensor(kernel)})
    with torch.no_grad():
        actual = layer(torch.tensor(values, dtype=torch.float32)[None])[0].numpy()
    assert (side + stride - 1) // stride == count
    np.testing.assert_allclose(actual, expected.clip(0, 6), rtol=0, atol=ROUNDING)


def test_the_network_has_the_size_of_keras_s_mobilenet_and_gives_probabilities(nima):
    """3,228,864 parameters of MobileNet 1.0 without its top, by Keras's own count, and 10 x 1024 + 10 of the grades."""
    network = nima.NimaMobileNet().eval()
    state = network.state_dict()
    assert sum(value.numel() for key, value in state.items() if "num_batches" not in key) == 3_228_864 + 10_250
    with torch.no_grad():
        shares = network(torch.zeros(2, 3, 224, 224))
    assert shares.shape == (2, 10)
    np.testing.assert_allclose(shares.sum(1).numpy(), 1, atol=ROUNDING)


def test_the_contract_is_sound():
    path = FOLDER / "nima.toml"
    system = described_system(path, read_contract_file(path), None)
    assert system.crop_input("image").shape == ("batch", 3, 224, 224)
    assert (system.mean, system.std) == ((0.5,) * 3, (0.5,) * 3)


@pytest.mark.slow
@pytest.mark.skipif(not WEIGHTS.is_file(), reason=f"{WEIGHTS} is not there; examples/nima/README.md tells where it is")
def test_the_mean_falls_with_every_step_of_every_degradation(nima):
    import safetensors.torch

    network = nima.NimaMobileNet().eval()
    network.load_state_dict(safetensors.torch.load_file(WEIGHTS), strict=False)

    def score(pixels: np.ndarray) -> float:
        item = resize(pixels, (224, 224), "nearest").transpose(2, 0, 1)[None].astype(np.float32) / 127.5 - 1
        with torch.no_grad():
            return float((network(torch.from_numpy(item))[0] * torch.arange(1.0, 11.0)).sum())

    pictures = [load_image(ROOT / "examples" / "photographs" / f"{name}.jpg") for name in NAMES]
    for kind in KINDS:
        scores = [[score(degrade(pixels, kind, level, seed=0)) for level in range(LEVELS + 1)] for pixels in pictures]
        means = np.mean(scores, axis=0)
        assert (np.diff(means) < 0).all(), (kind, means)
        assert all(row[-1] < row[0] for row in scores), (kind, scores)
