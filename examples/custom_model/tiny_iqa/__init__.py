"""An IQA network of one's own, registered with iqa-deploy: ``iqa-export --model tiny --weights FILE``."""

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from iqa_export.checkpoints import KeyMap
from iqa_export.systems import GraphChoice, System
from iqa_runtime.contract import PatchPlan, ScoreOutput, Task


class TinyNetwork(nn.Module):
    """Three convolutions, a mean, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        pairs = pairwise((3, 16, 32, 64))
        self.layers = nn.Sequential(*(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairs))
        self.head = nn.Linear(64, 1)

    def forward(self, image: Tensor) -> tuple[Tensor]:
        for layer in self.layers:
            image = torch.relu(layer(image))
        return (torch.sigmoid(self.head(image.mean((2, 3)))).squeeze(-1),)


class TinySystem(System):
    name = "tiny"
    title = "Tiny example network"
    paper = "none"
    code = "examples/custom_model of iqa-deploy"
    licence = "Apache-2.0"
    faithful = "the original"
    weights_source = "a state dict of TinyNetwork"
    tasks: ClassVar[dict[str, tuple[Task, ...]]] = {"small": ("nr",)}
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    crop = 128
    patch_plan = PatchPlan(kind="grid", size=128, stride=128)
    score = ScoreOutput(low=0.0, high=1.0, higher_is_better=True, bounded=True, scale="your labels, in [0, 1]")

    def build(self, variant: str) -> nn.Module:
        return TinyNetwork().eval()

    def key_map(self, variant: str) -> KeyMap:
        return KeyMap()

    def variant_of(self, keys: object) -> str:
        return "small"

    def as_written(self, network: nn.Module, choice: GraphChoice) -> nn.Module:
        return network

    def deployed(self, network: nn.Module, choice: GraphChoice) -> nn.Module:
        return network
