"""A system made of a module and a contract file, so that a network needs no class of ours."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from iqa_export.checkpoints import KeyMap
from iqa_export.systems import BUILT_IN
from iqa_export.systems.base import GraphChoice, System
from iqa_export.systems.contract_file import ContractFile, HeadTable, Output, refuse
from iqa_export.systems.declarations import contract_complaints
from iqa_export.systems.heads import ScoreHead
from iqa_runtime.contract import ExtraOutput, PatchPlan, ScoreOutput
from iqa_runtime.errors import UsageError
from iqa_runtime.scoring.patch_plans import check_patch_plan, format_patch_plan, positions
from iqa_runtime.scoring.resizing import format_resize

_LEAST_GRADES, _MOST = 2, 2**16

_SCALES = {"0..1": (1.0, 0.0), "0..255": (255.0, 0.0), "-1..1": (2.0, -1.0)}
"""Of each range of pixels, what x / 255 is multiplied with, and what is added."""


class NetworkSource(Protocol):
    """What builds a network."""

    @property
    def said(self) -> str:
        """The parameter that tells it, for messages."""

    def build(self) -> nn.Module:
        """Return a new network, in evaluation mode."""


class DescribedSystem(System):
    """What a contract file says of a network; `described_system` fills the declarations in."""

    description: ContractFile
    source: NetworkSource

    def build(self, variant: str) -> nn.Module:
        """Return what the factory builds."""
        del variant
        return self.source.build()

    def key_map(self, variant: str) -> KeyMap:
        """Leave the names as they are: the checkpoint is this network's."""
        del variant
        return KeyMap()

    def variant_of(self, keys: Collection[str]) -> str:
        """Return the one variant there is."""
        del keys
        return self.description.variant

    def as_written(self, network: nn.Module, choice: GraphChoice) -> nn.Module:
        """Return the network with the head and the outputs that the file says."""
        del choice
        return ScoreHead(network, self.description)

    def deployed(self, network: nn.Module, choice: GraphChoice) -> nn.Module:
        """Return the same: nobody has written a cheaper form."""
        return self.as_written(network, choice)

    @property
    def origin(self) -> str:
        """Whose code the network is."""
        return self.source.said

    def summary(self) -> Iterator[tuple[str, str]]:
        """Yield what the file says, part by part, in words."""
        image, score = self.crop_input("image"), self.score
        yield "network", f"{self.name} {self.description.variant}, {self.description.task}, {self.title}"
        given = ", ".join(f"{name}={value!r}" for name, value in self.description.network.items())
        yield "built with", given or "no arguments"
        yield "input", f"{' x '.join(map(str, image.shape))}, {image.color}, {image.color_space}"
        for index, channel in enumerate(image.color or ""):
            yield channel, f"(x / 255 - {self.mean[index]:.6g}) / {self.std[index]:.6g}, for x of 0 to 255"
        yield "resize", format_resize(self.description.resize)
        yield "crops", f"{format_patch_plan(self.patch_plan)}, pooled by their {self.pooling}"
        yield "score", f"the network's value {self.description.score.output!r}; {score}; {score.scale}"
        head = self.description.head
        yield "head", head if isinstance(head, str) else f"mean of {len(head.distribution)} grades, from {head.values}"
        for output in self.description.further:
            yield output.name, f"the network's value {output.output!r}"


def described_system(path: Path, description: ContractFile, source: NetworkSource | None) -> DescribedSystem:
    """Make a system of a contract file and of what builds the network.

    Parameters
    ----------
    path, description
        The file, and what was read from it.
    source
        What builds the network; None if none will be built.

    Raises
    ------
    UsageError
        If the file says no contract; the message has the path of what is wrong.
    """
    system: DescribedSystem = type("Described", (DescribedSystem,), _declarations(description, source))()
    refuse(path, _faults(system))
    return system


