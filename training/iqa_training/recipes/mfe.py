"""MFE-Net's training (Yu, arXiv 2411.07556): the distortion branch by contrast, then the quality of crops.

Nothing was published about either but that they are; what is open is a setting here, with the reason for its default in
``docs/training/mfe.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional

from iqa_export.backbones import BACKBONES, load_backbone, load_encoder
from iqa_export.checkpoints import KeyMap, load_into, read_checkpoint
from iqa_export.models.mfe import CONFIGS, Mfe, MfeConfig, MfeOutput, distortion_branch, naming_layer
from iqa_export.models.mobilenet import MobileNetV2
from iqa_export.systems.mfe import MfeSystem
from iqa_runtime.errors import UsageError
from iqa_training.configuration import Count, LoopConfig, NonNegative, Positive
from iqa_training.crops import center_crop, random_crop
from iqa_training.datasets.items import Source
from iqa_training.datasets.synthetic_shards import Share
from iqa_training.distortions import MAX_STEPS, compose, draw
from iqa_training.losses.contrastive import nt_xent, same_class
from iqa_training.losses.regression import absolute_error, decorrelation, naming
from iqa_training.recipes.base import Batch, Example, Recipe, normalise, reference_of
from iqa_training.recipes.mfe_views import ColorSpace, distortion_class, names_of, two_views

Variant = Literal["van_b2", "edge"]
_TRUNK = KeyMap({"features": "distortion.features"}, (r"naming\..*",))
_NAMING = KeyMap({"weight": "naming.weight", "bias": "naming.bias"}, (r"distortion\..*",))
LAYOUTS = {"van_b2": BACKBONES["contrique"].key_map, "edge": _TRUNK}
"""What a trained distortion branch is saved as: CONTRIQUE's is the same trunk on the same input; the edge variant has
the names of the whole network, and beside the trunk what names distortions."""
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
    variant
        ``van_b2``, or ``edge``, whose branch is another trunk.
    naming
        Weight of the loss of the names of distortions, on the views of full size, beside the contrast; for the edge
        variant, which names them (our choice).
    adaptive
        Adam with decoupled weight decay instead, which needs less patience (our choice where steps are few).
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
    variant: Variant = "van_b2"
    naming: NonNegative = 0.0
    adaptive: bool = False


class ContrastiveNetwork(nn.Module):
    """The distortion branch, CONTRIQUE's projector, which scoring does without, and what names distortions, if any.

    Parameters
    ----------
    config
        Of the whole network.
    grid
        Cells along each axis of the map.
    """

    def __init__(self, config: MfeConfig, grid: int) -> None:
        super().__init__()
        self.grid, self.chosen = grid, config.feature_slice
        self.encoder = distortion_branch(config)
        self.projector = nn.Sequential(
            nn.Linear(config.features, config.features, bias=False),
            nn.BatchNorm1d(config.features),
            nn.ReLU(),
            nn.Linear(config.features, _PROJECTION, bias=False),
            nn.BatchNorm1d(_PROJECTION),
        )
        self.naming = naming_layer(config)

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map (N, 3, H, W) in [0, 1] to projections of all cells and logits of names.

        Returns
        -------
        tuple of Tensor
            (N grid^2, 128), view after view; (N, 8), or None if nothing is named.
        """
        maps = self.encoder(views)[self.chosen]
        cells = torch.cat([functional.adaptive_avg_pool2d(each, self.grid) for each in maps], 1).flatten(2)
        projected: Tensor = self.projector(functional.normalize(cells.transpose(1, 2).flatten(0, 1), dim=1))
        return projected, None if self.naming is None else self.naming(cells.mean(2))


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
        self.variant = settings.variant
        config = CONFIGS[settings.variant]
        if settings.naming and not config.named:
            raise UsageError(f"recipe {self.name}: naming: {settings.variant} names no distortions; leave it out")
        self.network = ContrastiveNetwork(config, settings.grid)
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
            "names": names_of(steps),
        }

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Contrast all cells of all views with each other, and name what was done to those of full size."""
        projected, logits = self.network(normalise(batch["views"].flatten(0, 1), MfeSystem.mean, MfeSystem.std))
        positives = same_class(batch["class"].repeat_interleave(_VIEWS * self._settings.grid**2, 0))
        contrast = nt_xent(projected, positives, self._settings.temperature)
        if logits is None or not self._settings.naming:
            return {"total": contrast}
        named = self._settings.naming * naming(logits[::_VIEWS], batch["names"])
        return {"total": contrast + named, "contrast": contrast, "naming": named}

    def parameter_groups(self, loop: LoopConfig) -> list[dict[str, object]]:
        """Let no vector decay: all of them belong to normalisation layers, or are biases."""
        children = dict(self.network.named_children())
        encoder = children.pop("encoder")
        rates = ((encoder, loop.encoder_learning_rate), (nn.ModuleList(children.values()), loop.learning_rate))
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
        """Return stochastic gradient descent with momentum, as CONTRIQUE has it, unless told otherwise."""
        if self._settings.adaptive:
            return torch.optim.AdamW(self.parameter_groups(loop))
        return torch.optim.SGD(self.parameter_groups(loop), momentum=self._settings.momentum)

    def exported(self) -> dict[str, Tensor]:
        """Return the trunk without its projector: for the next stage, not for scoring."""
        parts = [(LAYOUTS[self._settings.variant], self.network.encoder), (_NAMING, self.network.naming)]
        return {
            key_map.published(name): value
            for key_map, part in parts
            if part is not None
            for name, value in part.state_dict().items()
        }


class QualitySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set about the training of the whole network.

    Attributes
    ----------
    crop
        Side of the crops to train on, pixels, a multiple of 32; validation and scoring have the system's. 0 for these:
        smaller ones cost less, and the network takes any size (our choice where time is short).
    distortion_rate
        Learning rate of the distortion branch as a multiple of the encoder's. 0 keeps it as it is, which is how DACNN
        treats its own; 0.1 lets it follow.
    vertical_flip
        Whether crops are flipped top to bottom too, as MAMIQA's.
    variant
        ``van_b2`` or ``edge``.
    naming
        Weight of the loss of the names of distortions; for the edge variant, which names them, and for data that says
        what was done (our choice). Where the distortion branch is frozen, the layer that names learns from it.
    decorrelation
        Weight of the correlation loss beside the absolute error (our choice).
    frozen_layers
        So many of the first layers of the edge variant's pre-trained quality trunk stay as they are: they cost the
        most, and see no more than edges and grain.
    """

    crop: Annotated[int, Meta(ge=0, multiple_of=32)] = 0
    distortion_rate: NonNegative = 0.0
    vertical_flip: bool = True
    variant: Variant = "van_b2"
    naming: NonNegative = 0.0
    decorrelation: NonNegative = 0.0
    frozen_layers: Annotated[int, Meta(ge=0)] = 0


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
        self.variant = settings.variant
        self.export_options = " --distortions" if settings.naming else ""
        self.smallest = max(settings.crop, self.system.crop)
        config = self.system.configs[settings.variant]
        if settings.naming and not config.named:
            raise UsageError(f"recipe {self.name}: naming: {settings.variant} names no distortions; leave it out")
        self.network = Mfe(config)
        if "distortion" in weights:
            self._load_distortion(weights["distortion"])
        if "quality" in weights:
            kind = "mobilenetv2" if config.trunks == "mobilenet_v2" else "van"
            load_backbone(self.network.quality, weights["quality"], kind)
        if not settings.distortion_rate:
            self.network.distortion.requires_grad_(False)
        if settings.frozen_layers:
            if not isinstance(self.network.quality, MobileNetV2) or "quality" not in weights:
                raise UsageError("frozen_layers: of use for the edge variant with ``weights`` quality=FILE alone")
            self.network.quality.features[: settings.frozen_layers].requires_grad_(False)
        if self.network.naming is not None and not settings.naming:
            self.network.naming.requires_grad_(False)

    def _load_distortion(self, file: Path) -> None:
        """Load what the first stage made, or a published trunk."""
        config, naming = self.network.config, self.network.naming
        if naming is not None and _TRUNK.published("features.0.0.weight") in (own := read_checkpoint(file)).entries:
            load_into(self.network.distortion, own, _TRUNK)
            load_into(naming, own, _NAMING)
            return
        pixels = config.distortion_input == "pixels"
        mean, std = (self.system.mean, self.system.std) if pixels else (config.mean, config.std)
        load_encoder(self.network.distortion, file, mean, std)

    def example(self, source: Source, index: int, rng: np.random.Generator) -> Example:
        """Cut at a random place."""
        item = source.item(index)
        vertical_flip = self._settings.vertical_flip
        side = self._settings.crop or self.system.crop
        [crop] = random_crop([item.distorted], side, rng, vertical_flip=vertical_flip)
        example: Example = {"image": crop, "label": np.float32(item.label)}
        if self._settings.naming:
            if item.steps is None:
                raise UsageError(f"{item.content}: the data does not say what was done to it; set naming to 0")
            example["names"] = names_of(item.steps)
        return example

    def validation_example(self, source: Source, index: int) -> Example:
        """Cut the middle."""
        item = source.item(index)
        return {"image": center_crop([item.distorted], self.system.crop)[0], "label": np.float32(item.label)}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compare scores with labels, and names with what was done."""
        output = self._output(batch)
        score, settings = output.score.float(), self._settings
        parts = {"absolute_error": absolute_error(score, batch["label"])}
        if settings.decorrelation:
            parts["decorrelation"] = settings.decorrelation * decorrelation(score, batch["label"])
        if settings.naming and output.distortion_logits is not None:
            parts["naming"] = settings.naming * naming(output.distortion_logits, batch["names"])
        return {"total": torch.stack(list(parts.values())).sum(), **parts}

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Score the crops."""
        return {"nr": self._output(batch).score.float()}

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

    def _output(self, batch: Batch) -> MfeOutput:
        output: MfeOutput = self.network(normalise(batch["image"], self.system.mean, self.system.std))
        return output
