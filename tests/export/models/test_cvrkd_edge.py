"""CVRKD-IQA at edge size: its size and work, that its deploy form computes the same, its contract and its graphs."""

from dataclasses import replace

import pytest
import torch

from iqa_export.checkpoints import KeyMap, load_into, random_checkpoint
from iqa_export.listing import measure
from iqa_export.models.cvrkd import CONFIGS, CROP, Cvrkd
from iqa_export.systems import GraphChoice, find_system
from iqa_runtime.contract import PatchPlan
from iqa_runtime.scoring.resizing import format_resize

MOST_PARAMETERS = 4_000_000
MOST_GMAC = 1.5
"""Of a crop, the features of its reference at hand."""
ROUNDING = 1e-6
"""Absolute, for scores of about one in float32."""
NAR = GraphChoice(variant="edge", task="nar")


@pytest.fixture(scope="module")
def network() -> Cvrkd:
    network = Cvrkd(CONFIGS["edge"]).eval().requires_grad_(False)
    load_into(network, random_checkpoint(network, 0, KeyMap()), KeyMap())
    return network


@pytest.fixture(scope="module")
def crops() -> torch.Tensor:
    """Three of an image and three of a reference."""
    return torch.randn(2, 3, 3, CROP, CROP, generator=torch.Generator().manual_seed(1))


def test_size():
    parameters, written, deployed = measure(find_system("cvrkd"), NAR)
    assert parameters == 2_182_438 <= MOST_PARAMETERS
    # Both pictures are encoded here.
    assert deployed < written <= MOST_GMAC


def test_deploy_form(network, crops):
    """Split, whole and baked, each crop against its own crop of the reference."""
    system = find_system("cvrkd")
    image, reference = crops
    expected = network(image, reference).score
    assert expected.shape == (3,)
    [whole] = system.deployed(network, NAR)(image, reference)
    torch.testing.assert_close(whole, expected, rtol=0, atol=ROUNDING)
    encoder, scorer = system.reference_split(network, NAR)
    features = encoder(reference)
    assert features.shape[1:] == system.features_of("edge")
    [split] = scorer(image, features)
    torch.testing.assert_close(split, expected, rtol=0, atol=ROUNDING)
    [baked] = system.baked(network, NAR, features)(torch.stack([image, image.flip(0)]))
    turned = network(image.flip(0), reference).score
    torch.testing.assert_close(baked, torch.stack([expected.mean(), turned.mean()]), rtol=0, atol=ROUNDING)


def test_every_input_matters(network, crops):
    image, reference = crops
    score = network(image, reference).score
    for other in (network(image, image).score, network(reference, reference).score):
        assert ((other - score).abs() > 10 * ROUNDING).all()


def test_variant_and_contract():
    system = find_system("cvrkd")
    assert system.variant_of(system.build("edge").state_dict()) == "edge"
    assert system.variant_of({"feature_extractor.conv1.weight"}) is None
    assert system.patch_plan_of("edge") == PatchPlan(kind="five", size=CROP)
    assert system.crop_input("image", variant="edge").shape == ("batch", 3, CROP, CROP)
    assert system.crop_input("image", variant="student").shape == ("batch", 10, 3, CROP, CROP)
    assert system.crops_per_item_of("edge") == 1
    assert format_resize(system.resize_of(NAR)) == "shorter:512:bicubic:shrink:draft"
    assert system.resize_of(replace(NAR, task="fr")) is None
    assert "our own network" in system.faithful_of("edge")
    assert "full-reference metrics" in system.score_of("edge").scale
