"""The edge variant: small enough, one network for both tasks, exported without weights to give."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from command_line import invoke
from iqa_export.checkpoints import load_into, read_checkpoint
from iqa_export.commands.export import main
from iqa_export.deploy.yoto import DeployYoto, FeatureScorer, ReferenceEncoder
from iqa_export.models.mobilenet import MobileNetV2
from iqa_export.models.yoto import BASIS, LAYOUTS, Attention, Comparison, Yoto
from iqa_export.systems import GraphChoice, find_system
from iqa_runtime import Scorer, UsageError, read_contract
from iqa_runtime.artefacts.bundled import find_artefact

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"

MOST_PARAMETERS = 4_000_000
MOST_MACS = 3e9
EXACT = 1e-12
"""Absolute, float64: exact algebra leaves rounding alone."""
FLOAT32 = 1e-4
"""Share of the largest score between PyTorch and ONNX Runtime, as the exporter's parity check has it."""


@pytest.fixture(scope="module")
def trained():
    system = find_system("yoto")
    network = system.build("edge").requires_grad_(False)
    load_into(network, read_checkpoint(system.bundled["edge"]), system.key_map("edge"))
    return network


@pytest.fixture(scope="module")
def crops():
    generator = torch.Generator().manual_seed(5)
    return torch.randn(2, 2, 3, 224, 224, generator=generator).clamp(-1, 1)


def test_size(trained, crops):
    assert sum(parameter.numel() for parameter in trained.parameters()) <= MOST_PARAMETERS
    assert max(LAYOUTS["edge"].sizes) <= 28
    image, reference = crops[0, :1], crops[1, :1]
    for inputs in ((image,), (image, reference)):
        deployed = DeployYoto(trained, len(inputs) - 1)
        with FlopCounterMode(display=False) as counter:
            deployed(*inputs)
        assert counter.get_total_flops() / 2 <= MOST_MACS


def test_trunk_shapes():
    with torch.no_grad():
        maps = MobileNetV2().eval()(torch.zeros(1, 3, 224, 224))
    assert [tuple(stage.shape[1:]) for stage in maps] == [(384, 28, 28), (96, 14, 14), (160, 7, 7)]


def test_deploy_form_is_exact(crops):
    """With random weights in float64, maps included, so that no branch is idle."""
    torch.manual_seed(0)
    network = Yoto("edge").double().eval().requires_grad_(False)
    image, reference = crops.double()
    for segment, arguments in ((0, (image,)), (1, (image, reference))):
        expected = network(image, arguments[-1], segment)
        deployed = DeployYoto(network, segment)
        for actual, wanted in zip(deployed(*arguments), expected, strict=True):
            torch.testing.assert_close(actual, wanted, rtol=0, atol=EXACT * float(wanted.abs().max()) * 100)
    cached = FeatureScorer(deployed)(image, ReferenceEncoder(deployed)(reference))
    torch.testing.assert_close(cached.score, expected.score, rtol=0, atol=EXACT * 100)


@pytest.mark.parametrize("shape", [(2, 100, 16), (2, 4, 25, 16)])
def test_fused_attention_of_training_is_the_attention(shape):
    torch.manual_seed(0)
    attention = Attention(16).double()
    queries, keys = torch.randn(2, *shape, dtype=torch.float64)
    fused = attention.train()(queries, keys)
    torch.testing.assert_close(fused, attention.eval()(queries, keys), rtol=0, atol=EXACT)


def test_tokens_of_the_edge_variant_are_normalised(crops):
    """Whatever the size of the encoder's features: what the gates multiply stays within reach of half precision."""
    torch.manual_seed(0)
    network = Yoto("edge").eval().requires_grad_(False)
    for embed in network.embed:
        embed.weight.mul_(1e6)
    for tokens in network.side(crops[0]).tokens:
        torch.testing.assert_close(tokens.mean(-1), torch.zeros(tokens.shape[:2]), rtol=0, atol=1e-4)
        torch.testing.assert_close(tokens.var(-1, correction=0), torch.ones(tokens.shape[:2]), rtol=0, atol=1e-3)


