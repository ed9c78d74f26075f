"""MFE-Net's training (Yu, arXiv 2411.07556): the distortion branch by contrast, then the quality of crops.

Nothing was published about either but that they are; what is open is a setting here, with the reason for its default in
``docs/training/mfe.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional

from iqa_export.backbones import BACKBONES, load_backbone, load_encoder
from iqa_export.models.mfe import DISTORTION_FEATURES, Mfe, MfeOutput
from iqa_export.models.resnet import ResNet50
from iqa_export.systems.mfe import MfeSystem
from iqa_runtime.errors import UsageError
from iqa_training.configuration import Count, LoopConfig, NonNegative, Positive
from iqa_training.crops import center_crop, random_crop
from iqa_training.datasets.items import Source
from iqa_training.datasets.synthetic_shards import Share
from iqa_training.distortions import MAX_STEPS, compose, draw
from iqa_training.losses.contrastive import nt_xent, same_class
from iqa_training.losses.regression import absolute_error
from iqa_training.recipes.base import Batch, Example, Recipe, normalise, reference_of
from iqa_training.recipes.mfe_views import ColorSpace, distortion_class, two_views

LAYOUT = BACKBONES["contrique"]
"""What a trained distortion branch is saved as: the same trunk on the same input, so that loading needs no new case."""
_PROJECTION = 128
_VIEWS = 2


class ContrastiveSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set about the training of the distortion branch; the defaults are CONTRIQUE's unless told otherwise.

    Attributes
    ----------
    crop
        Side of a view, pixels.
    grid
        A view's map is averaged to this many cells along each axis, and each cell is contrasted by itself.
    longest
        Most distortions one after the other. CONTRIQUE has one; the branch is to cope with unknown kinds (our choice).
    levels
        Whether other levels of the same distortions are another class, as in CONTRIQUE. The branch is to tell kinds, so
        by default they are not.
    pristine
        Share of pictures that are left as they are, a class of their own: ARNIQA's.
    color_spaces
        Of a view, one is drawn.
    temperature
        Of the contrastive loss.
    momentum
        Of stochastic gradient descent, which this stage takes in place of Adam.
    """

    crop: Count = 256
    grid: Count = 2
    longest: Annotated[int, Meta(ge=1, le=MAX_STEPS)] = MAX_STEPS
    levels: bool = False
    pristine: Share = 0.05
    color_spaces: Annotated[tuple[ColorSpace, ...], Meta(min_length=1)] = (
        "rgb",
        "gray",
        "lab",
        "hsv",
        "mean_subtracted",
    )
    temperature: Positive = 0.1
    momentum: Share = 0.9


class ContrastiveNetwork(nn.Module):
    """ResNet-50 and CONTRIQUE's projector, which scoring does without.

    Parameters
    ----------
    grid
        Cells along each axis of the map.
    """

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.grid = grid
        self.encoder = ResNet50()
        self.projector = nn.Sequential(
            nn.Linear(DISTORTION_FEATURES, DISTORTION_FEATURES, bias=False),
            nn.BatchNorm1d(DISTORTION_FEATURES),
            nn.ReLU(),
            nn.Linear(DISTORTION_FEATURES, _PROJECTION, bias=False),
            nn.BatchNorm1d(_PROJECTION),
        )

    def forward(self, views: Tensor) -> Tensor:
        """Map (N, 3, H, W) in [0, 1] to the projections of all cells, (N grid^2, 128), view after view."""
        cells = functional.adaptive_avg_pool2d(self.encoder(views)[-1], self.grid)
        unit = functional.normalize(cells.flatten(2).transpose(1, 2).flatten(0, 1), dim=1)
        projected: Tensor = self.projector(unit)
        return projected


class MfeContrastiveRecipe(Recipe):
    """Contrast pictures by how they were degraded."""

    name = "mfe-contrastive"
    leads_to = "mfe-quality --weights distortion"
    title = "MFE-Net, arXiv 2411.07556, stage 1: the distortion branch by contrast"
    model = "mfe"
    settings = ContrastiveSettings
    roles = ("encoder",)
    needs_reference = True
    trains_score = False
    network: ContrastiveNetwork

    def __init__(self, settings: ContrastiveSettings, weights: Mapping[str, Path]) -> None:
        self._settings = settings
        self.network = ContrastiveNetwork(settings.grid)
        if "encoder" in weights:
            load_encoder(self.network.encoder, weights["encoder"], MfeSystem.mean, MfeSystem.std)

    def example(self, source: Source, index: int, rng: np.random.Generator) -> Example:
        """Degrade a part of the reference of picture `index`, and view it twice."""
        pristine = reference_of(source.item(index))
        # Twice a crop at most: at half the size that fills the second view, and no more has to be distorted.
        side = min(2 * self._settings.crop, *pristine.shape[:2])
        region = random_crop([pristine], side, rng, flip=False)[0].transpose(1, 2, 0)
        degrade = rng.random() >= self._settings.pristine
        steps = draw(rng, int(rng.integers(self._settings.longest)) + 1) if degrade else ()
        degraded = compose(region, steps, rng) if steps else region
        return {
            "views": two_views(degraded, self._settings.crop, self._settings.color_spaces, rng),
            "class": distortion_class(steps, levels=self._settings.levels),
        }

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Contrast all cells of all views with each other."""
        projected = self.network(normalise(batch["views"].flatten(0, 1), MfeSystem.mean, MfeSystem.std))
        positives = same_class(batch["class"].repeat_interleave(_VIEWS * self._settings.grid**2, 0))
        return {"total": nt_xent(projected, positives, self._settings.temperature)}

    def parameter_groups(self, loop: LoopConfig) -> list[dict[str, object]]:
        """Let no vector decay: all of them belong to normalisation layers."""
        rates = ((self.network.encoder, loop.encoder_learning_rate), (self.network.projector, loop.learning_rate))
        return [
            {
                "params": [tensor for tensor in part.parameters() if (tensor.ndim > 1) == decays],
                "lr": rate,
                "weight_decay": loop.weight_decay if decays else 0.0,
            }
            for part, rate in rates
            for decays in (True, False)
        ]

    def optimizer(self, loop: LoopConfig) -> torch.optim.Optimizer:
        """Return stochastic gradient descent with momentum, as CONTRIQUE has it."""
        return torch.optim.SGD(self.parameter_groups(loop), momentum=self._settings.momentum)

    def exported(self) -> dict[str, Tensor]:
        """Return the trunk alone, in the layout of CONTRIQUE's checkpoint: for the next stage, not for scoring."""
        return {LAYOUT.key_map.published(name): value for name, value in self.network.encoder.state_dict().items()}


class QualitySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set about the training of the whole network.

    Attributes
    ----------
    distortion_rate
        Learning rate of the distortion branch as a multiple of the encoder's. 0 keeps it as it is, which is how DACNN
        treats its own; 0.1 lets it follow.
    vertical_flip
        Whether crops are flipped top to bottom too, as MAMIQA's.
    """

    distortion_rate: NonNegative = 0.0
    vertical_flip: bool = True


class MfeQualityRecipe(Recipe):
    """Absolute error on the score of one random crop per picture and epoch, flipped along both axes."""

    name = "mfe-quality"
    title = "MFE-Net, arXiv 2411.07556, stage 2: quality"
    model = "mfe"
    settings = QualitySettings
    roles = ("distortion", "quality")
    system: ClassVar[type[MfeSystem]] = MfeSystem
    network: Mfe

    def __init__(self, settings: QualitySettings, weights: Mapping[str, Path]) -> None:
        if "distortion" not in weights and not settings.distortion_rate:
            raise UsageError(
                f"recipe {self.name} does not train the distortion branch: give ``weights`` distortion=FILE, "
                f"made by {MfeContrastiveRecipe.name} or a published ResNet-50, or set distortion_rate"
            )
        self._settings = settings
        self.smallest = self.system.crop
        config = self.system.config
        self.network = Mfe(config)
        if "distortion" in weights:
            pixels = config.distortion_input == "pixels"
            mean, std = (self.system.mean, self.system.std) if pixels else (config.mean, config.std)
            load_encoder(self.network.distortion, weights["distortion"], mean, std)
        if "quality" in weights:
            load_backbone(self.network.quality, weights["quality"], "van")
        if not settings.distortion_rate:
            self.network.distortion.requires_grad_(False)

    def example(self, source: Source, index: int, rng: np.random.Generator) -> Example:
        """Cut at a random place."""
        item = source.item(index)
        vertical_flip = self._settings.vertical_flip
        [crop] = random_crop([item.distorted], self.system.crop, rng, vertical_flip=vertical_flip)
        return {"image": crop, "label": np.float32(item.label)}

    def validation_example(self, source: Source, index: int) -> Example:
        """Cut the middle."""
        item = source.item(index)
        return {"image": center_crop([item.distorted], self.system.crop)[0], "label": np.float32(item.label)}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compare scores with labels."""
        error = absolute_error(self._score(batch), batch["label"])
        return {"total": error, "absolute_error": error}

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Score the crops."""
        return {"nr": self._score(batch)}

    def parameter_groups(self, loop: LoopConfig) -> list[dict[str, object]]:
        """Let the quality trunk learn at the encoder's rate, the distortion branch at its share of it."""
        children = dict(self.network.named_children())
        quality, distortion = children.pop("quality"), children.pop("distortion")
        groups = [(quality, loop.encoder_learning_rate), (nn.ModuleList(children.values()), loop.learning_rate)]
        if self._settings.distortion_rate:
            groups.insert(0, (distortion, self._settings.distortion_rate * loop.encoder_learning_rate))
        return [{"params": list(part.parameters()), "lr": rate} for part, rate in groups]

    def optimizer(self, loop: LoopConfig) -> torch.optim.Optimizer:
        """Return Adam as MAMIQA has it: weight decay joins the gradient.

        Raises
        ------
        UsageError
            If batches of one are to give statistics for batch normalisation, for some maps have but one pixel.
        """
        if loop.batch < 2 and not loop.freeze_normalisation:
            raise UsageError(f"recipe {self.name}: batch is {loop.batch}; give 2 or more, or set freeze_normalisation")
        return torch.optim.Adam(self.parameter_groups(loop), weight_decay=loop.weight_decay)

    def _score(self, batch: Batch) -> Tensor:
        output: MfeOutput = self.network(normalise(batch["image"], self.system.mean, self.system.std))
        return output.score.float()
