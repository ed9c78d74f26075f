"""DRI-IQA's second stage of training (Yue et al., WACV 2025, arXiv 2411.17390): the restorer, then all with the score.

The authors published neither code nor weights; what the paper leaves open is a setting here, with the reason for its
default in ``docs/training/dri.md``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal, get_args

import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor, nn

from iqa_export.checkpoints import KeyMap, load_into, read_checkpoint
from iqa_export.models.dri import Dri
from iqa_export.models.dri_extractor import Representations
from iqa_export.systems.dri import DriSystem
from iqa_runtime.errors import UsageError
from iqa_runtime.images.loading import load_image
from iqa_training.configuration import LoopConfig, NonNegative, Positive
from iqa_training.crops import center_crop, random_crop
from iqa_training.datasets.items import Item, Source
from iqa_training.datasets.synthetic import find_photographs
from iqa_training.datasets.synthetic_shards import Share
from iqa_training.distortions import DISTORTIONS, MAX_STEPS, compose, draw
from iqa_training.losses.regression import decorrelation, squared_error
from iqa_training.losses.restoration import (
    logarithmic_error,
    representation_ratio,
    representation_semantic,
    restoration_error,
)
from iqa_training.recipes.base import Batch, Example, Recipe, normalise, reference_of
from iqa_training.recipes.dri_representation import FrozenLayers, Variant, freeze_layers, groups_of

Group = Literal["blur", "color", "compression", "noise", "brightness", "spatial", "contrast"]
PREDICTOR = ("fuse", "head")
"""The parts of `Dri` that only the score needs."""


class RestorationSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set about the training of the restorer.

    Attributes
    ----------
    pixel_loss
        ``absolute``, as the authors had before; or ``logarithmic``, PSNR turned round, by which restored pictures are
        judged (our choice where steps are few: the bad crops of a batch leave the good ones their say).
    semantic_weight
        Of the loss on representations beside that on pixels.
    rs_form
        ``softplus``: bounded differences of cosines; ``ratio``: of distances, as the authors had before.
    temperature
        Of the first form.
    photographs
        Folder of pristine photographs to degrade for the restorer. None takes the references of the data set, so it is
        for data sets without.
    variant
        ``base`` or ``edge``.
    crop
        Side of the crops to train on, pixels; validation and scoring have the system's. 0 for these: smaller ones, a
        multiple of 32, cost less, and the edge variant takes any size (our choice where time is short).
    groups
        Groups of distortions that the restorer is to undo; it learns from pictures with these alone. All of them by
        default, but nobody can tell a darkened picture from a dark one (our choice for the edge variant).
    longest
        Most distortions one after the other of the crops that the restorer's own pictures are degraded by.
    pristine
        Share of these crops that are left as they are, so that the restorer learns to leave them so, too.
    semantic_crops
        So many crops of a batch have the loss on representations, which costs about as much as the restorer; 0 for all.
    """

    pixel_loss: Literal["absolute", "logarithmic"] = "absolute"
    semantic_weight: NonNegative = 0.1
    rs_form: Literal["softplus", "ratio"] = "softplus"
    temperature: Positive = 0.1
    photographs: str | None = None
    variant: Variant = "base"
    crop: Annotated[int, Meta(ge=0, multiple_of=32)] = 0
    groups: Annotated[tuple[Group, ...], Meta(min_length=1)] = get_args(Group)
    longest: Annotated[int, Meta(ge=1, le=MAX_STEPS)] = MAX_STEPS
    pristine: Share = 0.0
    semantic_crops: Annotated[int, Meta(ge=0)] = 0


