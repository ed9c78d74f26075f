"""Published backbones: tell which one a checkpoint is, and load it into the trunk of a network, to train from there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from iqa_export.checkpoints import CheckpointError, KeyMap, load_into, read_checkpoint
from iqa_export.models.mobilenet import MobileNetV2
from iqa_export.models.resnet import ResNet50
from iqa_export.models.swin import SwinT
from iqa_export.models.van import Van
from iqa_export.systems.yoto import YotoSystem

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_CHILDREN = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
"""Where the layers of ResNet-50 stand in a sequence of its children."""


def _sequence(name: str) -> KeyMap:
    """Return the names of a ResNet-50 whose children are the sequence `name`, beside a projector that is dropped."""
    return KeyMap({ours: f"{name}.{index}" for ours, index in _CHILDREN.items()}, (r"projector\..*",))


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A published checkpoint of a trunk.

    Attributes
    ----------
    kind, source, licence
        Its name here, where it is, and under which licence.
    trunk
        The network it belongs to.
    mean, std
        It was trained on RGB as ``(x / 255 - mean) / std``.
    marker
        A published key that tells it from the others.
    key_map
        Published names; classifiers, projectors, what the trunk rebuilds and the rest of a network are ignored.
    untrained
        Modules of the trunk that the checkpoint was made without: they stay as they are.
    """

    kind: str
    source: str
    licence: str
    trunk: type[nn.Module]
    marker: str
    key_map: KeyMap
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    untrained: tuple[str, ...] = ()


BACKBONES = {
    backbone.kind: backbone
    for backbone in (
        Backbone(
            kind="torchvision",
            source="resnet50-*.pth, torchvision's ImageNet weights: https://pytorch.org/vision/stable/models.html",
            licence="BSD-3-Clause (torchvision); trained on ImageNet",
            trunk=ResNet50,
            marker="layer1.0.conv1.weight",
            key_map=KeyMap(ignored=(r"fc\..*",)),
        ),
        Backbone(
            kind="contrique",
            source="CONTRIQUE_checkpoint25.tar, linked from https://github.com/pavancm/CONTRIQUE",
            licence="none stated in its README; ask its authors",
            trunk=ResNet50,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            marker="encoder.4.0.conv1.weight",
            key_map=_sequence("encoder"),
        ),
        Backbone(
            kind="arniqa",
            source="ARNIQA.pth, a release of https://github.com/miccunifi/ARNIQA",
            licence="CC BY-NC 4.0",
            trunk=ResNet50,
            marker="model.4.0.conv1.weight",
            key_map=_sequence("model"),
        ),
        Backbone(
            kind="mobilenetv2",
            source="mobilenet_v2-*.pth, torchvision's ImageNet weights: https://pytorch.org/vision/stable/models.html",
            licence="BSD-3-Clause (torchvision); trained on ImageNet",
            trunk=MobileNetV2,
            marker="features.1.conv.0.0.weight",
            key_map=KeyMap(ignored=(r"classifier\..*", r"features\.1[5-8]\..*")),
        ),
        Backbone(
            kind="van",
            source="van_base_828.pth.tar (B2), https://huggingface.co/Visual-Attention-Network/VAN-Base-original; "
            "van_tiny_754 is B0, van_small_811 B1, van_large_839 B3",
            licence="Apache-2.0; its authors ask to be contacted for commercial use",
            trunk=Van,
            marker="patch_embed1.proj.weight",
            key_map=KeyMap(ignored=(r"head\..*",)),
        ),
        Backbone(
            kind="swin",
            source="swin_tiny_patch4_window7_224*.pth, of ImageNet-22k or -1k: "
            "https://github.com/microsoft/Swin-Transformer",
            licence="MIT; trained on ImageNet",
            trunk=SwinT,
            marker="layers.0.blocks.0.attn.qkv.weight",
            # Classification ends in a norm and a head of its own, and masks no window of the last stage.
            key_map=KeyMap(ignored=(r".*\.(relative_position_index|attn_mask)", r"(norm|head)\..*")),
            untrained=("norm0", "norm1", "norm2", "norm3"),
        ),
        Backbone(
            kind="yoto-edge",
            source="yoto-edge.safetensors in iqa_export/weights, or what iqa-train yoto makes of the edge variant",
            licence="Apache-2.0; photographs and encoder weights under their own terms, see docs/models/edge.md",
            trunk=MobileNetV2,
            marker="encoder.features.1.conv.0.0.weight",
            key_map=KeyMap({"features": "encoder.features"}, (r"(?!encoder\.).*",)),
            mean=YotoSystem.mean,
            std=YotoSystem.std,
        ),
    )
}


