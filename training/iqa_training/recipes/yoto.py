"""YOTO's training (Yun and Lin, arXiv 2310.09560): one network on no-reference and full-reference batches in turn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor, nn

from iqa_export.backbones import load_backbone, load_encoder
from iqa_export.checkpoints import load_into, read_checkpoint
from iqa_export.models.mobilenet import MobileNetV2
from iqa_export.models.yoto import Side, Yoto
from iqa_export.systems.yoto import YotoSystem
from iqa_runtime.errors import UsageError
from iqa_training.configuration import Count, LoopConfig
from iqa_training.crops import Picture, center_crop, random_crop
from iqa_training.datasets.items import Item, Source
from iqa_training.losses.ranking import ranking
from iqa_training.losses.regression import decorrelation, squared_error
from iqa_training.recipes.base import Batch, Example, Recipe, normalise, reference_of

Probability = Annotated[float, Meta(ge=0, lt=1)]


class YotoSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set about YOTO's training; ``docs/training/yoto.md`` says what was published.

    Attributes
    ----------
    variant
        ``swin_t``, ``resnet50`` or ``edge``.
    mode
        ``nr``, ``fr``, or jointly: with ``mix``, the paper's way, each batch is one or the other with equal
        probability; with ``both`` (our choice where time is short) each batch is scored both ways and the losses are
        added: two encodings serve two scores. Jointly, the reference side carries its own segment embedding.
    reference_gradient
        Whether the encoding of the reference passes gradients back. Without, a step takes two thirds of the time (our
        choice where time is short): the shared weights still learn from the distorted side.
    optimizer
        ``adam``, the authors': weight decay joins the gradient; ``adamw``: it is beside it.
    attention_dropout
        Share of what the attentions between the inputs and between scales mix that is left out; the authors' is 0.1.
    drop_path
        Probability that a branch of the last block of Swin-T is left out, rising linearly from the first block's 0; the
        authors' is 0.2.
    adapt_encoder
        Whether the first layer of an encoder that is given is adapted to the network's input, so that it starts from
        the maps that it was trained to. The authors feed theirs another normalisation than ImageNet's.
    validation_crops
        How many crops of a picture are scored in validation, and averaged: 1, the middle; more, at random places, drawn
        once for each picture. The authors' training example has 20.
    frozen_layers
        So many of the first layers of the edge variant's pre-trained encoder stay as they are; what is not trained
        needs no backward pass, and the finest maps cost the most.
    decorrelation
        Weight of the correlation loss beside the paper's squared error; the paper has none.
    ranking
        Weight of the ranking loss: a quarter of the batch is blurred, and blurred again, and must score lower each
        time without a reference. What is blurred beyond recognition looks like the background of a good portrait;
        regression alone lets scores rise again there (our choice; the paper has none).
    """

    variant: Literal["swin_t", "resnet50", "edge"] = "swin_t"
    mode: Literal["nr", "fr", "mix", "both"] = "mix"
    reference_gradient: bool = True
    optimizer: Literal["adamw", "adam"] = "adamw"
    attention_dropout: Probability = 0.0
    drop_path: Probability = 0.0
    adapt_encoder: bool = True
    validation_crops: Count = 1
    frozen_layers: Annotated[int, Meta(ge=0)] = 0
    decorrelation: float = 0.0
    ranking: float = 0.0


_BOX_SIDES = (3, 5, 9, 13)
"""Pixels; two such means in a row are about a Gaussian of standard deviation 1.2, 2, 3.7 and 5.3."""
_MARGIN = 0.02
"""By which the blurred picture shall score lower: two per cent of the range of labels."""


