"""A contract as its author writes it: a TOML file that says what a network eats and what its score means.

It holds what the contract of an artefact will hold but for what is measured, in the words of a training pipeline:
`iqa_export.systems.described` makes a system of it. Every complaint has the path of what is wrong in the file.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct, inspect

from iqa_runtime.contract import ColorSpace, MapOutput, Pooling, Quantiles, Resize, Task
from iqa_runtime.errors import FileError, UsageError

Output = int | str
"""Which of the values that a network returns: its place in a tuple or dict, or its name in a dict."""

_KINDS = {
    "float": "a number",
    "int": "a whole number",
    "str": "a text in quotes",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}
"""What TOML calls what msgspec names in a message."""

Values = Literal["0..1", "0..255", "-1..1"]


class InputTable(Struct, frozen=True, kw_only=True):
    """``[input]``: what pixels become before the network sees them.

    Attributes
    ----------
    crop
        Side of a crop in pixels; not with ``patch_plan.kind = "whole"``.
    crops_per_item
        How many crops ``forward`` takes stacked in one item, N x P x 3 x H x W; None for N x 3 x H x W.
    color, color_space
        As in `iqa_runtime.contract.TensorInput`.
    values
        The range of pixels before `mean` is subtracted and `std` divides.
    mean, std
        Per channel, in the order of `color`.
    """

    crop: int | None = None
    crops_per_item: int | None = None
    color: Literal["RGB", "BGR"] = "RGB"
    values: Values = "0..1"
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    color_space: ColorSpace = "sRGB"


class PlanTable(Struct, frozen=True, kw_only=True):
    """``[patch_plan]``: where crops lie; fields as in `iqa_runtime.contract.PatchPlan`, the size is the crop's."""

    kind: Literal["five", "grid", "random", "center", "uniform", "whole"]
    count: int | None = None
    seed: int | None = None
    stride: int | None = None
    multiple: int | None = None
    fit: Literal["reflect", "crop"] | None = None
    smallest: int | None = None


class ScoreTable(Struct, frozen=True, kw_only=True):
    """``[score]``: what the number means; an end that is left out is none.

    Attributes
    ----------
    output
        Which of the network's values it is.
    direction
        Which scores are the better ones.
    low, high, bounded, scale, quantiles
        As in `iqa_runtime.contract.ScoreOutput`.
    """

    output: Output = 0
    direction: Literal["higher", "lower"]
    low: float | None = None
    high: float | None = None
    bounded: bool = False
    scale: str
    quantiles: Quantiles | None = None


class HeadTable(Struct, frozen=True, kw_only=True):
    """``[head]``: the network's value is a distribution over grades, whose mean is the score.

    Attributes
    ----------
    distribution
        What the grades are worth, in the order of the network's values.
    values
        ``logits``, of which the graph takes the softmax, or ``probabilities``.
    """

    distribution: tuple[float, ...]
    values: Literal["logits", "probabilities"] = "logits"


class MapTable(Struct, frozen=True, kw_only=True):
    """``[[maps]]``: an output with one value for each cell of a grid; fields as in `iqa_runtime.contract.MapOutput`."""

    name: Literal["quality_map", "weight_map"]
    output: Output
    rows: int = 0
    columns: int = 0
    cell: int = 0

    def declared(self) -> MapOutput:
        """Return it as the contract has it."""
        return MapOutput(name=self.name, rows=self.rows, columns=self.columns, cell=self.cell)


class ExtraTable(Struct, frozen=True, kw_only=True):
    """``[[extras]]``: a further output; fields as in `iqa_runtime.contract.ExtraOutput`."""

    name: str
    output: Output
    shape: tuple[int, ...]
    labels: tuple[str, ...] = ()


class OnnxTable(Struct, frozen=True, kw_only=True):
    """``[onnx]``: names in a graph that is adopted.

    Attributes
    ----------
    image, reference
        Of the inputs; None for inputs that are called so, or else for the first and the second.
    outputs
        Of the outputs, by the names of the contract; those that are missing are where ``output`` says.
    """

    image: str | None = None
    reference: str | None = None
    outputs: dict[str, str] = {}


class ContractFile(Struct, frozen=True, kw_only=True):
    """All of the file.

    Attributes
    ----------
    name, variant, title, paper
        As in `iqa_export.systems.System`; the title is the name where it is left out.
    licence, trained_on
        Of the weights, for those that don't say it themselves.
    faithful
        How close the network is to the published one.
    task, pooling
        As in the contract.
    input, resize, patch_plan, score, head, maps, extras
        What the network eats and gives.
    network
        Keyword arguments of the factory.
    onnx
        Names in a graph that is adopted.
    """

    name: str
    variant: str = "default"
    title: str | None = None
    paper: str = "not stated"
    licence: str
    trained_on: str = "not stated"
    faithful: str = "as its module computes it"
    task: Task
    pooling: Pooling = "mean"
    input: InputTable
    resize: Resize | None = None
    patch_plan: PlanTable
    score: ScoreTable
    head: Literal["value"] | HeadTable = "value"
    maps: tuple[MapTable, ...] = ()
    extras: tuple[ExtraTable, ...] = ()
    network: dict[str, Any] = {}
    onnx: OnnxTable = OnnxTable()

    @property
    def further(self) -> tuple[MapTable | ExtraTable, ...]:
        """The outputs beside the score, in the order of the graph's."""
        return (*self.maps, *self.extras)