def load_backbone(trunk: nn.Module, path: Path, kind: str | None = None) -> Backbone:
    """Fill a trunk from a published checkpoint, strictly: all but `Backbone.untrained` of the trunk has to be there.

    Parameters
    ----------
    trunk
        `ResNet50`, `MobileNetV2`, `Van` or `SwinT`; the networks of this package hold one.
    path
        A file that `iqa_export.checkpoints.read_checkpoint` reads.
    kind
        A key of `BACKBONES` to insist on; None to tell it from the file.

    Returns
    -------
    Backbone
        What it was; `mean` and `std` say which input the trunk now wants.

    Raises
    ------
    FileError, CheckpointError
        If the file cannot be read, is none of `BACKBONES` or not of the kind asked for, or does not fit the trunk.
    """
    checkpoint = read_checkpoint(path)
    found = next((backbone for backbone in BACKBONES.values() if backbone.marker in checkpoint.entries), None)
    if found is None or kind not in (None, found.kind):
        known = ", ".join(BACKBONES) if kind is None else kind
        actual = "none that is known" if found is None else found.kind
        raise CheckpointError(f"{path}: expected a backbone of kind {known}, the keys are those of {actual}")
    if not isinstance(trunk, found.trunk):
        raise CheckpointError(
            f"{path}: weights of {found.trunk.__name__} ({found.kind}) don't fit {type(trunk).__name__}; "
            f"choose {', '.join(known.kind for known in BACKBONES.values() if isinstance(trunk, known.trunk))}"
        )
    kept = {name: value for name, value in trunk.state_dict().items() if name.split(".")[0] in found.untrained}
    load_into(trunk, replace(checkpoint, entries=kept | checkpoint.entries), found.key_map)
    return found


def load_encoder(
    trunk: nn.Module, path: Path, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Backbone:
    """Fill a trunk as `load_backbone` does and adapt it to inputs ``(x / 255 - mean) / std``.

    The first convolution takes the scale; the shift goes into its bias or, where it has none, into the statistics of
    the batch normalisation after it. So the trunk computes what it was trained to, but for the border where that
    convolution pads: a zero there now stands for another grey.

    Raises
    ------
    FileError, CheckpointError
        As `load_backbone`; also if the trunk does not begin in one of these two ways.
    """
    backbone = load_backbone(trunk, path)
    norm: nn.BatchNorm2d | None = None
    if isinstance(trunk, SwinT):
        convolution = trunk.patch_embed.proj
    elif isinstance(trunk, MobileNetV2):
        convolution, norm = trunk.stem
    elif isinstance(trunk, ResNet50):
        convolution, norm = trunk.conv1, trunk.bn1
    else:
        raise CheckpointError(f"{path}: {type(trunk).__name__} cannot be adapted to another input normalisation")
    with torch.no_grad():
        shift = torch.tensor([(m - o) / s for m, o, s in zip(mean, backbone.mean, backbone.std, strict=True)])
        scale = torch.tensor([a / b for a, b in zip(std, backbone.std, strict=True)])
        shifted = (convolution.weight.sum((2, 3)) * shift).sum(1)
        if convolution.bias is not None:
            convolution.bias += shifted
        elif norm is not None and norm.running_mean is not None:
            norm.running_mean -= shifted
        else:
            raise CheckpointError(f"{path}: the first normalisation keeps no statistics and cannot be adapted")
        convolution.weight *= scale[:, None, None]
    return backbone
