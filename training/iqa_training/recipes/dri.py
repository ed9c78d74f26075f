"""DRI-IQA's training (Yue et al., WACV 2025, arXiv 2411.17390): the representations, then score and restorer together.

The authors published neither code nor weights; what the paper leaves open is a setting here, with the reason for its
default in ``docs/training/dri.md``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Literal

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from iqa_export.backbones import load_encoder
from iqa_export.checkpoints import KeyMap, load_into, read_checkpoint
from iqa_export.models.containers import NamedLayers
from iqa_export.models.dri import Dri, DualRepresentationExtractor, Projector, Representations
from iqa_export.models.dri_config import DriConfig
from iqa_export.systems.dri import DriSystem
from iqa_runtime.errors import UsageError
from iqa_runtime.images.loading import load_image
from iqa_training.configuration import Count, LoopConfig, NonNegative, Positive
from iqa_training.crops import Picture, center_crop, random_crop
from iqa_training.datasets.items import Item, Source
from iqa_training.datasets.synthetic import find_photographs
from iqa_training.datasets.synthetic_shards import Share
from iqa_training.distortions import compose, draw
from iqa_training.losses.regression import squared_error
from iqa_training.losses.representation import dual_contrast
from iqa_training.losses.restoration import representation_ratio, representation_semantic, restoration_error
from iqa_training.recipes.base import Batch, Example, Recipe, normalise, reference_of
from iqa_training.recipes.dri_triples import cut_patches, cut_region, draw_triple

PREDICTOR = ("fuse", "head")
"""The parts of `Dri` that only the score needs."""
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
    """

    patch: Count = 160
    overlap: tuple[Share, Share] = (0.1, 0.3)
    x2_mode: Literal["same_kind", "independent"] = "same_kind"
    temperature: Positive = 0.1
    quality_weight: NonNegative = 1.0
    degradation_weight: NonNegative = 1.0
    momentum: Share = 0.9


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
        config = DriSystem.config
        self.network = RepresentationNetwork(config)
        if "encoder" in weights:
            trunk = self.network.extractor.trunk
            load_encoder(trunk, weights["encoder"], config.extractor_mean, config.extractor_std)

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
        return _groups(self.network.extractor, self.network.projectors, loop)

    def optimizer(self, loop: LoopConfig) -> torch.optim.Optimizer:
        """Return stochastic gradient descent with momentum, as ARNIQA has it."""
        groups = self.parameter_groups(loop)
        return torch.optim.SGD(groups, momentum=self._settings.momentum, weight_decay=loop.weight_decay)


class RestorationSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set about the training of the restorer.

    Attributes
    ----------
    semantic_weight
        Of the loss on representations beside that on pixels.
    rs_form
        ``softplus``: bounded differences of cosines; ``ratio``: of distances, as the authors had before.
    temperature
        Of the first form.
    photographs
        Folder of pristine photographs to degrade for the restorer. None takes the references of the data set, so it is
        for data sets without.
    """

    semantic_weight: NonNegative = 0.1
    rs_form: Literal["softplus", "ratio"] = "softplus"
    temperature: Positive = 0.1
    photographs: str | None = None


class QualitySettings(RestorationSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set about the training of the whole network.

    Attributes
    ----------
    restoration_weight
        Of the restorer's losses together, beside the squared error of the score.
    """

    restoration_weight: NonNegative = 0.1


class DriRestorationRecipe(Recipe):
    """Restore degraded crops of pristine pictures, with the extractor of stage 1 as it is and no score."""

    name = "dri-restoration"
    leads_to: ClassVar[str | None] = "dri-quality --weights restorer"
    title = "DRI-IQA, arXiv 2411.17390, stage 2, warm-up: the restorer alone"
    model = "dri"
    settings: ClassVar[type[msgspec.Struct]] = RestorationSettings
    roles: ClassVar[tuple[str, ...]] = ("representation",)
    system: ClassVar[type[DriSystem]] = DriSystem
    trains_score: ClassVar[bool] = False
    network: Dri

    def __init__(self, settings: RestorationSettings, weights: Mapping[str, Path]) -> None:
        self._settings = settings
        if settings.photographs is not None:
            self.photographs = find_photographs(Path(settings.photographs), self.system.crop)
        self.needs_reference = not self.photographs
        # With photographs of its own, the restorer alone takes nothing from the data set.
        self.smallest = self.system.crop if self.needs_reference or self.trains_score else 1
        self.network = Dri(self.system.config)
        self._load(weights)
        # A copy that stays as stage 1 left it: judged by an extractor that learns too, any restoration could pass.
        self._judge = copy.deepcopy(self.network.extractor).eval().requires_grad_(False)
        self._freeze()

    def example(self, source: Source, index: int, rng: np.random.Generator) -> Example:
        """Degrade a crop of a photograph, or of the reference of picture `index`."""
        return self._degraded(source.item(index) if self.needs_reference else None, rng)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compare restored crops with pristine ones."""
        degraded = self._pixels(batch["degraded"])
        restored = self.network(degraded, restore=True).restored
        return self._restoration(restored, degraded, self._pixels(batch["pristine"]))

    def parameter_groups(self, loop: LoopConfig) -> list[dict[str, object]]:
        """Let the extractor learn, where it does, at the encoder's rate and all else at the other."""
        children = dict(self.network.named_children())
        extractor = children.pop("extractor")
        return _groups(extractor, nn.ModuleList(children.values()), loop)

    def exported(self) -> dict[str, Tensor]:
        """Return all but the predictor, which is untrained: exported as a scorer it would give wrong scores."""
        return _restorer(self.network).state_dict()

    def _load(self, weights: Mapping[str, Path]) -> None:
        if "representation" not in weights:
            raise UsageError(f"recipe {self.name}: give ``weights`` representation=FILE, made by dri-representation")
        _load_part(nn.ModuleDict({"extractor": self.network.extractor}), weights["representation"])

    def _freeze(self) -> None:
        for part in ("extractor", *PREDICTOR):
            self.network.get_submodule(part).requires_grad_(False)

    def _degraded(self, item: Item | None, rng: np.random.Generator) -> Example:
        """Return a pristine crop, of a photograph if there is no item, and the same crop degraded."""
        if item is None:
            pristine = load_image(self.photographs[int(rng.integers(len(self.photographs)))])
        else:
            pristine = reference_of(item)
        crop = random_crop([pristine], self.system.crop, rng)[0]
        degraded = compose(crop.transpose(1, 2, 0), draw(rng), rng)
        return {"degraded": np.ascontiguousarray(degraded.transpose(2, 0, 1)), "pristine": crop}

    def _pixels(self, crops: Tensor) -> Tensor:
        return normalise(crops, self.system.mean, self.system.std)

    def _restoration(self, restored: Tensor, degraded: Tensor, pristine: Tensor) -> dict[str, Tensor]:
        """Return the restorer's losses, their sum under ``total``."""
        error = restoration_error(restored.float(), pristine)
        judge = self._judge.to(restored.device)
        found = _halves(judge(restored))
        with torch.no_grad():
            before, aim = _halves(judge(degraded)), _halves(judge(pristine))
        if self._settings.rs_form == "softplus":
            semantic = representation_semantic(found, before, aim, self._settings.temperature)
        else:
            semantic = representation_ratio(found, before, aim)
        total = error + self._settings.semantic_weight * semantic
        return {"total": total, "restoration": error, "semantic": semantic}


