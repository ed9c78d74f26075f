"""Small stand-ins for a system, and what is asked of the export job for one."""

from typing import ClassVar

import torch
from torch import nn

from iqa_export.checkpoints import KeyMap, random_checkpoint
from iqa_export.exporting import Request
from iqa_export.systems import GraphChoice, System
from iqa_runtime.contract import MapOutput, PatchPlan, ScoreOutput


class Network(nn.Module):
    """Mean of gated differences of a convolution's maps: small, and sensitive to all it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, 2, 1)

    def features(self, image):
        return torch.tanh(self.convolution(image))

    def forward(self, image, features):
        difference = self.features(image) - 0.5 * features
        return difference.square().mean((1, 2, 3)), difference.square().mean(1)


class Graph(nn.Module):
    def __init__(self, network, maps, encode):
        super().__init__()
        self.network, self.maps, self.encode = network, maps, encode

    def forward(self, image, other=None):
        features = self.network.features(other if other is not None else image) if self.encode else other
        score, quality = self.network(image, features)
        return (score, quality) if self.maps else (score,)


class Baked(nn.Module):
    def __init__(self, network, features):
        super().__init__()
        self.network = network
        self.register_buffer("features", features)

    def forward(self, image):
        count = len(self.features)
        features = self.features.expand(image.shape[0], *self.features.shape).flatten(0, 1)
        return (self.network(image.flatten(0, 1), features)[0].reshape(-1, count).mean(1),)


class Features(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, image):
        return self.network.features(image)


class Small(System):
    name = "small"
    title = "Small"
    paper = code = licence = weights_source = "none"
    faithful = "a stand-in"
    tasks: ClassVar = {"plain": ("nr", "fr")}
    mean = (0.5, 0.5, 0.5)
    std = (0.5, 0.5, 0.5)
    crop = 32
    patch_plan = PatchPlan(kind="five", size=32)
    score = ScoreOutput(low=0, high=1, higher_is_better=True, bounded=False, scale="none")
    map_outputs = (MapOutput(name="quality_map", rows=16, columns=16),)
    feature_shape = (4, 16, 16)

    def build(self, variant):
        return Network().eval()

    def key_map(self, variant):
        return KeyMap()

    def variant_of(self, keys):
        return None

    def as_written(self, network, choice):
        return Graph(network, choice.maps, encode=True)

    def deployed(self, network, choice):
        return Graph(network, choice.maps, encode=True)

    def reference_split(self, network, choice):
        return Features(network), Graph(network, choice.maps, encode=False)

    def baked(self, network, choice, features):
        return Baked(network, features)

    def baked_crops(self, choice, plan_count):
        return plan_count


class Returning(Small):
    """A network of one output that a test chooses."""

    def __init__(self, returned, **declared):
        self._returned = returned
        for name, value in declared.items():
            setattr(self, name, value)

    def as_written(self, network, choice):
        return Returned(network, self._returned)

    deployed = as_written


class Returned(nn.Module):
    def __init__(self, network, returned):
        super().__init__()
        self.network, self.returned = network, returned

    def forward(self, image):
        return self.returned(Graph(self.network, maps=False, encode=True)(image)[0], image)


def request(tmp_path, system=None, task="nr", maps=False, **changes) -> Request:
    system = system or Small()
    fields = {
        "system": system,
        "choice": GraphChoice(variant="plain", task=task, maps=maps),
        "checkpoint": random_checkpoint(Network(), 0, KeyMap()),
        "output": tmp_path / "small.onnx",
        "patch_plan": system.patch_plan,
    }
    return Request(**(fields | changes))