def read_contract_file(path: Path) -> ContractFile:
    """Read a file; what its fields mean together is looked at by `iqa_export.systems.described`.

    Raises
    ------
    FileError
        If it cannot be read.
    UsageError
        If it is no TOML, or a key is unknown, missing or of another type; the message has the path of each.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise FileError(f"{path}: cannot read the contract ({error.strerror or error}); check the path") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 (byte {error.start}); save the file as UTF-8") from error
    try:
        fields = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is no TOMLDecodeError
        raise UsageError(f"{path}: no TOML: {error or 'nested too deeply'}; correct it there") from error
    refuse(path, _faults(fields, inspect.type_info(ContractFile), ""))
    try:
        return msgspec.convert(fields, ContractFile)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"{path}: {_in_words(str(error))}; iqa-export --new-contract shows how it is written"
        ) from error


def refuse(path: Path, faults: Iterator[tuple[str, str]]) -> None:
    """Raise `UsageError` with every fault, a place in the file and what is wrong there; nothing if there is none."""
    said = [f"{place}: {what}" if place else what for place, what in faults]
    if said:
        raise UsageError(f"{path}: {'; '.join(said)}")


def _faults(value: Any, kind: inspect.Type, path: str) -> Iterator[tuple[str, str]]:
    """Yield unknown and missing keys, words that are no choice, and what shows badly or is no number."""
    if isinstance(kind, inspect.UnionType):
        kind = next((each for each in kind.types if _is_like(value, each)), kind)
    if isinstance(kind, inspect.StructType | inspect.DataclassType) and isinstance(value, dict):
        known = {field.encode_name: field for field in kind.fields}
        for key in value:
            if key not in known:
                near = get_close_matches(key, known, n=1, cutoff=0)[0]
                remedy = f"the nearest is {near} (there is {', '.join(known)})"
                if path and key in ContractFile.__struct_fields__:
                    remedy = "it belongs to the top of the file, above the first [table]"
                yield _joined(path, key), f"no such key; {remedy}"
        for name, field in known.items():
            if name in value:
                yield from _faults(value[name], field.type, _joined(path, name))
            elif field.required:
                yield _joined(path, name), f"is missing; it is {_wanted(field.type)}"
    elif isinstance(kind, inspect.ListType | inspect.VarTupleType) and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _faults(item, kind.item_type, f"{path}[{index}]")
    elif isinstance(kind, inspect.TupleType) and isinstance(value, list):
        for index, (item, each) in enumerate(zip(value, kind.item_types, strict=False)):
            yield from _faults(item, each, f"{path}[{index}]")
    elif isinstance(kind, inspect.LiteralType) and isinstance(value, str) and value not in kind.values:
        yield path, f"{value!r} is none of {', '.join(map(str, kind.values))}"
    elif isinstance(kind, inspect.StrType) and isinstance(value, str) and not (value and value.isprintable()):
        yield path, "a text of one line without control characters is needed"
    elif isinstance(value, float) and not math.isfinite(value):
        yield path, f"{value} is no number to use; leave an end of a range out where there is none"


def _is_like(value: Any, kind: inspect.Type) -> bool:
    """Tell which of several types a value was meant to be."""
    tables = inspect.StructType | inspect.DataclassType
    lists = inspect.ListType | inspect.VarTupleType | inspect.TupleType
    return isinstance(kind, tables if isinstance(value, dict) else lists if isinstance(value, list) else _simple(value))


def _simple(value: Any) -> tuple[type, ...]:
    if isinstance(value, str):
        return inspect.StrType, inspect.LiteralType
    return inspect.FloatType, inspect.IntType


def _wanted(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.LiteralType):
        return f"one of {', '.join(map(str, kind.values))}"
    if isinstance(kind, inspect.TupleType):
        return f"a list of {len(kind.item_types)} numbers"
    name = type(kind).__name__.removesuffix("Type").lower()
    return _KINDS.get({"struct": "object", "dataclass": "object", "vartuple": "array"}.get(name, name), "needed")


def _in_words(message: str) -> str:
    """Say what msgspec found in the words of a TOML file, the place first."""
    what, _, place = message.partition(" - at `")
    words = re.sub(r"`([a-z0-9_ |]+)`", lambda match: _kinds(match[1]), what)
    return f"{place.removesuffix('`').removeprefix('$').removeprefix('.')}: {words[0].lower()}{words[1:]}"


def _kinds(names: str) -> str:
    kinds = [_KINDS.get(name, name) for name in names.split(" | ") if name != "null"]
    return " or ".join(kinds) or "nothing"


def _joined(path: str, key: str) -> str:
    place = key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else repr(key)
    return f"{path}.{place}" if path else place
