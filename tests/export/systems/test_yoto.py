"""YOTO against the authors' implementation: as written, deploy form, and on ONNX Runtime; scores and token maps."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from iqa_calibration.graphs.finishing import count_macs
from iqa_export.deploy.yoto import DeployYoto, FeatureScorer, ReferenceEncoder
from iqa_export.models.yoto import YotoOutput
from iqa_export.onnx_export import to_onnx
from iqa_export.systems import find_system

SCORE_SHARE = 1e-4
"""Of the largest score: the promise made to users; rounding alone stays below 1e-6."""
TOKEN_SCORE = 2e-5
TOKEN_WEIGHT = 1e-5
ENCODER_MEAN = 5e-6
"""Absolute, for values of about one: float32 rounding of two implementations that sum in another order."""
GMAC_NR, GMAC_FR = 43, 52
"""What the exported graphs may cost per crop; the network as written does 113.5."""


def check_tokens(output: YotoOutput, expected: dict[str, np.ndarray], items: slice = slice(None)) -> None:
    score = expected["score"][items]
    np.testing.assert_allclose(output.score, score, rtol=0, atol=SCORE_SHARE * np.abs(expected["score"]).max())
    np.testing.assert_allclose(output.token_score, expected["token_score"][items], rtol=0, atol=TOKEN_SCORE)
    np.testing.assert_allclose(output.token_weight, expected["token_weight"][items], rtol=0, atol=TOKEN_WEIGHT)


class Tokens(nn.Module):
    """Everything the head computes, as outputs of a graph."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.network(*inputs))


def run_graph(model: bytes, feeds: dict[str, torch.Tensor]) -> YotoOutput:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return YotoOutput(*session.run(None, {name: tensor.numpy() for name, tensor in feeds.items()}))


def test_as_written(yoto_network, yoto_case):
    _, case = yoto_case
    check_tokens(yoto_network(case.image, case.reference, case.segment), case.outputs)
    for stage, features in enumerate(yoto_network.encoder(case.image), start=1):
        expected = case.outputs[f"encoder{stage}_mean"]
        np.testing.assert_allclose(features.mean((2, 3)), expected, rtol=0, atol=ENCODER_MEAN)


def test_deploy_form(yoto_network, yoto_case):
    name, case = yoto_case
    deployed = DeployYoto(yoto_network, case.segment)
    output = deployed(case.image) if name == "nr" else deployed(case.image, case.reference)
    check_tokens(output, case.outputs)


@pytest.fixture(scope="module")
def image_input():
    return find_system("yoto").crop_input("image")


def test_onnx_without_reference(yoto_network, image_input, load_case):
    case = load_case("yoto", "nr")
    model = to_onnx(Tokens(DeployYoto(yoto_network, 0)), [image_input], YotoOutput._fields)
    assert count_macs(model) / 1e9 <= GMAC_NR
    data = model.SerializeToString()
    check_tokens(run_graph(data, {"image": case.image}), case.outputs)
    check_tokens(run_graph(data, {"image": case.image[1:2]}), case.outputs, slice(1, 2))


def test_onnx_with_reference(yoto_network, image_input, load_case):
    case = load_case("yoto", "fr_joint")
    reference = find_system("yoto").crop_input("reference")
    model = to_onnx(Tokens(DeployYoto(yoto_network, case.segment)), [image_input, reference], YotoOutput._fields)
    assert count_macs(model) / 1e9 <= GMAC_FR
    data = model.SerializeToString()
    check_tokens(run_graph(data, {"image": case.image, "reference": case.reference}), case.outputs)
    single = {"image": case.image[2:], "reference": case.reference[2:]}
    check_tokens(run_graph(data, single), case.outputs, slice(2, 3))


def test_cached_reference(yoto_network, load_case):
    case = load_case("yoto", "fr_joint")
    deployed = DeployYoto(yoto_network, case.segment)
    features = ReferenceEncoder(deployed)(case.reference)
    assert tuple(features.shape[1:]) == find_system("yoto").features_of("swin_t")
    check_tokens(FeatureScorer(deployed)(case.image, features), case.outputs)


@pytest.mark.slow
def test_onnx_cached_reference(yoto_network, image_input, load_case):
    system = find_system("yoto")
    case = load_case("yoto", "fr_single")
    deployed = DeployYoto(yoto_network, case.segment)
    encoder = to_onnx(ReferenceEncoder(deployed), [system.crop_input("reference")], ["reference_features"])
    session = onnxruntime.InferenceSession(encoder.SerializeToString(), providers=["CPUExecutionProvider"])
    features = torch.from_numpy(session.run(None, {"reference": case.reference.numpy()})[0])
    scorer = to_onnx(Tokens(FeatureScorer(deployed)), [image_input, system.feature_input("swin_t")], YotoOutput._fields)
    feeds = {"image": case.image, "reference_features": features}
    check_tokens(run_graph(scorer.SerializeToString(), feeds), case.outputs)


def test_outputs_tell_inputs_apart(yoto_network, load_case):
    """Parity would be vacuous if the score ignored an input: each moves it by far more than the tolerance."""
    case = load_case("yoto", "fr_joint")
    deployed = DeployYoto(yoto_network, case.segment)
    image, reference = case.image[:1], case.reference[:1]
    score = deployed(image, reference).score
    least = 10 * SCORE_SHARE * score.abs()
    assert (deployed(image, image).score - score).abs() > least
    assert (deployed(reference, reference).score - score).abs() > least
