"""Small systems that take whole pictures: fully convolutional, with global pooling, alone and compared."""

from typing import ClassVar

import torch
from torch import nn

from iqa_export.checkpoints import KeyMap
from iqa_export.systems import System
from iqa_runtime.contract import MapOutput, PatchPlan, Resize, ScoreOutput


class Pooled(nn.Module):
    """Two convolutions and the mean of what they make; a pair is scored by the difference. A map of cells of 4."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 6, 5, 2, 2), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3, 2, 1), nn.Tanh()
        )

    def forward(self, image, reference=None):
        maps = self.layers(image)
        if reference is not None:
            maps = (maps - self.layers(reference)).square()
        quality = maps.mean(1)
        return quality.mean((1, 2)), quality


class Outputs(nn.Module):
    def __init__(self, network, maps):
        super().__init__()
        self.network, self.maps = network, maps

    def forward(self, *inputs):
        outputs = self.network(*inputs)
        return outputs if self.maps else outputs[:1]


class OwnSize(System):
    name = "own"
    title = "Own size"
    paper = code = licence = weights_source = "none"
    faithful = "a stand-in"
    tasks: ClassVar = {"plain": ("nr", "fr")}
    mean = (0.5, 0.5, 0.5)
    std = (0.5, 0.5, 0.5)
    patch_plan = PatchPlan(kind="whole", multiple=4, fit="reflect")
    score = ScoreOutput(low=0, high=1, higher_is_better=True, bounded=False, scale="none")
    map_outputs = (MapOutput(name="quality_map", rows=0, columns=0, cell=4),)
    network: ClassVar = Pooled

    def build(self, variant):
        return self.network().eval()

    def key_map(self, variant):
        return KeyMap()

    def variant_of(self, keys):
        return None

    def as_written(self, network, choice):
        return Outputs(network, choice.maps)

    deployed = as_written


class AnySize(OwnSize):
    """Takes pictures as they are; cells at the right and lower edge are of a part of a cell."""

    name = "any"
    patch_plan = PatchPlan(kind="whole")


class FixedSize(OwnSize):
    name = "fixed"
    patch_plan = PatchPlan(kind="whole")
    resize = Resize(to="exact", size=(24, 40), filter="bilinear")
    color = "BGR"
    map_outputs = (MapOutput(name="quality_map", rows=6, columns=10),)


class Alex(nn.Module):
    """Strides and poolings like AlexNet's, which leave nothing of a picture below 31 pixels a side."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 6, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(6, 6, 3, 1, 1), nn.MaxPool2d(3, 2)
        )

    def forward(self, image, reference=None):
        maps = self.layers(image)
        if reference is not None:
            maps = (maps - self.layers(reference)).square()
        return (maps.mean((1, 2, 3)),)


class Least(OwnSize):
    name = "least"
    patch_plan = PatchPlan(kind="whole", smallest=31)
    map_outputs = ()
    network = Alex


class Undeclared(Least):
    name = "undeclared"
    patch_plan = PatchPlan(kind="whole")


class OneSize(nn.Module):
    """Pools windows of the size that it was written for, and so is right for that size alone."""

    def forward(self, image):
        height, width = (int(side) for side in image.shape[2:])
        return (torch.nn.functional.avg_pool2d(image, (height, width)).mean((1, 2, 3)),)
