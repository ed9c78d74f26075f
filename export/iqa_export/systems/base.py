"""What export needs to know of a system: its networks, its checkpoints, its contract, its graphs.

A new model is one module beside this one with a subclass of `System`, listed in `iqa_export.systems`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from torch import Tensor, nn

from iqa_export.checkpoints import KeyMap
from iqa_runtime.contract import (
    OWN_SIZE,
    ColorSpace,
    ExtraOutput,
    MapOutput,
    PatchPlan,
    Pooling,
    Resize,
    ScoreOutput,
    Task,
    TensorInput,
)
from iqa_runtime.errors import UsageError

UNIT_SCORE = ScoreOutput(
    low=0.0,
    high=1.0,
    higher_is_better=True,
    bounded=False,
    scale="mean opinion score of the training set, scaled to [0, 1]",
)
"""The score of networks trained on labels scaled to [0, 1]; nothing in them bounds it."""

METRIC_SCALE = "mean quantile rank of four full-reference metrics on its training set"
"""Of networks that metrics taught, and not people."""

EDGE_SIZE = Resize(to="shorter", size=512, filter="bicubic", when="shrink", draft=True)
"""To which edge variants shrink what they judge without its original: of the sizes they are trained on, 400 to 1000,
the one at which YOTO's finds pristine photographs most alike."""


@dataclass(frozen=True, kw_only=True)
class GraphChoice:
    """What of a system is exported.

    Attributes
    ----------
    variant, task
        One of the system's.
    segment
        YOTO's segment embedding in full-reference mode, ``joint`` or ``single``; None for other systems and tasks.
    maps
        Whether the quality and weight maps are outputs.
    extras
        Names of the system's other optional outputs that the graph has, in the order of `System.extras_of`.
    """

    variant: str
    task: Task
    segment: str | None = None
    maps: bool = False
    extras: tuple[str, ...] = ()


