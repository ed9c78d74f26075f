"""DRI-IQA's first stage of training: the two representations by contrast.

What the paper leaves open is a setting here, with the reason for its default in ``docs/training/dri.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor, nn

from iqa_export.backbones import load_encoder
from iqa_export.models.containers import NamedLayers
from iqa_export.models.dri_config import DriConfig
from iqa_export.models.dri_extractor import DualRepresentationExtractor, Projector, Representations
from iqa_export.models.mobilenet import MobileNetV2
from iqa_export.systems.dri import DriSystem
from iqa_runtime.errors import UsageError
from iqa_training.configuration import Count, LoopConfig, NonNegative, Positive
from iqa_training.crops import Picture
from iqa_training.datasets.items import Item, Source
from iqa_training.datasets.synthetic_shards import Share
from iqa_training.distortions import compose
from iqa_training.losses.representation import dual_contrast
from iqa_training.recipes.base import Batch, Example, Recipe, normalise, reference_of
from iqa_training.recipes.dri_triples import cut_patches, cut_region, draw_triple

Variant = Literal["base", "edge"]
FrozenLayers = Annotated[int, Meta(ge=0)]
_OTHER_CONTENT_TRIES = 1000


class RepresentationSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set about the training of the extractor.

    Attributes
    ----------
    patch
        Side of a patch, pixels.
    overlap
        Intersection over union of the two patches of a picture, least and most.
    x2_mode
        ``same_kind``: the second version has the distortions of the first at other levels, and is alike in
        degradation; ``independent``: drawn alone, as in QPT, and alike in nothing.
    temperature
        Of the contrastive losses.
    quality_weight, degradation_weight
        Of the two halves' losses.
    momentum
        Of stochastic gradient descent, which this stage takes in place of Adam.
    variant
        ``base``, or ``edge``, whose extractor has another trunk.
    adaptive
        Adam with decoupled weight decay instead, which needs less patience (our choice where steps are few).
    frozen_layers
        So many of the first layers of the edge variant's pre-trained trunk stay as they are: they cost the most, and
        see no more than edges and grain.
    """

    patch: Count = 160
    overlap: tuple[Share, Share] = (0.1, 0.3)
    x2_mode: Literal["same_kind", "independent"] = "same_kind"
    temperature: Positive = 0.1
    quality_weight: NonNegative = 1.0
    degradation_weight: NonNegative = 1.0
    momentum: Share = 0.9
    variant: Variant = "base"
    adaptive: bool = False
    frozen_layers: FrozenLayers = 0


class RepresentationNetwork(nn.Module):
    """The extractor under the name it has in `Dri`, and the projectors, which scoring does without."""

    def __init__(self, config: DriConfig) -> None:
        super().__init__()
        self.extractor = DualRepresentationExtractor(config)
        self.projectors = NamedLayers[Projector](
            {name: Projector(config) for name in ("quality", "degradation")}  # what the extractor calls its halves
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Project both halves of RGB in [0, 1], (B, 3, H, W): (B, projection) each."""
        found: Representations = self.extractor(image)
        return self.projectors["quality"](found.quality), self.projectors["degradation"](found.degradation)


class DriRepresentationRecipe(Recipe):
    """Contrast patches of triples, the quality half and the degradation half each by its own positives."""

    name = "dri-representation"
    leads_to = "dri-restoration --weights representation"
    title = "DRI-IQA, arXiv 2411.17390, stage 1: quality and degradation representations by contrast"
    model = "dri"
    settings = RepresentationSettings
    roles = ("encoder",)
    needs_reference = True
    contents = 2
    trains_score = False
    network: RepresentationNetwork

    def __init__(self, settings: RepresentationSettings, weights: Mapping[str, Path]) -> None:
        if settings.overlap[0] > settings.overlap[1]:
            raise UsageError(f"overlap: {settings.overlap}; give two shares, smaller first")
        self._settings = settings
        self.smallest = settings.patch
        self._same_kind = settings.x2_mode == "same_kind"
        self.variant = settings.variant
        config = DriSystem().config_of(settings.variant)
        self.network = RepresentationNetwork(config)
        if "encoder" in weights:
            trunk = self.network.extractor.trunk
            load_encoder(trunk, weights["encoder"], config.extractor_mean, config.extractor_std)
        elif settings.frozen_layers:
            raise UsageError("frozen_layers: of use with ``weights`` encoder=FILE alone; leave it out")
        freeze_layers(self.network.extractor, settings.frozen_layers)

    def example(self, source: Source, index: int, rng: np.random.Generator) -> Example:
        """Degrade the reference of picture `index` twice and that of another content once: six patches."""
        item = source.item(index)
        other = _other_content(source, item, rng)
        patch = self._settings.patch
        ours, theirs = (cut_region(reference_of(each), patch, rng) for each in (item, other))
        degradations = draw_triple(rng, same_kind=self._same_kind)
        patches: list[Picture] = []
        for region, steps in zip((ours, ours, theirs), degradations, strict=True):
            patches += cut_patches(compose(region, steps, rng), patch, self._settings.overlap, rng)
        return {"patches": np.stack(patches)}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Contrast all patches of the batch with each other."""
        quality, degradation = self.network(normalise(batch["patches"].flatten(0, 1), DriSystem.mean, DriSystem.std))
        by_quality, by_degradation = dual_contrast(
            quality, degradation, same_kind=self._same_kind, temperature=self._settings.temperature
        )
        total = self._settings.quality_weight * by_quality + self._settings.degradation_weight * by_degradation
        return {"total": total, "quality": by_quality, "degradation": by_degradation}

    def parameter_groups(self, loop: LoopConfig) -> list[dict[str, object]]:
        """Let the trunk learn at the encoder's rate, the projectors at the other."""
        return groups_of(self.network.extractor, self.network.projectors, loop)

    def optimizer(self, loop: LoopConfig) -> torch.optim.Optimizer:
        """Return stochastic gradient descent with momentum, as ARNIQA has it, unless told otherwise."""
        if self._settings.adaptive:
            return super().optimizer(loop)
        groups = self.parameter_groups(loop)
        return torch.optim.SGD(groups, momentum=self._settings.momentum, weight_decay=loop.weight_decay)


def freeze_layers(extractor: DualRepresentationExtractor, layers: int) -> None:
    """Keep the first layers of the trunk as they are.

    Raises
    ------
    UsageError
        If the trunk is not the edge variant's.
    """
    if not layers:
        return
    if not isinstance(extractor.trunk, MobileNetV2):
        raise UsageError("frozen_layers: of use for the edge variant alone; leave it out")
    extractor.trunk.features[:layers].requires_grad_(False)


def groups_of(extractor: nn.Module, others: nn.Module, loop: LoopConfig) -> list[dict[str, object]]:
    """Let the extractor learn at the encoder's rate and all else at the other, as far as they learn."""
    rated: Iterable[tuple[nn.Module, float]] = (
        (extractor, loop.encoder_learning_rate),
        (others, loop.learning_rate),
    )
    trained = [([tensor for tensor in part.parameters() if tensor.requires_grad], rate) for part, rate in rated]
    return [{"params": tensors, "lr": rate} for tensors, rate in trained if tensors]


def _other_content(source: Source, item: Item, rng: np.random.Generator) -> Item:
    """Draw a picture of another content."""
    for _ in range(_OTHER_CONTENT_TRIES):
        other = source.item(int(rng.integers(len(source))))
        if other.content != item.content:
            return other
    raise UsageError(f"{item.content}: no picture of another content to contrast with; add some")
