"""CVRKD-IQA's training (Yin et al., AAAI 2022, arXiv 2202.13123): a teacher with aligned references, then its student.

Both are the same network, as published or at edge size. Labels are on the scale of an artefact's scores: as published
that of KADID-10k, 1 to 5.
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

from iqa_export.backbones import load_encoder
from iqa_export.checkpoints import load_into, read_checkpoint
from iqa_export.models.cvrkd import CONFIGS, CROP, Cvrkd, CvrkdOutput
from iqa_export.models.mobilenet import MobileNetV2Pyramid
from iqa_export.systems.cvrkd import SCORE_ENDS, CvrkdSystem
from iqa_runtime.contract import Task
from iqa_runtime.errors import UsageError
from iqa_runtime.images.loading import load_image
from iqa_training.configuration import Count, LoopConfig, NonNegative
from iqa_training.crops import Picture, random_crop, turned
from iqa_training.datasets.items import Source
from iqa_training.datasets.synthetic import find_photographs
from iqa_training.losses.distillation import feature_distillation
from iqa_training.losses.regression import absolute_error, decorrelation
from iqa_training.recipes.base import Batch, Example, Recipe, normalise, reference_of
from iqa_training.recipes.cvrkd_maps import KeptMaps, projected

_KAIMING_SCALE = 0.1
_TRUNK = "trunk."


class TeacherSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set about the training of the teacher; ``docs/training/cvrkd.md`` says what was published.

    Attributes
    ----------
    flip
        Whether each crop, and with it the reference's, is flipped left to right half of the time, and top to bottom
        half of the time. The authors add a half turn half of the time, which leaves the four outcomes as likely.
    initialisation
        Of all linear and two-dimensional convolution layers but the trunk's: ``scaled_kaiming``, the authors', normal
        with a standard deviation of 0.1 sqrt(2 / fan-in) (He et al., arXiv 1502.01852, times 0.1), biases zero;
        ``pytorch``, its default. The mixers' convolutions over tokens have that always, as theirs.
    trunk_statistics
        Of the trunk's batch normalisation: ``kept``, as the checkpoint brought them, so that training sees the maps
        that scoring will; ``batch``, the authors', those of the batch, of which running ones are learnt.
    size
        ``published``, or ``edge``.
    frozen_layers
        So many of the first layers of the edge variant's trunk stay as they are, and the others learn at
        ``encoder_learning_rate``, from pictures alone: references pass no gradient to them. None freezes the trunk, as
        the authors do. A small trunk of ImageNet's knows less of quality than ResNet-50 (our choice).
    places
        Of each picture of the edge variant so many crops are cut at fixed places, one of them is drawn each time, and
        what the frozen trunk makes of it is kept in memory: steps then cost the mixers' work alone (our choice where
        time is short). All but the first are flipped left to right half of the time, whatever the other settings say.
        None cuts at random.
    maps
        Folder where these maps are kept on disk too, for the runs to come. None for memory alone.
    difference
        Whether pictures are compared with references at all. False takes the picture for its own reference, in which
        there is no difference: a no-reference twin, which shows what references bring.
    decorrelation
        Weight of the correlation loss beside the paper's absolute error; the paper has none.
    """

    flip: bool = True
    initialisation: Literal["scaled_kaiming", "pytorch"] = "scaled_kaiming"
    trunk_statistics: Literal["kept", "batch"] = "kept"
    size: Literal["published", "edge"] = "published"
    frozen_layers: Annotated[int, Meta(ge=0)] | None = None
    places: Count | None = None
    maps: str | None = None
    difference: bool = True
    decorrelation: NonNegative = 0.0