class DriQualityRecipe(DriRestorationRecipe):
    """Train everything: score against label, restored crop against reference."""

    name = "dri-quality"
    leads_to = None
    title = "DRI-IQA, arXiv 2411.17390, stage 2: score and restorer together"
    settings = QualitySettings
    roles = ("representation", "restorer")
    trains_score = True
    _settings: QualitySettings

    def example(self, source: Source, index: int, rng: np.random.Generator) -> Example:
        """Cut the picture, and its reference or a degraded photograph beside it."""
        item = source.item(index)
        label = np.float32(item.label)
        if self.needs_reference:
            image, pristine = random_crop([item.distorted, reference_of(item)], self.system.crop, rng)
            return {"image": image, "pristine": pristine, "label": label}
        image = random_crop([item.distorted], self.system.crop, rng)[0]
        return {"image": image, "label": label, **self._degraded(None, rng)}

    def validation_example(self, source: Source, index: int) -> Example:
        """Cut the middle of the picture."""
        item = source.item(index)
        return {"image": center_crop([item.distorted], self.system.crop)[0], "label": np.float32(item.label)}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Score the picture; restore it or, where it has no reference, the degraded photograph."""
        image, pristine = self._pixels(batch["image"]), self._pixels(batch["pristine"])
        output = self.network(image, restore=self.needs_reference)
        degraded, restored = image, output.restored
        if restored is None:
            degraded = self._pixels(batch["degraded"])
            restored = self.network(degraded, restore=True).restored
        parts = self._restoration(restored, degraded, pristine)
        error = squared_error(output.score.float(), batch["label"])
        total = error + self._settings.restoration_weight * parts["total"]
        return {**parts, "total": total, "squared_error": error}

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Score without restoring."""
        return {"nr": self.network(self._pixels(batch["image"])).score}

    def exported(self) -> dict[str, Tensor]:
        """Return the whole network."""
        return self.network.state_dict()

    def _load(self, weights: Mapping[str, Path]) -> None:
        if len(weights) != 1:
            raise UsageError(
                f"recipe {self.name}: give either ``weights`` restorer=FILE, made by dri-restoration, or, without that "
                "warm-up, ``weights`` representation=FILE, made by dri-representation"
            )
        if "restorer" in weights:
            _load_part(_restorer(self.network), weights["restorer"])
        else:
            super()._load(weights)

    def _freeze(self) -> None:
        """Freeze nothing: the complete network takes part."""


def _other_content(source: Source, item: Item, rng: np.random.Generator) -> Item:
    """Draw a picture of another content."""
    for _ in range(_OTHER_CONTENT_TRIES):
        other = source.item(int(rng.integers(len(source))))
        if other.content != item.content:
            return other
    raise UsageError(f"{item.content}: no picture of another content to contrast with; add some")


def _groups(extractor: nn.Module, others: nn.Module, loop: LoopConfig) -> list[dict[str, object]]:
    rated: Iterable[tuple[nn.Module, float]] = (
        (extractor, loop.encoder_learning_rate),
        (others, loop.learning_rate),
    )
    trained = [([tensor for tensor in part.parameters() if tensor.requires_grad], rate) for part, rate in rated]
    return [{"params": tensors, "lr": rate} for tensors, rate in trained if tensors]


def _restorer(network: Dri) -> nn.ModuleDict:
    """Return all of the network but its predictor, under the same names."""
    return nn.ModuleDict({name: part for name, part in network.named_children() if name not in PREDICTOR})


def _load_part(part: nn.Module, path: Path) -> None:
    load_into(part, read_checkpoint(path), KeyMap(ignored=(r"projectors\..*",)))


def _halves(found: Representations) -> tuple[Tensor, Tensor]:
    return found.quality, found.degradation
