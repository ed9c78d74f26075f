"""Loading published backbones: files with the keys their authors' code saves, spelt out here."""

from itertools import chain

import pytest
import torch
from torch import nn

from iqa_export.backbones import BACKBONES, IMAGENET_MEAN, IMAGENET_STD, load_backbone, load_encoder
from iqa_export.checkpoints import CheckpointError, load_into, read_checkpoint
from iqa_export.models.mobilenet import MobileNetV2Pyramid
from iqa_export.models.resnet import ResNet50
from iqa_export.models.van import SIZES, Van
from iqa_export.models.yoto import Yoto
from iqa_export.systems.yoto import EDGE_WEIGHTS, YotoSystem
from iqa_runtime.errors import FileError

ADAPTED = 1e-4
"""Absolute, for maps of about one: weights and statistics in float32, another order of sums."""
RESNET_BLOCKS = {"layer1": 3, "layer2": 4, "layer3": 6, "layer4": 3}
VAN_B2_BLOCKS = (3, 3, 12, 3)
CHILDREN = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


def layer(name: str) -> list[str]:
    return [f"{name}.weight", f"{name}.bias"]


def norm(name: str) -> list[str]:
    return [*layer(name), f"{name}.running_mean", f"{name}.running_var", f"{name}.num_batches_tracked"]


def resnet_keys() -> list[str]:
    keys = ["conv1.weight", *norm("bn1")]
    for stage, blocks in RESNET_BLOCKS.items():
        for block in range(blocks):
            for index in "123":
                keys += [f"{stage}.{block}.conv{index}.weight", *norm(f"{stage}.{block}.bn{index}")]
        keys += [f"{stage}.0.downsample.0.weight", *norm(f"{stage}.0.downsample.1")]
    return keys


def sequence_keys(prefix: str) -> list[str]:
    pairs = (key.split(".", 1) for key in resnet_keys())
    return [f"{prefix}.{CHILDREN[first]}.{rest}" for first, rest in pairs]


def van_keys() -> list[str]:
    keys = []
    for stage, blocks in enumerate(VAN_B2_BLOCKS, 1):
        keys += [*layer(f"patch_embed{stage}.proj"), *norm(f"patch_embed{stage}.norm"), *layer(f"norm{stage}")]
        for block in range(blocks):
            prefix = f"block{stage}.{block}"
            keys += [f"{prefix}.layer_scale_1", f"{prefix}.layer_scale_2"]
            keys += [*norm(f"{prefix}.norm1"), *norm(f"{prefix}.norm2")]
            gate = "attn.spatial_gating_unit"
            inner = ("attn.proj_1", f"{gate}.conv0", f"{gate}.conv_spatial", f"{gate}.conv1", "attn.proj_2")
            inner += ("mlp.fc1", "mlp.dwconv.dwconv", "mlp.fc2")
            keys += chain.from_iterable(layer(f"{prefix}.{name}") for name in inner)
    return keys


def trunk_of(kind: str) -> nn.Module:
    with torch.device("meta"):
        empty = Van(SIZES["b2"]) if kind == "van" else ResNet50()
    return empty.to_empty(device="cpu").eval()


PUBLISHED = {
    "torchvision": (resnet_keys, ["fc.weight", "fc.bias"]),
    "contrique": (
        lambda: sequence_keys("encoder"),
        ["projector.0.weight", *norm("projector.1"), "projector.3.weight", *norm("projector.4")],
    ),
    "arniqa": (lambda: sequence_keys("model"), [*layer("projector.0"), *layer("projector.2")]),
    "van": (van_keys, ["head.weight", "head.bias"]),
}


def published(kind: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return a published state and what of it belongs to the trunk, by the trunk's names; each tensor another value."""
    keys, others = PUBLISHED[kind]
    back = {index: name for name, index in CHILDREN.items()}
    shapes = trunk_of(kind).state_dict()
    state, trunk = {}, {}
    for number, key in enumerate(keys()):
        name = key
        if kind in ("contrique", "arniqa"):
            _, index, rest = key.split(".", 2)
            name = f"{back[index]}.{rest}"
        state[key] = trunk[name] = torch.full_like(shapes[name], number)
    return state | {key: torch.zeros(2) for key in others}, trunk


@pytest.mark.parametrize("kind", PUBLISHED)
def test_every_tensor_arrives(kind, tmp_path):
    state, expected = published(kind)
    path = tmp_path / "backbone.pth"
    torch.save({"state_dict": state} if kind == "van" else state, path)
    trunk = trunk_of(kind)
    assert load_backbone(trunk, path).kind == kind
    loaded = trunk.state_dict()
    assert loaded.keys() == expected.keys()
    for name, tensor in loaded.items():
        if tensor.is_floating_point():
            assert torch.equal(tensor, expected[name]), name


def test_only_contrique_sees_pixels():
    assert [kind for kind, backbone in BACKBONES.items() if backbone.mean != IMAGENET_MEAN] == [
        "contrique",
        "yoto-edge",
    ]


def save_torchvision(path, leave_out=()):
    state, _ = published("torchvision")
    torch.save({key: tensor for key, tensor in state.items() if key not in leave_out}, path)
    return path


def test_missing_tensor(tmp_path):
    path = save_torchvision(tmp_path / "short.pth", ["layer3.5.bn2.running_var"])
    with pytest.raises(CheckpointError, match=r"1 missing \(layer3\.5\.bn2\.running_var\)"):
        load_backbone(trunk_of("torchvision"), path)


def test_kind_asked_for(tmp_path):
    path = save_torchvision(tmp_path / "resnet50.pth")
    assert load_backbone(trunk_of("torchvision"), path, "torchvision").kind == "torchvision"
    with pytest.raises(CheckpointError, match="expected a backbone of kind arniqa, the keys are those of torchvision"):
        load_backbone(trunk_of("torchvision"), path, "arniqa")


def test_unknown_keys(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"features.0.weight": torch.zeros(1)}, path)
    with pytest.raises(
        CheckpointError,
        match="torchvision, contrique, arniqa, mobilenetv2, van, swin, yoto-edge, the keys are those of none",
    ):
        load_backbone(trunk_of("torchvision"), path)


def test_other_trunk(tmp_path):
    path = save_torchvision(tmp_path / "resnet50.pth")
    with pytest.raises(CheckpointError, match=r"weights of ResNet50 \(torchvision\) don't fit Van; choose van"):
        load_backbone(trunk_of("van"), path)


def test_no_file(tmp_path):
    with pytest.raises(FileError, match=r"nothing\.pth"):
        load_backbone(trunk_of("torchvision"), tmp_path / "nothing.pth")


def test_trunk_of_the_bundled_network():
    """With another normalisation it computes what it was trained to, away from the border that the first layer pads."""
    network = Yoto("edge").eval()
    load_into(network, read_checkpoint(EDGE_WEIGHTS), YotoSystem().key_map("edge"))
    trunk = MobileNetV2Pyramid().eval()
    backbone = load_encoder(trunk, EDGE_WEIGHTS, IMAGENET_MEAN, IMAGENET_STD)
    assert (backbone.kind, backbone.mean) == ("yoto-edge", YotoSystem.mean)
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    given, seen = (
        (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
        for mean, std in ((YotoSystem.mean, YotoSystem.std), (IMAGENET_MEAN, IMAGENET_STD))
    )
    with torch.no_grad():
        expected, found = network.encoder.features[:2](given), trunk.features[:2](seen)
    assert expected.std() > 0.1
    torch.testing.assert_close(found[..., 2:, 2:], expected[..., 2:, 2:], rtol=0, atol=ADAPTED)