def test_reference_that_equals_the_image_adds_nothing(crops):
    torch.manual_seed(0)
    network = Yoto("edge").eval().requires_grad_(False)
    alone = network(crops[0], crops[0], 0).score
    with torch.no_grad():
        for comparison in network.comparison:
            comparison.mix.weight.add_(1.0)
    torch.testing.assert_close(network(crops[0], crops[0], 0).score, alone, rtol=0, atol=0)


def test_comparison_tells_which_input_has_more():
    """The first half of the terms is the same both ways round, the second changes its sign."""
    torch.manual_seed(0)
    a, b = torch.randn(2, 1, 49, BASIS * 64).unbind()
    comparison = Comparison(96, 64).requires_grad_(False)
    half = comparison.mix.in_features // 2
    for kept, sign in ((slice(half), 1), (slice(half, None), -1)):
        weight = torch.zeros_like(comparison.mix.weight)
        weight[:, kept] = torch.randn(64, half)
        comparison.mix.weight.copy_(weight)
        there, back = comparison(a, b), comparison(b, a)
        assert there.abs().min() > 0
        torch.testing.assert_close(there, sign * back)
        torch.testing.assert_close(comparison(a, a), torch.zeros_like(there), rtol=0, atol=0)


def test_bundled_graphs_are_the_bundled_weights(trained, crops):
    """What the package scores with is what its PyTorch weights compute."""
    pixels = ((crops[:, 0] + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    inputs = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    expected = [
        float(trained(inputs[:1], inputs[:1], 0).score),
        float(trained(inputs[:1], inputs[1:], 1).score),
    ]
    with Scorer("edge-nr", crops="center") as alone, Scorer("edge-fr", crops="center") as compared:
        actual = [alone.score(pixels[0]).value, compared.score(pixels[0], pixels[1]).value]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=FLOAT32 * max(expected))


@pytest.mark.parametrize("arguments", [["--model", "yoto", "--variant", "edge"], ["--model", "yoto"]])
def test_export_without_weights(arguments, tmp_path):
    output = tmp_path / "edge.onnx"
    result = invoke(main, *arguments, "--task", "fr", "--output", output)
    assert result.exit_code == 0
    contract = read_contract(output)
    assert (contract.variant, contract.task, contract.weights.trained) == ("edge", "fr", True)
    assert contract.weights == read_contract(find_artefact("edge-fr")).weights
    told = "neither --weights nor --variant: exporting YOTO's edge variant" in result.stderr
    assert told == ("--variant" not in arguments)


def test_a_wheel_has_no_weights_and_says_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setitem(find_system("yoto").bundled, "edge", tmp_path / "yoto-edge.safetensors")
    result = invoke(main, "--model", "yoto", "--variant", "edge", "--output", tmp_path / "edge.onnx")
    assert result.exit_code == 2
    assert "--weights is missing" in result.stderr
    assert "export/iqa_export/weights/yoto-edge.safetensors" in result.stderr


def test_other_variants_still_want_weights():
    result = invoke(main, "--model", "yoto", "--variant", "swin_t")
    assert result.exit_code == 2
    assert "--weights is missing" in result.stderr
    assert "--variant edge needs none" in result.stderr


def test_single_segment_is_refused():
    with pytest.raises(UsageError, match="trained on both tasks"):
        find_system("yoto").check(GraphChoice(variant="edge", task="fr", segment="single"))


@pytest.mark.parametrize("name", ["edge-nr", "edge-fr", "dri-edge", "mfe-edge"])
def test_recorded_results_are_of_the_packaged_weights(name):
    """The model cards quote these files; other weights need another judgement, another export of them does not."""
    recorded = json.loads((RESULTS / f"{name}.human-scores.json").read_text())
    assert recorded["artefact"]["weights"] == read_contract(find_artefact(name)).weights.sha256