class System(ABC):
    """One published IQA system.

    Attributes
    ----------
    name, title
        Name on the command line and in the contract; name for people.
    paper, code, licence
        Where it was published, its public implementation, the licence of that implementation's weights.
    faithful
        How close our network is to the authors', in a phrase; `faithful_of` tells variants apart.
    weights_source
        Which checkpoint file to get, and where.
    weights_licence, trained_on
        Of the weights, for checkpoints that don't say it; None where that cannot be said.
    tasks
        Tasks of each variant, the default first; the variants' order is that of preference.
    segments
        What ``--segment`` may be in tasks with a reference; empty for systems without segment embedding.
    color, color_space
        Order of the channels; what pixels mean to the network, as in `iqa_runtime.contract.TensorInput`.
    mean, std
        Input normalisation on x / 255, in the order of `color`: 0 and 1/255 give 0 to 255, 0.5 and 0.5 give -1 to 1.
    crop, crops_per_item
        Side of a crop in pixels, 0 for whole pictures; how many make one item of the batch, unless
        `crops_per_item_of` says otherwise.
    patch_plan, pooling, score, map_outputs, extra_outputs
        The contract's parts; `patch_plan_of`, `score_of`, `maps_of` and `extras_of` tell variants apart.
        ``PatchPlan(kind="whole")`` takes pictures as they are: at the size that `resize` makes of them where that is
        ``exact``, else at their own.
    resize
        How pictures, references too, are resized before crops are cut or they are taken whole, unless one asks for
        another size; None if they stay as they are. `resize_of` tells variants and tasks apart.
    feature_shape
        Shape of ``reference_features`` without the batch; None for systems without a reference. `features_of` tells
        variants apart.
    bundled
        Checkpoints that come with the source code, by variant: such a variant needs no ``--weights``. Wheels have none
        of them.
    bundled_tasks
        What those were trained for, by variant; where it is not named, all of its tasks.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    code: ClassVar[str]
    licence: ClassVar[str]
    faithful: ClassVar[str]
    weights_source: ClassVar[str]
    weights_licence: ClassVar[str | None] = None
    trained_on: ClassVar[str | None] = None
    tasks: ClassVar[dict[str, tuple[Task, ...]]]
    segments: ClassVar[tuple[str, ...]] = ()
    color: ClassVar[Literal["RGB", "BGR"]] = "RGB"
    color_space: ClassVar[ColorSpace] = "sRGB"
    mean: ClassVar[tuple[float, float, float]]
    std: ClassVar[tuple[float, float, float]]
    crop: ClassVar[int] = 0
    crops_per_item: ClassVar[int] = 1
    patch_plan: ClassVar[PatchPlan]
    pooling: ClassVar[Pooling] = "mean"
    resize: ClassVar[Resize | None] = None
    score: ClassVar[ScoreOutput]
    map_outputs: ClassVar[tuple[MapOutput, ...]] = ()
    extra_outputs: ClassVar[tuple[ExtraOutput, ...]] = ()
    feature_shape: ClassVar[tuple[int, ...] | None] = None
    bundled: ClassVar[dict[str, Path]] = {}
    bundled_tasks: ClassVar[dict[str, tuple[Task, ...]]] = {}

    @property
    def origin(self) -> str:
        """Whose code the network is, for messages about what that code raises."""
        return f"``model={self.name}``: the package of {type(self).__module__}.{type(self).__qualname__}"

    @abstractmethod
    def build(self, variant: str) -> nn.Module:
        """Return the network as published, untrained, in evaluation mode."""

    @abstractmethod
    def key_map(self, variant: str) -> KeyMap:
        """Return how the network's names become those of the authors' checkpoints."""

    @abstractmethod
    def variant_of(self, keys: Collection[str]) -> str | None:
        """Return the variant a checkpoint's keys belong to, or None if they don't tell."""

    @abstractmethod
    def as_written(self, network: nn.Module, choice: GraphChoice) -> nn.Module:
        """Return the network as published behind the graph's inputs and outputs: the oracle of parity."""

    @abstractmethod
    def deployed(self, network: nn.Module, choice: GraphChoice) -> nn.Module:
        """Return the deploy form behind the graph's inputs and outputs."""

    def faithful_of(self, variant: str) -> str:
        """Return how close a variant is to the authors' network."""
        del variant
        return self.faithful

    def score_of(self, variant: str) -> ScoreOutput:
        """Return what the score of a variant means."""
        del variant
        return self.score

    def maps_of(self, variant: str) -> tuple[MapOutput, ...]:
        """Return the map outputs of a variant."""
        del variant
        return self.map_outputs

    def extras_of(self, variant: str) -> tuple[ExtraOutput, ...]:
        """Return the other optional outputs of a variant."""
        del variant
        return self.extra_outputs

    def patch_plan_of(self, variant: str) -> PatchPlan:
        """Return where the crops of a variant lie, unless one asks for other ones."""
        del variant
        return self.patch_plan

    def crops_per_item_of(self, variant: str) -> int:
        """Return how many crops make one item of a variant's batch."""
        del variant
        return self.crops_per_item

    def resize_of(self, choice: GraphChoice) -> Resize | None:
        """Return how pictures are resized, unless one asks for another size."""
        del choice
        return self.resize

    def features_of(self, variant: str) -> tuple[int, ...] | None:
        """Return the shape of a variant's ``reference_features`` without the batch."""
        del variant
        return self.feature_shape

    def reference_split(self, network: nn.Module, choice: GraphChoice) -> tuple[nn.Module, nn.Module]:
        """Return the reference encoder and the scorer that takes its features."""
        del network
        raise UsageError(
            f"{self.name}: {choice.task} has no encoder of references; leave ``cache_reference`` and "
            "``reference_image`` out"
        )

    def baked(self, network: nn.Module, choice: GraphChoice, features: Tensor) -> nn.Module:
        """Return a scorer with the features of one reference, (items, ...), as constants."""
        del network, features
        raise UsageError(f"{self.name}: {choice.task} has no reference to bake; leave ``reference_image`` out")

    def baked_crops(self, choice: GraphChoice, plan_count: int) -> int:
        """Return how many crops one item of a baked graph holds, where `plan_count` were cut from the reference.

        More than one item of the usual size where each crop has a crop of the reference to itself.
        """
        del plan_count
        return self.crops_per_item_of(choice.variant)

    @property
    def input_size(self) -> tuple[int, int] | tuple[str, str]:
        """Height and width of an input: those of a crop or, of whole pictures, of `resize` or each picture's own."""
        if self.patch_plan.kind != "whole":
            return self.crop, self.crop
        return self.resize.size if self.resize is not None and isinstance(self.resize.size, tuple) else OWN_SIZE

    def crop_input(self, name: str, crops: int | None = None, *, variant: str | None = None) -> TensorInput:
        """Describe an input of pixels, as a variant has it where that is given.

        `crops`, where given, is the number stacked in one item, be it one.
        """
        per_item = self.crops_per_item if variant is None else self.crops_per_item_of(variant)
        count = per_item if crops is None else crops
        stacked = crops is not None or per_item > 1
        return TensorInput(
            name=name,
            shape=("batch", *((count,) if stacked else ()), 3, *self.input_size),
            layout="NPCHW" if stacked else "NCHW",
            color=self.color,
            mean=self.mean,
            std=self.std,
            color_space=self.color_space,
        )

    def feature_input(self, variant: str) -> TensorInput:
        """Describe the input of cached reference features."""
        shape = self.features_of(variant)
        if shape is None:
            raise UsageError(f"{self.name} has no reference features")
        return TensorInput(name="reference_features", shape=("batch", *shape), layout="features", color=None)

    def check(self, choice: GraphChoice) -> None:
        """Refuse a choice that the system does not have.

        Raises
        ------
        UsageError
            Naming what there is instead.
        """
        if choice.variant not in self.tasks:
            raise UsageError(f"``variant={choice.variant}``: {self.name} has {', '.join(self.tasks)}")
        if choice.task not in self.tasks[choice.variant]:
            raise UsageError(
                f"``task={choice.task}``: {self.name} {choice.variant} does {', '.join(self.tasks[choice.variant])}"
            )
        if choice.maps and not self.map_outputs:
            raise UsageError(f"``maps``: {self.name} predicts no quality map; leave it out")
        known = {variant: [output.name for output in self.extras_of(variant)] for variant in self.tasks}
        for name in choice.extras:
            if name not in known[choice.variant]:
                having = next((variant for variant, names in known.items() if name in names), None)
                if having is None:
                    raise UsageError(f"``{name}``: {self.name} has no such output; leave it out")
                raise UsageError(
                    f"``{name}``: {self.name} {choice.variant} has no such output, {having} does; leave it out, or "
                    f"choose ``variant={having}``"
                )
        if choice.segment is not None and not self.segments:
            raise UsageError(f"``segment``: {self.name} has no segment embedding; leave it out")
        if choice.segment is not None and choice.segment not in self.segments:
            raise UsageError(f"``segment={choice.segment}``: there is {' and '.join(self.segments)}")
