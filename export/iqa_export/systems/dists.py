"""DISTS as a system: the names of its checkpoints, its contract, its graph."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, cast

from torch import nn

from iqa_export.checkpoints import KeyMap
from iqa_export.deploy.dists import DeployDists
from iqa_export.models.dists import Dists
from iqa_export.systems.base import GraphChoice, System
from iqa_runtime.contract import PatchPlan, ScoreOutput, Task

_STAGES = 5


class DistsSystem(System):
    """DISTS, at the size that pictures have."""

    name = "dists"
    title = "DISTS"
    paper = "arXiv 2004.07728"
    code = "https://github.com/dingkeyan93/DISTS"
    licence = "MIT; the convolutions, of torchvision, BSD-3-Clause"
    faithful = "as published; distances equal to the authors' within float32 rounding"
    weights_source = "what iqa-fetch dists writes, or a state dict of the PyPI package DISTS-pytorch"
    tasks: ClassVar[dict[str, tuple[Task, ...]]] = {"vgg16": ("fr",)}
    # The picture itself is compared too, so the network normalises what its convolutions see.
    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)
    patch_plan = PatchPlan(kind="whole")
    score = ScoreOutput(
        low=0.0,
        high=None,
        higher_is_better=False,
        bounded=False,
        scale="1 minus the similarity of structure and texture, weighted for people's opinions in KADID-10k and so "
        "that resampled textures are close",
    )

    def build(self, variant: str) -> nn.Module:
        """Return the network, in evaluation mode."""
        del variant
        return Dists().eval()

    def variant_of(self, keys: Collection[str]) -> str | None:
        """Know the one variant by the weights that no other metric has."""
        return "vgg16" if {"alpha", "beta"} <= set(keys) else None

    def key_map(self, variant: str) -> KeyMap:
        """Return the authors' names; filters and normalisation are constants."""
        del variant
        prefixes = {f"trunk.stages.{index}": f"stage{index + 1}" for index in range(_STAGES)}
        return KeyMap(prefixes, (r"stage\d\.\d+\.filter", "mean", "std"))

    def as_written(self, network: nn.Module, choice: GraphChoice) -> nn.Module:
        """Return the published network."""
        del choice
        return network

    def deployed(self, network: nn.Module, choice: GraphChoice) -> nn.Module:
        """Return the form of less rounding."""
        del choice
        return DeployDists(cast(Dists, network))
