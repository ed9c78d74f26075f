"""The contract as JSON: written, read, and held to the rules between its fields that types cannot say."""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from iqa_runtime.contract import SCHEMA_VERSION, Contract, TensorInput
from iqa_runtime.errors import ArtefactError

_RANKS = {"NCHW": 4, "NPCHW": 5}
_MAX_SIDE, _MAX_PIXELS = 2**20, 2**30  # of an image that OpenCV decodes
_MAX_SIZE = 2**31 - 1  # of one axis; no tensor anywhere near it could be held

Complaint = tuple[str, str]
"""Where (a path of fields, as in ``score.low``) and what."""


def contract_to_json(contract: Contract) -> str:
    """Serialise; keys in order of declaration, so that equal contracts give equal text."""
    return msgspec.json.encode(contract).decode()


def contract_from_json(text: str | bytes, *, source: str = "contract") -> Contract:
    """Parse and validate.

    Parameters
    ----------
    text
        JSON of one contract.
    source
        Where it came from, for error messages.

    Raises
    ------
    ArtefactError
        If the text is not JSON, a field is missing, of the wrong type or contradicts another (the message has its
        path), or the schema version is another one.
    """
    try:
        version = msgspec.json.decode(text, type=_SchemaOnly).schema
        if version not in (1, SCHEMA_VERSION):
            raise ArtefactError(
                f"{source}: contract schema {version}, this iqa-deploy reads schema {SCHEMA_VERSION}; "
                "export the model again, or install the version that wrote it"
            )
        fields = msgspec.json.decode(text)
        if version == 1:
            fields["patch_plan"] = fields.pop("plan", None)
            fields["schema"] = SCHEMA_VERSION
        contract = msgspec.convert(fields, Contract)
    except msgspec.MsgspecError as error:
        raise ArtefactError(f"{source}: invalid contract: {error}; export the model again") from error
    for path, complaint in complaints(contract):
        raise ArtefactError(f"{source}: invalid contract: {complaint} - at `$.{path}`; export the model again")
    return contract


class _SchemaOnly(msgspec.Struct):
    schema: int


def complaints(contract: Contract) -> Iterator[Complaint]:
    """Yield what is wrong with a contract of sound types."""
    if contract.input("image") is None:
        yield "inputs", "no input called 'image'"
    if len({tensor.name for tensor in contract.inputs}) < len(contract.inputs):
        yield "inputs", "two inputs of one name"
    for index, tensor in enumerate(contract.inputs):
        yield from _about_input(f"inputs[{index}]", tensor)
    score = contract.score
    if not (math.isfinite(score.low) and math.isfinite(score.high) and score.low < score.high):
        yield "score", f"low is {score.low:g} and high {score.high:g}, not a range"
    if contract.gmac is not None and not 0 < contract.gmac < math.inf:
        yield "gmac", f"{contract.gmac:g} is no number of multiply-accumulates"
    for index, output in enumerate(contract.maps):
        if min(output.rows, output.columns) < 1:
            yield f"maps[{index}]", f"{output.rows} x {output.columns} cells"
    for index, extra in enumerate(contract.extras):
        if min(extra.shape, default=0) < 1:
            yield f"extras[{index}].shape", f"{list(extra.shape)} is no shape"
    yield from _about_baked_size(contract.options)


def _about_input(place: str, tensor: TensorInput) -> Iterator[Complaint]:
    batch, *sizes = tensor.shape or (0,)
    named = isinstance(batch, str)
    if not named or not sizes or not all(isinstance(size, int) and 0 < size <= _MAX_SIZE for size in sizes):
        yield f"{place}.shape", f"{list(tensor.shape)} is not a named batch axis followed by fixed sizes"
    elif len(tensor.shape) != _RANKS.get(tensor.layout, len(tensor.shape)):
        yield f"{place}.shape", f"{list(tensor.shape)} is not {tensor.layout}"
    if not all(map(math.isfinite, (*(tensor.mean or ()), *(tensor.std or ())))):
        yield f"{place}.mean", "mean and std are not finite"
    if min(tensor.std or (1.0,)) <= 0:
        yield f"{place}.std", f"{list(tensor.std or ())} is not above zero"


def _about_baked_size(options: dict[str, str]) -> Iterator[Complaint]:
    sides = []
    for name in ("baked_width", "baked_height"):
        text = options.get(name, "1")
        if not (text.isascii() and text.isdigit() and len(text) < 8 and 1 <= int(text) <= _MAX_SIDE):
            yield f"options.{name}", f"{text!r} is not a number of pixels from 1 to {_MAX_SIDE}"
            return
        sides.append(int(text))
    if math.prod(sides) > _MAX_PIXELS:
        yield "options.baked_width", f"{' x '.join(map(str, sides))} pixels, more than any image has"