class QualitySettings(RestorationSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set about the training of the whole network.

    Attributes
    ----------
    restoration_weight
        Of the restorer's losses together, beside the squared error of the score.
    decorrelation
        Weight of the correlation loss beside the squared error (our choice).
    frozen_layers
        As in the first stage.
    """

    restoration_weight: NonNegative = 0.1
    decorrelation: NonNegative = 0.0
    frozen_layers: FrozenLayers = 0


class DriRestorationRecipe(Recipe):
    """Restore degraded crops of pristine pictures, with the extractor of stage 1 as it is and no score.

    Given a whole network that scores, it goes on with what the score does not depend on, and all else stays (our
    choice, where there is time left).
    """

    name = "dri-restoration"
    leads_to: str | None = "dri-quality --weights restorer"
    title = "DRI-IQA, arXiv 2411.17390, stage 2, warm-up: the restorer alone"
    model = "dri"
    settings: ClassVar[type[msgspec.Struct]] = RestorationSettings
    roles: ClassVar[tuple[str, ...]] = ("representation", "network")
    system: ClassVar[type[DriSystem]] = DriSystem
    trains_score: ClassVar[bool] = False
    network: Dri

    def __init__(self, settings: RestorationSettings, weights: Mapping[str, Path]) -> None:
        self._settings = settings
        self.variant = settings.variant
        self.export_options = " --restored" if settings.variant == "edge" else ""
        config = self.system().config_of(settings.variant)
        self._crop = settings.crop or config.crop
        if settings.crop and config.guidance == "positions":
            raise UsageError(f"crop: {settings.variant} has layers over positions, which fit one size; leave it out")
        if settings.photographs is not None:
            self.photographs = find_photographs(Path(settings.photographs), self._crop)
        self.needs_reference = not self.photographs
        # With photographs of its own, the restorer alone takes nothing from the data set.
        self.smallest = config.crop if self.needs_reference or self.trains_score else 1
        self.network = Dri(replace(config, crop=self._crop))
        # What is scored has another size than what is learnt from: the same weights, set before each use.
        self._scorer = self.network if self._crop == config.crop else Dri(config).requires_grad_(False)
        self._finishing = "network" in weights
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
        return groups_of(extractor, nn.ModuleList(children.values()), loop)

    def exported(self) -> dict[str, Tensor]:
        """Return all but the predictor if that is untrained: exported as a scorer it would give wrong scores."""
        return (self.network if self._finishing else _restorer(self.network)).state_dict()

    def _load(self, weights: Mapping[str, Path]) -> None:
        if len(weights) != 1:
            raise UsageError(
                f"recipe {self.name}: give either ``weights`` representation=FILE, made by dri-representation, or "
                "``weights`` network=FILE, made by dri-quality, to go on with its restorer alone"
            )
        if self._finishing:
            self.leads_to = None
            _load_part(self.network, weights["network"])
        else:
            self._load_representation(weights)

    def _load_representation(self, weights: Mapping[str, Path]) -> None:
        _load_part(nn.ModuleDict({"extractor": self.network.extractor}), weights["representation"])

    def _freeze(self) -> None:
        if self._finishing:
            self.network.requires_grad_(False)
        for part in self.network.beyond_score if self._finishing else ("extractor", *PREDICTOR):
            self.network.get_submodule(part).requires_grad_(self._finishing)

    def _degraded(self, item: Item | None, rng: np.random.Generator) -> Example:
        """Return a pristine crop, of a photograph if there is no item, and the same crop degraded."""
        if item is None:
            pristine = load_image(self.photographs[int(rng.integers(len(self.photographs)))])
        else:
            pristine = reference_of(item)
        crop = random_crop([pristine], self._crop, rng)[0]
        if rng.random() < self._settings.pristine:
            return {"degraded": crop, "pristine": crop}
        groups = self._settings.groups
        count = int(rng.integers(min(self._settings.longest, len(groups)))) + 1
        degraded = compose(crop.transpose(1, 2, 0), draw(rng, count, groups), rng)
        return {"degraded": np.ascontiguousarray(degraded.transpose(2, 0, 1)), "pristine": crop}

    def _pixels(self, crops: Tensor) -> Tensor:
        return normalise(crops, self.system.mean, self.system.std)

    def _restoration(self, restored: Tensor, degraded: Tensor, pristine: Tensor) -> dict[str, Tensor]:
        """Return the restorer's losses, their sum under ``total``."""
        compare = restoration_error if self._settings.pixel_loss == "absolute" else logarithmic_error
        error = compare(restored.float(), pristine)
        judge = self._judge.to(restored.device)
        judged = slice(self._settings.semantic_crops or None)
        restored, degraded, pristine = restored[judged], degraded[judged], pristine[judged]
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
            image, pristine = random_crop([item.distorted, reference_of(item)], self._crop, rng)
            return {"image": image, "pristine": pristine, "label": label, "undone": self._undone(item)}
        image = random_crop([item.distorted], self._crop, rng)[0]
        return {"image": image, "label": label, **self._degraded(None, rng)}

    def validation_example(self, source: Source, index: int) -> Example:
        """Cut the middle of the picture."""
        item = source.item(index)
        return {"image": center_crop([item.distorted], self._scorer.config.crop)[0], "label": np.float32(item.label)}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Score the picture; restore it or, where it has no reference, the degraded photograph."""
        image, pristine = self._pixels(batch["image"]), self._pixels(batch["pristine"])
        output = self.network(image, restore=self.needs_reference)
        if output.restored is None:
            degraded = self._pixels(batch["degraded"])
            parts = self._restoration(self.network(degraded, restore=True).restored, degraded, pristine)
        else:
            undone = batch["undone"] > 0
            parts = self._restoration(output.restored[undone], image[undone], pristine[undone]) if undone.any() else {}
        score = output.score.float()
        error = squared_error(score, batch["label"])
        total = error + self._settings.restoration_weight * parts.get("total", 0.0)
        if self._settings.decorrelation:
            parts["decorrelation"] = decorrelation(score, batch["label"])
            total = total + self._settings.decorrelation * parts["decorrelation"]
        return {**parts, "total": total, "squared_error": error}

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Score without restoring."""
        if self._scorer is not self.network:
            self._scorer.load_state_dict(self.network.state_dict())
        return {"nr": self._scorer.eval()(self._pixels(batch["image"])).score}

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
            self._load_representation(weights)

    def _freeze(self) -> None:
        """Freeze nothing unless told so: the complete network takes part."""
        freeze_layers(self.network.extractor, self._settings.frozen_layers)

    def _undone(self, item: Item) -> np.float32:
        """Whether the restorer learns from a picture: 1 unless what was done is known, and is none of its task."""
        done = {DISTORTIONS[step.name].group for step in item.steps or ()}
        return np.float32(done.issubset(self._settings.groups))


def _restorer(network: Dri) -> nn.ModuleDict:
    """Return all of the network but its predictor, under the same names."""
    return nn.ModuleDict({name: part for name, part in network.named_children() if name not in PREDICTOR})


def _load_part(part: nn.Module, path: Path) -> None:
    load_into(part, read_checkpoint(path), KeyMap(ignored=(r"projectors\..*",)))


def _halves(found: Representations) -> tuple[Tensor, Tensor]:
    return found.quality, found.degradation
