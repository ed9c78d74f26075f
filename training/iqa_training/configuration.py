"""The configuration of a training run: one YAML file, read strictly, so that a misspelt setting is an error."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from iqa_runtime.errors import FileError, UsageError
from iqa_training.datasets.synthetic_shards import SyntheticConfig

FINITE = sys.float_info.max
"""Bound that infinity is beyond."""
Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0, le=FINITE)]
NonNegative = Annotated[float, Meta(ge=0, le=FINITE)]
SYNTHETIC = "synthetic"


class LoopConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long and with what the loop trains.

    Attributes
    ----------
    epochs, batch
        Passes over the training set; pictures per step.
    learning_rate, encoder_learning_rate
        Of the recipe's optimiser, for what starts at random and for a pre-trained encoder.
    weight_decay
        Of both.
    warmup
        Share of all steps over which the rates rise linearly from zero; a cosine takes them back to zero after.
    drop_every
        Epochs after which the rates fall to a tenth, and again after as many, in place of the cosine; 0 for the cosine.
    compound_drops
        With `drop_every`: after epoch t, counted from 0, the rates fall by 10^(t // drop_every) upon all earlier falls,
        and within a few epochs to nothing. CVRKD-IQA's published script does so, which looks like a slip.
    drop_after
        Epochs after each of which the rates fall to a tenth, in place of the cosine.
    cosine_epochs
        Epochs in which a cosine takes the rates to zero, to come back up in as many, and so on, in place of one cosine
        over the run; set for whole epochs, where that one is set for each step. 0 for the one.
    renew_optimizer
        Make the optimiser anew for every epoch, so that it forgets the moments it keeps of gradients.
    clip
        Largest norm of all gradients together; longer ones are scaled down. 0 for no limit.
    precision
        Of the products in forward and backward passes; parameters stay float32. bfloat16 pays on CPUs and GPUs with
        the instructions; float16 scales the loss and is for GPUs.
    freeze_normalisation
        Keep the statistics of batch normalisation as the encoder brought them: with small batches of alike pictures,
        those of the batch would make a score depend on what else is in it.
    validate_every
        Epochs between validations; the last is always one.
    workers
        Processes that decode pictures; 0 does it in the loop.
    """

    epochs: Count = 50
    batch: Count = 8
    learning_rate: Positive = 1e-4
    encoder_learning_rate: Positive = 1e-5
    weight_decay: NonNegative = 1e-5
    warmup: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    drop_every: Annotated[int, Meta(ge=0)] = 0
    compound_drops: bool = False
    drop_after: tuple[Count, ...] = ()
    cosine_epochs: Annotated[int, Meta(ge=0)] = 0
    renew_optimizer: bool = False
    clip: NonNegative = 0.0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    freeze_normalisation: bool = True
    validate_every: Count = 1
    workers: Annotated[int, Meta(ge=0)] = 0

    def __post_init__(self) -> None:
        """Refuse settings that exclude each other."""
        schedules = {name: getattr(self, name) for name in ("drop_every", "drop_after", "cosine_epochs")}
        chosen = [name for name, value in schedules.items() if value]
        if len(chosen) > 1:
            raise ValueError(f"{' and '.join(chosen)} are schedules of the learning rate: give one of them")
        if self.compound_drops and not self.drop_every:
            raise ValueError("compound_drops is of use with drop_every alone: give that, or leave both out")


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole file.

    Attributes
    ----------
    seed
        Of weights, order, crops and every other draw.
    dataset
        A name of `iqa_training.datasets.DATASETS`, or ``synthetic`` for a folder of photographs.
    synthetic
        How a synthetic set is made; without effect on others.
    part
        The part of a data set on disk that is trained and validated on, as ``iqa-eval --split`` names parts: ``train``
        and ``official:train`` leave a test part for `iqa-eval` that training never sees.
    part_seed
        Seed of the split into ``train`` and ``test``; give ``iqa-eval --seed`` the same.
    validation
        Share of the contents of that part that validates. 0 trains on all of them and keeps the last epoch, for a data
        set that another one judges; a synthetic set has its own share.
    loop
        The training loop.
    recipe
        Settings of the recipe, checked against its own configuration.
    """

    seed: Annotated[int, Meta(ge=0)] = 0
    dataset: str = SYNTHETIC
    synthetic: SyntheticConfig = SyntheticConfig()
    part: str = "train"
    part_seed: Annotated[int, Meta(ge=0)] = 0
    validation: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    loop: LoopConfig = LoopConfig()
    recipe: dict[str, object] = {}


Settings = TypeVar("Settings", bound=msgspec.Struct)


def read_config(path: Path) -> RunConfig:
    """Read a YAML file.

    Raises
    ------
    FileError
        If it cannot be read.
    UsageError
        If it is no YAML, or a setting is unknown, of the wrong type or out of range; the message names it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror}); check ``config``") from error
    try:
        # A file without settings, be it empty or of comments, is null.
        return msgspec.yaml.decode(content, type=RunConfig | None) or RunConfig()
    except msgspec.MsgspecError as error:
        raise UsageError(f"{path}: {error}") from error


def convert_settings(settings: dict[str, object], kind: type[Settings], recipe: str) -> Settings:
    """Check the settings of a recipe against its configuration.

    Raises
    ------
    UsageError
        If one is unknown, of the wrong type or out of range.
    """
    try:
        return msgspec.convert(settings, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"recipe {recipe}: {error}") from error
