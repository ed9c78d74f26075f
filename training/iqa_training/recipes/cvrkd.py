"""CVRKD-IQA's training (Yin et al., AAAI 2022, arXiv 2202.13123): a teacher with aligned references, then its student.

Both are the same network, trained on the labels' scale of KADID-10k, 1 to 5, which is what an artefact's scores are on.
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
from iqa_export.models.cvrkd import CROP, CROPS, DIFFERENCE_DEPTH, Cvrkd, CvrkdOutput
from iqa_export.systems.cvrkd import SCORE_ENDS, CvrkdSystem
from iqa_runtime.errors import UsageError
from iqa_runtime.images.loading import load_image
from iqa_training.configuration import LoopConfig, NonNegative
from iqa_training.crops import Picture, random_crop, turned
from iqa_training.datasets.items import Source
from iqa_training.datasets.synthetic import find_photographs
from iqa_training.losses.distillation import feature_distillation
from iqa_training.losses.regression import absolute_error
from iqa_training.recipes.base import Batch, Example, Recipe, normalise, reference_of

_KAIMING_SCALE = 0.1


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
        Of the frozen trunk's batch normalisation: ``kept``, as the checkpoint brought them, so that training sees the
        maps that scoring will; ``batch``, the authors', those of the batch, of which running ones are learnt.
    """

    flip: bool = True
    initialisation: Literal["scaled_kaiming", "pytorch"] = "scaled_kaiming"
    trunk_statistics: Literal["kept", "batch"] = "kept"


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
        How many of the difference mixer's 18 blocks follow the teacher's.
    distilled_from
        Whether these are the ``last`` or the ``first``.
    distillation_weight
        Of that loss beside the one on scores, the authors' 1.
    photographs
        Folder of clean photographs to take references from; the authors' was DIV2K. None takes the references of the
        data set, of any content.
    """

    flip: bool = False
    reference_augmentation: Literal["none", "flip", "flip_turn"] = "flip"
    distilled_blocks: Annotated[int, Meta(ge=1, le=DIFFERENCE_DEPTH)] = DIFFERENCE_DEPTH
    distilled_from: Literal["last", "first"] = "last"
    distillation_weight: NonNegative = 1.0
    photographs: str | None = None


class CvrkdTeacherRecipe(Recipe):
    """Absolute error of the score of ten random crops beside the same crops of the pristine original."""

    name = "cvrkd-teacher"
    title = "CVRKD-IQA, arXiv 2202.13123: the teacher, with aligned references"
    model = "cvrkd"
    settings: ClassVar[type[msgspec.Struct]] = TeacherSettings
    roles: ClassVar[tuple[str, ...]] = ("encoder",)
    needs_reference = True
    variant = "teacher"
    crop: ClassVar[int] = CROP
    network: Cvrkd
    _settings: TeacherSettings

    def __init__(self, settings: TeacherSettings, weights: Mapping[str, Path]) -> None:
        if "encoder" not in weights:
            raise UsageError(
                f"recipe {self.name} does not train the ResNet-50 trunk: give ``weights`` encoder=FILE, trained "
                "elsewhere"
            )
        self._settings = settings
        self.smallest = self.crop
        self.network = self._untrained()
        load_encoder(self.network.trunk, weights["encoder"], CvrkdSystem.mean, CvrkdSystem.std)
        self.network.trunk.requires_grad_(False)

    def example(self, source: Source, index: int, rng: np.random.Generator) -> Example:
        """Cut ten crops beside those of references, flipped as the settings say."""
        return self._example(source, index, rng, augmented=True)

    def validation_example(self, source: Source, index: int) -> Example:
        """Cut ten crops beside those of references, always the same and as they are."""
        return self._example(source, index, np.random.default_rng(index), augmented=False)

    def _example(self, source: Source, index: int, rng: np.random.Generator, *, augmented: bool) -> Example:
        """Cut ten crops, and the same ten of the reference."""
        item = source.item(index)
        flip = augmented and self._settings.flip
        image, reference = self._crops([item.distorted, reference_of(item)], rng, flip=flip)
        return {"image": image, "reference": reference, "label": _label(item.label)}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compare scores with labels."""
        error = absolute_error(self._output(batch).score.float(), batch["label"])
        return {"total": error, "absolute_error": error}

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Score against the references."""
        task = CvrkdSystem.tasks[self.variant][0]
        return {task: self._output(batch).score}

    def optimizer(self, loop: LoopConfig) -> torch.optim.Optimizer:
        """Return Adam as the authors had it: weight decay joins the gradient."""
        return torch.optim.Adam(self.parameter_groups(loop), weight_decay=loop.weight_decay)

    def start_epoch(self, loop: LoopConfig) -> None:
        """Let the trunk follow `TeacherSettings.trunk_statistics`, whatever the loop says."""
        super().start_epoch(loop)
        self.network.trunk.train(self._settings.trunk_statistics == "batch")

    def _untrained(self) -> Cvrkd:
        """Return a network that starts as the settings say."""
        network = Cvrkd()
        if self._settings.initialisation == "scaled_kaiming":
            for name, part in network.named_modules():
                if isinstance(part, (nn.Linear, nn.Conv2d)) and not name.startswith("trunk."):
                    nn.init.kaiming_normal_(part.weight)
                    with torch.no_grad():
                        part.weight *= _KAIMING_SCALE
                    if part.bias is not None:
                        nn.init.zeros_(part.bias)
        return network

    def _crops(self, pictures: list[Picture], rng: np.random.Generator, *, flip: bool) -> list[Picture]:
        """Cut the same ten places out of each picture: uint8, 10 x 3 x crop x crop each."""
        crops = [random_crop(pictures, self.crop, rng, flip=flip, vertical_flip=flip) for _ in range(CROPS)]
        return [np.stack(of_one) for of_one in zip(*crops, strict=True)]

    def _output(self, batch: Batch) -> CvrkdOutput:
        output: CvrkdOutput = self.network(_normalised(batch["image"]), _normalised(batch["reference"]))
        return output


class CvrkdStudentRecipe(CvrkdTeacherRecipe):
    """Score beside any clean photograph, with the difference features that the teacher has beside the original."""

    name = "cvrkd-student"
    title = "CVRKD-IQA, arXiv 2202.13123: the student, with references of any content, by distillation"
    settings = StudentSettings
    roles = ("teacher",)
    variant = "student"
    _settings: StudentSettings

    def __init__(self, settings: StudentSettings, weights: Mapping[str, Path]) -> None:
        if "teacher" not in weights:
            raise UsageError(
                f"recipe {self.name}: give ``weights`` teacher=FILE, made by {CvrkdTeacherRecipe.name} or published"
            )
        self._settings = settings
        self.smallest = self.crop
        if settings.photographs is not None:
            self.photographs = find_photographs(Path(settings.photographs), self.crop)
        self._teacher = Cvrkd().eval().requires_grad_(False)
        load_into(self._teacher, read_checkpoint(weights["teacher"]), CvrkdSystem().key_map(self.variant))
        self.network = self._untrained()
        # The trunk is trained in neither, and features can only agree if they start from the same maps.
        self.network.trunk.load_state_dict(self._teacher.trunk.state_dict())
        self.network.trunk.requires_grad_(False)

    def _example(self, source: Source, index: int, rng: np.random.Generator, *, augmented: bool) -> Example:
        """Cut ten crops, the same ten of the original for the teacher, and ten of a photograph for the student."""
        item = source.item(index)
        flip = augmented and self._settings.flip
        image, aligned = self._crops([item.distorted, reference_of(item)], rng, flip=flip)
        augmentation = self._settings.reference_augmentation if augmented else "none"
        [reference] = self._crops([self._photograph(source, rng)], rng, flip=augmentation != "none")
        if augmentation == "flip_turn":
            reference = np.stack([turned(crop, rng.uniform(-180, 180)) for crop in reference])
        return {"image": image, "aligned": aligned, "reference": reference, "label": _label(item.label)}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compare scores with labels, and difference features with the teacher's."""
        output = self._output(batch)
        with torch.no_grad():
            taught = self._teacher.to(batch["image"].device)(_normalised(batch["image"]), _normalised(batch["aligned"]))
        count = self._settings.distilled_blocks
        blocks = slice(-count, None) if self._settings.distilled_from == "last" else slice(count)
        distillation = feature_distillation(output.difference_tokens[blocks], taught.difference_tokens[blocks])
        error = absolute_error(output.score.float(), batch["label"])
        total = error + self._settings.distillation_weight * distillation
        return {"total": total, "absolute_error": error, "distillation": distillation}

    def _photograph(self, source: Source, rng: np.random.Generator) -> Picture:
        if self.photographs:
            return load_image(self.photographs[int(rng.integers(len(self.photographs)))])
        return reference_of(source.item(int(rng.integers(len(source)))))


def _normalised(crops: Tensor) -> Tensor:
    return normalise(crops, CvrkdSystem.mean, CvrkdSystem.std)


def _label(label: float) -> np.float32:
    """Map a label in 0 to 1 to the scale that the system's contract promises."""
    low, high = SCORE_ENDS
    return np.float32(low + (high - low) * label)
