"""LPIPS as a system: the names of its checkpoints, its contract, its graph."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, cast

from torch import nn

from iqa_export.checkpoints import KeyMap
from iqa_export.deploy.lpips import DeployLpips
from iqa_export.models.lpips import Lpips
from iqa_export.systems.base import GraphChoice, System
from iqa_runtime.contract import PatchPlan, ScoreOutput, Task

_STAGES = 5
_SMALLEST = 31
"""Least side in pixels: with less, AlexNet's second pooling has no place. VGG would take half of it; a picture is not
to have a score with one and none with the other."""


class LpipsSystem(System):
    """LPIPS with the features of AlexNet or VGG16, version 0.1."""

    name = "lpips"
    title = "LPIPS"
    paper = "arXiv 1801.03924"
    code = "https://github.com/richzhang/PerceptualSimilarity"
    licence = "BSD-2-Clause; the convolutions, of torchvision, BSD-3-Clause"
    faithful = "as published, version 0.1; distances equal to the authors' within float32 rounding"
    weights_source = "what iqa-fetch lpips-alex or lpips-vgg writes, or a state dict of the PyPI package lpips"
    tasks: ClassVar[dict[str, tuple[Task, ...]]] = {"alex": ("fr",), "vgg": ("fr",)}
    # x / 127.5 - 1, then minus the shift (-.030, -.088, -.188), by the scale (.458, .448, .450), both the authors':
    # ImageNet's normalisation of x / 255.
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    patch_plan = PatchPlan(kind="whole", smallest=_SMALLEST)
    score = ScoreOutput(
        low=0.0,
        high=None,
        higher_is_better=False,
        bounded=False,
        scale="distance of deep features, weighted by which of two distorted patches people found closer to a third",
    )

    def build(self, variant: str) -> nn.Module:
        """Return the network, in evaluation mode."""
        return Lpips(variant).eval()

    def variant_of(self, keys: Collection[str]) -> str | None:
        """Tell the features from a layer that one of them alone has."""
        if "net.slice1.2.weight" in keys:
            return "vgg"
        return "alex" if "net.slice2.3.weight" in keys else None

    def key_map(self, variant: str) -> KeyMap:
        """Return the authors' names; a state dict of theirs has the linear layers twice, and the normalisation."""
        del variant
        prefixes = {f"trunk.stages.{index}": f"net.slice{index + 1}" for index in range(_STAGES)}
        prefixes |= {f"linear.{index}": f"lin{index}.model.1" for index in range(_STAGES)}
        return KeyMap(prefixes, (r"lins\..*", r"scaling_layer\..*"))

    def as_written(self, network: nn.Module, choice: GraphChoice) -> nn.Module:
        """Return the published network."""
        del choice
        return network

    def deployed(self, network: nn.Module, choice: GraphChoice) -> nn.Module:
        """Return the form that takes both pictures as one batch."""
        del choice
        return DeployLpips(cast(Lpips, network))
