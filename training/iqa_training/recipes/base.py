"""What the training loop needs of a recipe; one module beside this one for each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from iqa_export.systems import find_system
from iqa_runtime.errors import UsageError
from iqa_training.configuration import LoopConfig
from iqa_training.datasets.items import Item, Source

Example = dict[str, NDArray[np.uint8] | NDArray[np.float32] | np.float32]
"""Arrays of one training example by name: pictures uint8, 3 x H x W (or P x 3 x H x W), or float32 maps that a frozen
trunk made of them; labels float32 scalars."""

Batch = dict[str, Tensor]
"""Examples stacked: each tensor with a batch axis in front."""


class Recipe(ABC):
    """One published way of training, as far as it differs from others: examples, losses, which parameters.

    Attributes
    ----------
    name
        On the command line.
    title
        Paper and stage, in a phrase.
    model, variant
        What `iqa-export` calls the network that is trained; variant None if it has but one.
    settings
        Type of its configuration, a frozen msgspec struct.
    roles
        Names of the checkpoints it can start from: ``encoder``, ``teacher``...
    leads_to
        What takes the checkpoint, as ``RECIPE --weights ROLE``; None if it goes to ``iqa-export``.
    export_options
        What `iqa-export` has to be told beyond model and variant, each option after a space.
    needs_reference
        Whether every picture has to have a reference.
    smallest
        Shorter side of the smallest picture of the data set that it can use, pixels.
    contents
        How many contents each part of the data set has to have.
    photographs
        Files of photographs that it takes beside the data set.
    trains_score
        Whether there is a score to validate by; otherwise the loss validates.
    network
        What is trained, and nothing else: its state is what is saved and resumed.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    model: ClassVar[str]
    settings: ClassVar[type[msgspec.Struct]]
    roles: ClassVar[tuple[str, ...]] = ()
    leads_to: str | None = None
    export_options: str = ""
    needs_reference: bool = False
    smallest: int = 1
    contents: ClassVar[int] = 1
    photographs: Sequence[Path] = ()
    trains_score: ClassVar[bool] = True
    variant: str | None = None
    network: nn.Module

    @abstractmethod
    def __init__(self, settings: Any, weights: Mapping[str, Path]) -> None: ...

    @abstractmethod
    def example(self, source: Source, index: int, rng: np.random.Generator) -> Example:
        """Make the training example of picture `index`; crops and flips are drawn from `rng`."""

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss under ``total`` and its parts, for the log, under names of their own; all scalars."""

    def validation_example(self, source: Source, index: int) -> Example:
        """Make the example that validates on picture `index`: always the same."""
        return self.example(source, index, np.random.default_rng(index))

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Score a validation batch, (B,) by task; of recipes that train a score.

        The batch's ``label`` is what scores are compared with.
        """
        raise NotImplementedError(type(self).__name__)

    def parameter_groups(self, loop: LoopConfig) -> list[dict[str, object]]:
        """Return the optimiser's groups: as it stands, an encoder that is there learns at its own rate."""
        named = [(name, tensor) for name, tensor in self.network.named_parameters() if tensor.requires_grad]
        encoder = [tensor for name, tensor in named if ".encoder." in f".{name}"]
        other = [tensor for name, tensor in named if ".encoder." not in f".{name}"]
        groups = ((encoder, loop.encoder_learning_rate), (other, loop.learning_rate))
        return [{"params": tensors, "lr": rate} for tensors, rate in groups if tensors]

    def optimizer(self, loop: LoopConfig) -> torch.optim.Optimizer:
        """Return what steps the parameters: as it stands, Adam with decoupled weight decay."""
        fused = next(self.network.parameters()).is_cuda
        return torch.optim.AdamW(self.parameter_groups(loop), weight_decay=loop.weight_decay, fused=fused)

    def start_epoch(self, loop: LoopConfig) -> None:
        """Put the network in training mode; batch normalisation that keeps its statistics stays as in evaluation."""
        self.network.train()
        for module in self.network.modules():
            # A layer that is not trained keeps its statistics too, whatever the setting.
            if isinstance(module, nn.BatchNorm2d) and (loop.freeze_normalisation or not module.weight.requires_grad):
                module.eval()

    def exported(self) -> dict[str, Tensor]:
        """Return the state dict that ``iqa-export --weights`` takes, by the keys of published checkpoints."""
        key_map = find_system(self.model).key_map(self.variant or "")
        return {key_map.published(name): tensor for name, tensor in self.network.state_dict().items()}


def normalise(pictures: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Map uint8 (..., 3, H, W) to float32 ``(x / 255 - mean) / std`` as the graphs expect it."""
    shift = torch.tensor(mean, device=pictures.device).reshape(-1, 1, 1)
    scale = torch.tensor(std, device=pictures.device).reshape(-1, 1, 1)
    values = (pictures.float() / 255 - shift) / scale
    return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values


def reference_of(item: Item) -> NDArray[np.uint8]:
    """Return the reference of an item.

    Raises
    ------
    UsageError
        If it has none.
    """
    if item.reference is None:
        raise UsageError(f"{item.content}: this recipe compares with references and the data set has none")
    return item.reference
