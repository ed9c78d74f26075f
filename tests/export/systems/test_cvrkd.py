"""CVRKD-IQA against the authors' implementation: as written, deploy form, ONNX Runtime; scores and token maps."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from iqa_calibration.graphs.finishing import count_macs
from iqa_export.deploy.cvrkd import DeployCvrkd
from iqa_export.models.cvrkd import CvrkdOutput
from iqa_export.onnx_export import to_onnx
from iqa_export.systems import GraphChoice, find_system

SCORE_SHARE = 1e-4
"""Of the largest score: the promise made to users; rounding alone stays below 2e-5."""
DISTORTED_TOKENS = 3e-6
DIFFERENCE_TOKENS = 1e-5
"""Absolute, for means over 256 features of about one: float32 rounding, to which the longer mixer adds more."""
GMAC_CACHED = 43
"""What scoring against a cached reference may cost per item; the network as written does 84.6."""
CHOICE = GraphChoice(variant="student", task="nar")


def check(output: CvrkdOutput, expected: dict[str, np.ndarray]) -> None:
    largest = np.abs(expected["score"]).max()
    np.testing.assert_allclose(output.score, expected["score"], rtol=0, atol=SCORE_SHARE * largest)
    distorted = np.asarray(output.distorted_tokens).mean(-1)
    difference = np.asarray(output.difference_tokens)[-len(expected["diff_inner_mean"]) :].mean(-1)
    np.testing.assert_allclose(distorted, expected["lq_inner_mean"], rtol=0, atol=DISTORTED_TOKENS)
    np.testing.assert_allclose(difference, expected["diff_inner_mean"], rtol=0, atol=DIFFERENCE_TOKENS)


class Tokens(nn.Module):
    """The score and the tokens of both mixers; the batch comes first, as in every graph."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output = self.network(image, features)
        return output.score, output.distorted_tokens.transpose(0, 1), output.difference_tokens.transpose(0, 1)


def run(model, feeds):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {name: tensor.numpy() for name, tensor in feeds.items()})


def test_as_written(cvrkd_network, cvrkd_case):
    check(cvrkd_network(cvrkd_case.image, cvrkd_case.reference), cvrkd_case.outputs)


def test_deploy_form(cvrkd_network, cvrkd_case):
    deployed = DeployCvrkd(cvrkd_network)
    check(deployed(cvrkd_case.image, deployed.encoder(cvrkd_case.reference)), cvrkd_case.outputs)


@pytest.fixture(scope="module")
def onnx_features(cvrkd_network, cvrkd_case):
    system = find_system("cvrkd")
    encoder, _ = system.reference_split(cvrkd_network, CHOICE)
    model = to_onnx(encoder, [system.crop_input("reference")], ["reference_features"])
    return torch.from_numpy(run(model, {"reference": cvrkd_case.reference})[0])


def test_onnx_cached_reference(cvrkd_network, cvrkd_case, onnx_features):
    system = find_system("cvrkd")
    inputs = [system.crop_input("image"), system.feature_input("student")]
    model = to_onnx(Tokens(DeployCvrkd(cvrkd_network)), inputs, ["score", "distorted", "difference"])
    assert count_macs(model) / 1e9 <= GMAC_CACHED
    for items in (slice(None), slice(1, 2)):
        feeds = {"image": cvrkd_case.image[items], "reference_features": onnx_features[items]}
        score, distorted, difference = run(model, feeds)
        output = CvrkdOutput(score, np.moveaxis(distorted, 1, 0), np.moveaxis(difference, 1, 0))
        expected = {
            name: values[items] if name == "score" else values[:, items] for name, values in cvrkd_case.outputs.items()
        }
        check(output, expected)


def test_onnx_two_inputs(cvrkd_network, cvrkd_case):
    system = find_system("cvrkd")
    inputs = [system.crop_input("image"), system.crop_input("reference")]
    model = to_onnx(system.deployed(cvrkd_network, CHOICE), inputs, ["score"])
    score = run(model, {"image": cvrkd_case.image, "reference": cvrkd_case.reference})[0]
    expected = cvrkd_case.outputs["score"]
    np.testing.assert_allclose(score, expected, rtol=0, atol=SCORE_SHARE * np.abs(expected).max())


def test_outputs_tell_inputs_apart(cvrkd_network, cvrkd_case):
    """Parity would be vacuous if the score ignored an input: each moves it by far more than the tolerance."""
    deployed = DeployCvrkd(cvrkd_network)
    image, reference = cvrkd_case.image[:1], cvrkd_case.reference[:1]
    reference_features = deployed.encoder(reference)
    score = deployed(image, reference_features).score
    least = 10 * SCORE_SHARE * score.abs()
    assert (deployed(image, deployed.encoder(image)).score - score).abs() > least
    assert (deployed(reference, reference_features).score - score).abs() > least
