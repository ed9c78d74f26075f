"""What a system of another package declares, looked at when it is loaded rather than in the middle of a job."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import msgspec

from iqa_export.systems.base import System
from iqa_runtime.artefacts.contract_rules import Complaint, complaints
from iqa_runtime.contract import Contract, ExtraOutput, MapOutput, PatchPlan, Resize, ScoreOutput, Task, Weights
from iqa_runtime.errors import one_line

_TEXTS = ("title", "paper", "code", "licence", "faithful", "weights_source")
_TYPES: dict[str, type] = {"crop": int, "crops_per_item": int, "patch_plan": PatchPlan, "score": ScoreOutput}
_COLORS = ("RGB", "BGR")
_TUPLES: dict[str, type] = {"map_outputs": MapOutput, "extra_outputs": ExtraOutput, "segments": str}


def faults(system: System) -> Iterator[str]:
    """Yield what is wrong with the declarations of a system; what other packages declare may be anything.

    Raises
    ------
    Exception
        Whatever the system's own methods raise.
    """
    missing = [name for name in (*_TEXTS, *_TYPES, "tasks", "mean", "std") if not hasattr(system, name)]
    if missing:
        yield f"it declares no {', '.join(missing)}"
        return
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", system.name):
        yield f"name {system.name!r} is not made of letters, digits, '_', '.' and '-'"
    for name in _TEXTS:
        if not isinstance(getattr(system, name), str) or not getattr(system, name).isprintable():
            yield f"{name} is no text on one line without control characters"
    for name, kind in _TYPES.items():
        if not isinstance(getattr(system, name), kind):
            yield f"{name} is no {kind.__name__}"
    for name, kind in _TUPLES.items():
        values: Any = getattr(system, name)
        if not isinstance(values, tuple) or not all(isinstance(value, kind) for value in values):
            yield f"{name} is no tuple of {kind.__name__}"
    yield from _about_records(system)
    if not system.crop and system.patch_plan.kind != "whole":
        yield "it declares no crop, the side of one in pixels"
    if system.color not in _COLORS:
        yield f"color is {system.color!r}, not one of {', '.join(_COLORS)}"
    for name in ("mean", "std"):
        values = getattr(system, name)
        if len(values) != 3 or not all(isinstance(value, int | float) for value in values):
            yield f"{name} is not three numbers"
    yield from _about_tasks(system.tasks)
    if not all(isinstance(path, Path) and variant in system.tasks for variant, path in system.bundled.items()):
        yield "bundled is no dictionary of a Path for each of some variants"


def contract_faults(system: System) -> Iterator[str]:
    """Yield why declarations that are sound by themselves make no contract together."""
    yield from (f"{where.removeprefix('$.')}: {what}" for where, what in contract_complaints(system))


def contract_complaints(system: System) -> Iterator[Complaint]:
    """Yield the same with the places in a contract."""
    for variant, task in ((variant, task) for variant, tasks in system.tasks.items() for task in tasks):
        names = ("image",) if task == "nr" else ("image", "reference")
        contract = Contract(
            model=system.name,
            variant=variant,
            task=task,
            options={},
            precision="fp32",
            target="any",
            opset=1,
            inputs=tuple(replace(system.crop_input(name, variant=variant), resize=system.resize) for name in names),
            patch_plan=system.patch_plan_of(variant),
            pooling=system.pooling,
            score=system.score_of(variant),
            maps=system.maps_of(variant),
            extras=system.extras_of(variant),
            faithful=system.faithful_of(variant),
            weights=Weights(file="w", sha256="", trained=False, licence="", trained_on=""),
            exporter="",
        )
        yield from complaints(contract)


def _about_records(system: System) -> Iterator[str]:
    """Hold records that are declared to the types of a contract, which a dataclass does not ask about."""
    resize = () if system.resize is None else ("resize",)
    if resize and not isinstance(system.resize, Resize):
        yield "resize is no Resize"
        return
    for name in ("score", "patch_plan", *resize, "map_outputs", "extra_outputs"):
        declared: Any = getattr(system, name)
        for value in declared if isinstance(declared, tuple) else (declared,):
            try:
                fields = msgspec.to_builtins(value)
                msgspec.convert(fields, type(value))
            except (TypeError, msgspec.MsgspecError) as error:
                yield f"{name}: {one_line(error)}"
            else:
                if not all(text.isprintable() for text in _texts(fields)):
                    yield f"{name} has a text with control characters"


def _texts(fields: Any) -> Iterator[str]:
    if isinstance(fields, str):
        yield fields
    elif isinstance(fields, dict | list | tuple):
        for value in fields.values() if isinstance(fields, dict) else fields:
            yield from _texts(value)


def _about_tasks(tasks: Any) -> Iterator[str]:
    known = get_args(Task)
    if not isinstance(tasks, dict) or not tasks or not all(isinstance(variant, str) for variant in tasks):
        yield "tasks is no dictionary of variants"
        return
    for variant, names in tasks.items():
        if not isinstance(names, tuple) or not names or not set(names) <= set(known):
            yield f"tasks of {variant} are {names!r}, not a tuple of {', '.join(known)}"