def _declarations(description: ContractFile, source: NetworkSource | None) -> dict[str, Any]:
    """Return what a class of systems declares."""
    eaten, told = description.input, description.score
    factor, offset = _SCALES[eaten.values]
    given = description.patch_plan
    fields = {name: getattr(given, name) for name in ("kind", "count", "seed", "stride", "multiple", "fit", "smallest")}
    return {
        "description": description,
        "source": source,
        "name": description.name,
        "title": description.title or description.name,
        "paper": description.paper,
        "code": "not stated",
        "licence": description.licence,
        "weights_licence": description.licence,
        "trained_on": description.trained_on,
        "faithful": description.faithful,
        "weights_source": "the checkpoint of your network",
        "tasks": {description.variant: (description.task,)},
        "color": eaten.color,
        "color_space": eaten.color_space,
        "mean": tuple((value - offset) / factor for value in eaten.mean),
        "std": tuple(value / factor for value in eaten.std),
        "crop": eaten.crop or 0,
        "crops_per_item": eaten.crops_per_item or 1,
        "patch_plan": PatchPlan(size=eaten.crop or 0, **fields),
        "pooling": description.pooling,
        "resize": description.resize,
        "score": ScoreOutput(
            low=told.low,
            high=told.high,
            higher_is_better=told.direction == "higher",
            bounded=told.bounded,
            scale=told.scale,
            quantiles=told.quantiles,
        ),
        "map_outputs": tuple(output.declared() for output in description.maps),
        "extra_outputs": tuple(
            ExtraOutput(name=extra.name, shape=extra.shape, labels=extra.labels) for extra in description.extras
        ),
    }


def _faults(system: DescribedSystem) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with what a file says as a whole, by the place in the file."""
    description = system.description
    for place, name in (("name", description.name), ("variant", description.variant)):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            yield place, f"{name!r}: letters, digits, '_', '.' and '-' make a name that files can have"
    if description.name in {built_in.name for built_in in BUILT_IN}:
        yield "name", f"{description.name!r} is a system of this package; choose another name"
    for output, place in _outputs(description):
        if isinstance(output, int) and output < 0:
            yield place, f"{output}: places of a network's values count from 0"
    known = {"score", *(output.name for output in description.further)}
    for name in description.onnx.outputs:
        if name not in known:
            yield (
                f"onnx.outputs.{name}",
                f"no such output; there is {', '.join(sorted(known))}",
            )
    if isinstance(description.head, HeadTable) and len(description.head.distribution) < _LEAST_GRADES:
        yield "head.distribution", "a distribution has two grades or more; leave [head] out where there is none"
    for place, number in (("crop", description.input.crop), ("crops_per_item", description.input.crops_per_item)):
        if number is not None and not 1 <= number <= _MOST:
            yield f"input.{place}", f"{number}: it has to be 1 to {_MOST}"
            return
    if any(value <= 0 for value in description.input.std):
        yield "input.std", f"{list(description.input.std)}: pixels are divided by these, which have to be above 0"
        return
    if (description.input.crop is None) != (description.patch_plan.kind == "whole"):
        if description.input.crop is None:
            yield "input.crop", 'give the side of crops in pixels; or patch_plan.kind = "whole" for whole pictures'
        else:
            yield "input.crop", "whole pictures have no crops; leave it out, or choose another patch_plan.kind"
        return
    try:
        plan = check_patch_plan(system.patch_plan)
    except UsageError as error:
        yield "patch_plan", str(error)
        return
    count = 1 if plan.kind == "whole" else len(positions(plan, plan.size, plan.size))
    if plan.kind != "grid" and count % system.crops_per_item:
        yield "patch_plan", f"gives {count} crops, and an item of input.crops_per_item takes {system.crops_per_item}"
    for where, what in contract_complaints(system):
        yield _in_file(where), what


def _outputs(description: ContractFile) -> Iterator[tuple[Output, str]]:
    yield description.score.output, "score.output"
    yield from ((output.output, f"maps[{index}].output") for index, output in enumerate(description.maps))
    yield from ((output.output, f"extras[{index}].output") for index, output in enumerate(description.extras))


def _in_file(place: str) -> str:
    """Turn the place of a value in the contract into that in the file."""
    path = place.removeprefix("$").removeprefix(".")
    path = re.sub(r"^inputs\[\d+\]\.resize", "resize", path)
    path = re.sub(r"^inputs\[\d+\]\.shape", "input.crop", path)
    path = re.sub(r"^inputs(\[\d+\])?", "input", path)
    return {"patch_plan.size": "input.crop", "": "maps, extras"}.get(path, path)