class YotoRecipe(Recipe):
    """Squared error on the score of one random crop per picture and epoch, flipped half of the time."""

    name = "yoto"
    title = "YOTO, arXiv 2310.09560: no-reference, full-reference, or both in one network"
    model = "yoto"
    settings = YotoSettings
    roles = ("encoder", "network")
    smallest = YotoSystem.crop
    network: Yoto

    def __init__(self, settings: YotoSettings, weights: Mapping[str, Path]) -> None:
        self._settings = settings
        self.variant = settings.variant
        if settings.drop_path > 0 and settings.variant != "swin_t":
            raise UsageError(f"drop_path: of use for the variant swin_t alone, not {settings.variant}; leave it out")
        self.network = Yoto(
            settings.variant, attention_dropout=settings.attention_dropout, drop_path=settings.drop_path
        )
        if "network" in weights:
            load_into(self.network, read_checkpoint(weights["network"]), YotoSystem().key_map(settings.variant))
        if "encoder" in weights:
            if settings.adapt_encoder:
                load_encoder(self.network.encoder, weights["encoder"], YotoSystem.mean, YotoSystem.std)
            else:
                load_backbone(self.network.encoder, weights["encoder"])
        self.needs_reference = settings.mode != "nr"
        if settings.mode == "fr":
            self.export_options = " --task fr" if settings.variant == "edge" else " --task fr --segment single"
        if settings.mode == "nr":
            self.network.comparison.requires_grad_(False)
        if settings.frozen_layers > 0:
            if not isinstance(self.network.encoder, MobileNetV2) or not weights:
                raise UsageError(
                    "frozen_layers: of use for the edge variant with ``weights`` encoder=FILE or network=FILE alone"
                )
            self.network.encoder.features[: settings.frozen_layers].requires_grad_(False)

    def example(self, source: Source, index: int, rng: np.random.Generator) -> Example:
        """Cut picture and, where it is needed, reference at one random place."""
        item = source.item(index)
        return self._named(random_crop(self._pictures(item), YotoSystem.crop, rng), item.label)

    def validation_example(self, source: Source, index: int) -> Example:
        """Cut the middle, or as many crops as are set, behind one another in the first axis."""
        item = source.item(index)
        count = self._settings.validation_crops
        if count == 1:
            return self._named(center_crop(self._pictures(item), YotoSystem.crop), item.label)
        rng = np.random.default_rng(index)
        crops = [random_crop(self._pictures(item), YotoSystem.crop, rng, flip=False) for _ in range(count)]
        return self._named([np.stack(of_one) for of_one in zip(*crops, strict=True)], item.label)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compare the scores of the mode, or of the one that is drawn, with the labels."""
        mode = self._settings.mode
        if mode == "mix":
            mode = "fr" if bool(torch.rand(()) < 0.5) else "nr"
        parts: dict[str, Tensor] = {}
        for task, score in self._scores(batch, ("nr", "fr") if mode == "both" else (mode,)).items():
            parts[f"squared_error_{task}"] = squared_error(score, batch["label"])
            if self._settings.decorrelation > 0:
                weighted = self._settings.decorrelation * decorrelation(score, batch["label"])
                parts[f"decorrelation_{task}"] = weighted
            if self._settings.ranking > 0 and task == "nr":
                parts["ranking_nr"] = self._settings.ranking * self._ranking(batch["image"], score)
        return {"total": torch.stack(list(parts.values())).sum(), **parts}

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Score in every mode that is trained, the mean of a picture's crops."""
        mode = self._settings.mode
        tasks = ("nr", "fr") if mode in ("mix", "both") else (mode,)
        if batch["image"].ndim == 4:
            return self._scores(batch, tasks)
        pictures = [
            {name: crops[:, index] for name, crops in batch.items() if name != "label"}
            for index in range(self._settings.validation_crops)
        ]
        scores = [self._scores(crops, tasks) for crops in pictures]
        return {task: torch.stack([of_crop[task] for of_crop in scores]).mean(0) for task in tasks}

    def optimizer(self, loop: LoopConfig) -> torch.optim.Optimizer:
        """Return Adam with the weight decay where it is set to be."""
        if self._settings.optimizer == "adamw":
            return super().optimizer(loop)
        return torch.optim.Adam(self.parameter_groups(loop), weight_decay=loop.weight_decay)

    def _ranking(self, pictures: Tensor, scores: Tensor) -> Tensor:
        """Blur the first quarter of the pictures, then what came of it, and compare the scores of each step."""
        count = -(-len(pictures) // 4)
        once = blurred(pictures[:count])
        twice = blurred(once)
        blurry = self._scores({"image": torch.cat([once, twice])}, ("nr",))["nr"]
        worse, worst = blurry[:count], blurry[count:]
        return ranking(torch.cat([scores[:count], worse]), torch.cat([worse, worst]), _MARGIN)

    def _scores(self, batch: Batch, tasks: tuple[str, ...]) -> dict[str, Tensor]:
        """Score in the given modes; with mixed precision the encodings are in half, all after them in float32.

        The weighted mean over tokens and the gates, which nothing bounds, are not for eight bits of mantissa.
        """
        compared = "fr" in tasks
        distorted = self._encode(batch["image"], compared)
        pristine = distorted
        if compared:
            with torch.set_grad_enabled(torch.is_grad_enabled() and self._settings.reference_gradient):
                pristine = self._encode(batch["reference"], compared)
        joint = int(self._settings.mode in ("mix", "both") or self._settings.variant == "edge")
        scores = {}
        with torch.autocast(batch["image"].device.type, enabled=False):
            if "nr" in tasks:
                scores["nr"] = self.network.assess(distorted, distorted, 0).score
            if "fr" in tasks:
                scores["fr"] = self.network.assess(distorted, pristine, joint).score
        return scores

    def _encode(self, pictures: Tensor, compared: bool) -> Side:
        side = self.network.side(normalise(pictures, YotoSystem.mean, YotoSystem.std), compared)
        return Side(*([scale.float() for scale in part] for part in side))

    def _pictures(self, item: Item) -> list[Picture]:
        return [item.distorted, reference_of(item)] if self.needs_reference else [item.distorted]

    def _named(self, crops: list[Picture], label: float) -> Example:
        return {**dict(zip(("image", "reference"), crops, strict=False)), "label": np.float32(label)}


def blurred(pictures: Tensor) -> Tensor:
    """Blur pictures, (B, 3, H, W), 0 to 255, by one of four widths that is drawn for all of them; float32."""
    side = _BOX_SIDES[int(torch.randint(len(_BOX_SIDES), ()))]
    values = pictures.float()
    for _ in range(2):
        values = nn.functional.avg_pool2d(nn.functional.pad(values, 4 * (side // 2,), mode="reflect"), side, stride=1)
    return values
