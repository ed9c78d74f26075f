"""CVRKD-IQA's training (Yin et al., AAAI 2022, arXiv 2202.13123): a teacher with aligned references, then its student.

Both are the same network, trained on the labels' scale of KADID-10k, 1 to 5, which is what an artefact's scores are on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

from iqa_export.backbones import load_encoder
from iqa_export.checkpoints import load_into, read_checkpoint
from iqa_export.models.cvrkd import CROP, CROPS, DIFFERENCE_DEPTH, Cvrkd, CvrkdOutput
from iqa_export.systems.cvrkd import SCORE_ENDS, CvrkdSystem
from iqa_runtime.errors import UsageError
from iqa_runtime.images.loading import load_image
from iqa_training.configuration import LoopConfig, NonNegative
from iqa_training.crops import Picture, random_crop
from iqa_training.datasets.items import Source
from iqa_training.datasets.synthetic import find_photographs
from iqa_training.losses.distillation import feature_distillation
from iqa_training.losses.regression import absolute_error
from iqa_training.recipes.base import Batch, Example, Recipe, normalise, reference_of


class TeacherSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set about the training of the teacher.

    Attributes
    ----------
    flip
        Whether crops are flipped left to right half of the time. No flips were published.
    """

    flip: bool = False


class StudentSettings(TeacherSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set about the training of the student.

    Attributes
    ----------
    distilled_blocks
        How many of the difference mixer's last blocks follow the teacher's; the authors take all 18.
    distillation_weight
        Of that loss beside the one on scores, the authors' 1.
    photographs
        Folder of clean photographs to take references from; the authors' was DIV2K. None takes the references of the
        data set, of any content.
    """

    distilled_blocks: Annotated[int, Meta(ge=1, le=DIFFERENCE_DEPTH)] = DIFFERENCE_DEPTH
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
        self.network = Cvrkd()
        load_encoder(self.network.trunk, weights["encoder"], CvrkdSystem.mean, CvrkdSystem.std)
        self.network.trunk.requires_grad_(False)

    def example(self, source: Source, index: int, rng: np.random.Generator) -> Example:
        """Cut ten crops, and the same ten of the reference."""
        item = source.item(index)
        image, reference = self._crops([item.distorted, reference_of(item)], rng)
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

    def _crops(self, pictures: list[Picture], rng: np.random.Generator) -> list[Picture]:
        """Cut the same ten places out of each picture: uint8, 10 x 3 x crop x crop each."""
        crops = [random_crop(pictures, self.crop, rng, flip=self._settings.flip) for _ in range(CROPS)]
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
        self.network = Cvrkd()
        # The trunk is trained in neither, and features can only agree if they start from the same maps.
        self.network.trunk.load_state_dict(self._teacher.trunk.state_dict())
        self.network.trunk.requires_grad_(False)

    def example(self, source: Source, index: int, rng: np.random.Generator) -> Example:
        """Cut ten crops, the same ten of the original for the teacher, and ten of a photograph for the student."""
        item = source.item(index)
        image, aligned = self._crops([item.distorted, reference_of(item)], rng)
        [reference] = self._crops([self._photograph(source, rng)], rng)
        return {"image": image, "aligned": aligned, "reference": reference, "label": _label(item.label)}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compare scores with labels, and difference features with the teacher's."""
        output = self._output(batch)
        with torch.no_grad():
            taught = self._teacher.to(batch["image"].device)(_normalised(batch["image"]), _normalised(batch["aligned"]))
        last = slice(-self._settings.distilled_blocks, None)
        distillation = feature_distillation(output.difference_tokens[last], taught.difference_tokens[last])
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
