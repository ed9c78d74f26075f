"""Small networks in the four shapes that most published ones have; nothing in here knows of iqa-deploy."""

from itertools import pairwise

import torch
from torch import Tensor, nn


class Trunk(nn.Sequential):
    """Convolutions of stride 2 with normalisation: (N, 3, H, W) to (N, width, H / 8, W / 8)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for inputs, outputs in pairwise((3, width // 4, width // 2, width)):
            self.extend([nn.Conv2d(inputs, outputs, 3, 2, 1), nn.BatchNorm2d(outputs), nn.ReLU()])


class WeightedPatches(nn.Module):
    """A score and a weight for each patch of a crop, as MANIQA has them: their weighted mean, (N,), and the maps."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.trunk = Trunk(width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.score = nn.Linear(width, 1)
        self.weight = nn.Linear(width, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        features = self.trunk(image)
        tokens = features.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        scores = torch.sigmoid(self.score(tokens)).squeeze(2)
        weights = torch.sigmoid(self.weight(tokens)).squeeze(2)
        mean = (scores * weights).sum(1) / weights.sum(1)
        return {"score": mean, "scores": scores.unflatten(1, features.shape[2:])}


class WholePicture(nn.Module):
    """One score of a whole picture, (N, 1), as HyperIQA's heirs give it on KonIQ-10k."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.trunk = Trunk(width)
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.trunk(image).mean((2, 3)))


class Grades(WholePicture):
    """Logits of the grades 1 to 10, (N, 10), as NIMA's heirs give them."""

    def __init__(self, width: int = 32) -> None:
        super().__init__(width)
        self.head = nn.Linear(width, 10)


class Distance(nn.Module):
    """How far apart the features of two pictures are, (N, 1, 1, 1), as LPIPS gives it."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.trunk = Trunk(width)
        self.weigh = nn.Conv2d(width, 1, 1, bias=False)

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        difference = (self._unit(image) - self._unit(reference)).square()
        return self.weigh(difference).mean((2, 3), keepdim=True)

    def _unit(self, picture: Tensor) -> Tensor:
        features = self.trunk(picture)
        return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)