class StudentSettings(TeacherSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set about the training of the student, beyond what can be about the teacher's.

    Attributes
    ----------
    flip
        As the teacher's; the authors flip no crop of the picture here.
    reference_augmentation
        Of each crop of the student's reference: ``none``; ``flip``, along each axis half of the time; ``flip_turn``,
        the authors', which also turns it by any angle, uniform, and leaves its corners black.
    distilled_blocks
        How many of the difference mixer's blocks, 18 as published, follow the teacher's; None for all.
    distilled_from
        Whether these are the ``last`` or the ``first``.
    distillation_weight
        Of that loss beside the one on scores, the authors' 1.
    start
        What of the teacher's weights the student starts with: its ``trunk``; or ``all`` (our choice where time is
        short), the mixers that are to follow it too.
    photographs
        Folder of clean photographs to take references from; the authors' was DIV2K. None takes the references of other
        contents of the data set.
    """

    flip: bool = False
    reference_augmentation: Literal["none", "flip", "flip_turn"] = "flip"
    distilled_blocks: Count | None = None
    distilled_from: Literal["last", "first"] = "last"
    distillation_weight: NonNegative = 1.0
    start: Literal["trunk", "all"] = "trunk"
    photographs: str | None = None


class CvrkdTeacherRecipe(Recipe):
    """Absolute error of the score of random crops, as many as are judged together, beside those of the original."""

    name = "cvrkd-teacher"
    title = "CVRKD-IQA, arXiv 2202.13123: the teacher, with aligned references"
    model = "cvrkd"
    settings: ClassVar[type[msgspec.Struct]] = TeacherSettings
    roles: ClassVar[tuple[str, ...]] = ("encoder",)
    needs_reference = True
    variant: str = "teacher"
    task: ClassVar[Task] = "fr"
    crop: ClassVar[int] = CROP
    network: Cvrkd
    _settings: TeacherSettings

    def __init__(self, settings: TeacherSettings, weights: Mapping[str, Path]) -> None:
        if "encoder" not in weights:
            raise UsageError(
                f"recipe {self.name} does not train its trunk from the start: give ``weights`` encoder=FILE, trained "
                "elsewhere"
            )
        self._begin(settings)
        load_encoder(self.network.trunk, weights["encoder"], CvrkdSystem.mean, CvrkdSystem.std)

    def _begin(self, settings: TeacherSettings) -> None:
        """Take the settings, and make the network."""
        self._settings = settings
        self._config = CONFIGS[settings.size]
        self.smallest = self.crop
        self.network = self._untrained()
        frozen: nn.Module = self.network.trunk
        if settings.size == "edge":
            self.variant = "edge"
            self.export_options = f" --task {self.task}"
        if settings.frozen_layers is not None:
            if not isinstance(frozen, MobileNetV2Pyramid):
                raise UsageError(f"recipe {self.name}: frozen_layers: of use for ``size`` edge alone; leave it out")
            frozen = frozen.features[: settings.frozen_layers]
        frozen.requires_grad_(False)
        self._kept: KeptMaps | None = None
        if settings.places is not None:
            if (
                not isinstance(self.network.trunk, MobileNetV2Pyramid)
                or settings.frozen_layers is not None
                or settings.trunk_statistics != "kept"
            ):
                raise UsageError(f"recipe {self.name}: places: of use for ``size`` edge and a frozen trunk alone")
            folder = None if settings.maps is None else Path(settings.maps)
            self._kept = KeptMaps(self.network.trunk, settings.places, self.crop, folder)

    def example(self, source: Source, index: int, rng: np.random.Generator) -> Example:
        """Cut crops beside those of references, flipped as the settings say."""
        return self._example(source, index, rng, augmented=True)

    def validation_example(self, source: Source, index: int) -> Example:
        """Cut crops beside those of references, always the same and as they are."""
        return self._example(source, index, np.random.default_rng(index), augmented=False)

    def _example(self, source: Source, index: int, rng: np.random.Generator, *, augmented: bool) -> Example:
        """Cut crops, and the same of the reference."""
        if self._kept is not None:
            place = int(rng.integers(self._kept.places)) if augmented else 0
            return {
                "image": self._kept.of(source, index, place, reference=False),
                "reference": self._kept.of(source, index, place, reference=True),
                "label": self._label(source.entries[index].label),
            }
        item = source.item(index)
        flip = augmented and self._settings.flip
        image, reference = self._crops([item.distorted, reference_of(item)], rng, flip=flip)
        return {"image": image, "reference": reference, "label": self._label(item.label)}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compare scores with labels."""
        return self._losses(self._output(batch), batch)

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Score against the references."""
        return {self.task: self._output(batch).score}

    def parameter_groups(self, loop: LoopConfig) -> list[dict[str, object]]:
        """Return the trunk, as far as it is trained, at the encoder's rate, and all else."""
        trained = [(name, tensor) for name, tensor in self.network.named_parameters() if tensor.requires_grad]
        trunk = [tensor for name, tensor in trained if name.startswith(_TRUNK)]
        other = [tensor for name, tensor in trained if not name.startswith(_TRUNK)]
        groups = ((trunk, loop.encoder_learning_rate), (other, loop.learning_rate))
        return [{"params": tensors, "lr": rate} for tensors, rate in groups if tensors]

    def optimizer(self, loop: LoopConfig) -> torch.optim.Optimizer:
        """Return Adam as the authors had it: weight decay joins the gradient."""
        return torch.optim.Adam(self.parameter_groups(loop), weight_decay=loop.weight_decay)

    def start_epoch(self, loop: LoopConfig) -> None:
        """Let the trunk follow `TeacherSettings.trunk_statistics`, whatever the loop says."""
        super().start_epoch(loop)
        self.network.trunk.train(self._settings.trunk_statistics == "batch")

    def _untrained(self) -> Cvrkd:
        """Return a network that starts as the settings say."""
        network = Cvrkd(self._config)
        if self._settings.initialisation == "scaled_kaiming":
            for name, part in network.named_modules():
                if isinstance(part, (nn.Linear, nn.Conv2d)) and not name.startswith(_TRUNK):
                    nn.init.kaiming_normal_(part.weight)
                    with torch.no_grad():
                        part.weight *= _KAIMING_SCALE
                    if part.bias is not None:
                        nn.init.zeros_(part.bias)
        return network

    def _crops(self, pictures: list[Picture], rng: np.random.Generator, *, flip: bool) -> list[Picture]:
        """Cut the same places out of each picture: uint8, 10 x 3 x crop x crop each, or one without the first axis."""
        count = self._config.crops
        crops = [random_crop(pictures, self.crop, rng, flip=flip, vertical_flip=flip) for _ in range(count)]
        return [np.stack(of_one) if count > 1 else of_one[0] for of_one in zip(*crops, strict=True)]

    def _output(self, batch: Batch) -> CvrkdOutput:
        distorted = _features(self.network, batch["image"])
        if not self._settings.difference:
            return self.network.assess(distorted, distorted)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self._settings.frozen_layers is None):
            reference = _features(self.network, batch["reference"])
        return self.network.assess(distorted, reference)

    def _losses(self, output: CvrkdOutput, batch: Batch) -> dict[str, Tensor]:
        """Compare scores with labels in each way that is set."""
        score, label = output.score.float(), batch["label"]
        error = absolute_error(score, label)
        if not self._settings.decorrelation:
            return {"total": error, "absolute_error": error}
        correlation = decorrelation(score, label)
        total = error + self._settings.decorrelation * correlation
        return {"total": total, "absolute_error": error, "decorrelation": correlation}

    def _label(self, label: float) -> np.float32:
        """Map a label in 0 to 1 to the scale that the variant's contract promises."""
        low, high = SCORE_ENDS if self._settings.size == "published" else (0.0, 1.0)
        return np.float32(low + (high - low) * label)


class CvrkdStudentRecipe(CvrkdTeacherRecipe):
    """Score beside any clean photograph, with the difference features that the teacher has beside the original."""

    name = "cvrkd-student"
    title = "CVRKD-IQA, arXiv 2202.13123: the student, with references of any content, by distillation"
    settings = StudentSettings
    roles = ("teacher",)
    variant: str = "student"
    task = "nar"
    _settings: StudentSettings

    def __init__(self, settings: StudentSettings, weights: Mapping[str, Path]) -> None:
        depth = CONFIGS[settings.size].difference_depth
        if settings.distilled_blocks is not None and settings.distilled_blocks > depth:
            raise UsageError(f"recipe {self.name}: distilled_blocks: {settings.distilled_blocks} of {depth}")
        if "teacher" not in weights:
            raise UsageError(
                f"recipe {self.name}: give ``weights`` teacher=FILE, made by {CvrkdTeacherRecipe.name} or published"
            )
        self._begin(settings)
        if settings.photographs is not None:
            if self._kept is not None:
                raise UsageError(
                    f"recipe {self.name}: photographs: with ``places`` references are those of the data set"
                )
            self.photographs = find_photographs(Path(settings.photographs), self.crop)
        self._teacher = Cvrkd(self._config).eval().requires_grad_(False)
        load_into(self._teacher, read_checkpoint(weights["teacher"]), CvrkdSystem().key_map(self.variant))
        # Features can only agree if they start from the same maps.
        part = "" if settings.start == "all" else _TRUNK
        taken = {name: value for name, value in self._teacher.state_dict().items() if name.startswith(part)}
        self.network.load_state_dict(taken, strict=False)

    def _example(self, source: Source, index: int, rng: np.random.Generator, *, augmented: bool) -> Example:
        """Cut crops, the same of the original for the teacher, and as many of a photograph for the student."""
        if self._kept is not None:
            example = super()._example(source, index, rng, augmented=augmented)
            place = int(rng.integers(self._kept.places)) if augmented else 0
            other = _of_other_content(source, index, rng)
            return {
                **example,
                "aligned": example["reference"],
                "reference": self._kept.of(source, other, place, reference=True),
            }
        item = source.item(index)
        flip = augmented and self._settings.flip
        image, aligned = self._crops([item.distorted, reference_of(item)], rng, flip=flip)
        augmentation = self._settings.reference_augmentation if augmented else "none"
        [reference] = self._crops([self._photograph(source, index, rng)], rng, flip=augmentation != "none")
        if augmentation == "flip_turn":
            crops = reference.reshape(-1, *reference.shape[-3:])
            reference = np.stack([turned(crop, rng.uniform(-180, 180)) for crop in crops]).reshape(reference.shape)
        return {"image": image, "aligned": aligned, "reference": reference, "label": self._label(item.label)}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compare scores with labels, and difference features with the teacher's."""
        output = self._output(batch)
        if not self._settings.distillation_weight:
            return self._losses(output, batch)
        with torch.no_grad():
            teacher = self._teacher.to(batch["image"].device)
            taught = teacher.assess(_features(teacher, batch["image"]), _features(teacher, batch["aligned"]))
        count = self._settings.distilled_blocks or self._config.difference_depth
        blocks = slice(-count, None) if self._settings.distilled_from == "last" else slice(count)
        distillation = feature_distillation(output.difference_tokens[blocks], taught.difference_tokens[blocks])
        losses = self._losses(output, batch)
        total = losses["total"] + self._settings.distillation_weight * distillation
        return losses | {"total": total, "distillation": distillation}

    def _photograph(self, source: Source, index: int, rng: np.random.Generator) -> Picture:
        if self.photographs:
            return load_image(self.photographs[int(rng.integers(len(self.photographs)))])
        return reference_of(source.item(_of_other_content(source, index, rng)))


def _of_other_content(source: Source, index: int, rng: np.random.Generator) -> int:
    """Draw a picture of another content than that of picture `index`; of any where the data set has no other."""
    entries = source.entries
    others = [other for other, entry in enumerate(entries) if entry.content != entries[index].content]
    drawn = int(rng.integers(len(others or entries)))
    return others[drawn] if others else drawn


def _features(network: Cvrkd, pictures: Tensor) -> Tensor:
    """Encode crops, uint8, or the kept maps of crops."""
    if pictures.dtype is torch.uint8:
        return network.features(normalise(pictures, CvrkdSystem.mean, CvrkdSystem.std))
    return projected(network, pictures)
