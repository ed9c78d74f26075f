"""The contract as JSON: written, read, and brought up from the schema before this one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from iqa_runtime.artefacts.contract_rules import Complaint, complaints
from iqa_runtime.contract import SCHEMA_VERSION, Contract
from iqa_runtime.errors import ArtefactError

_MAX_DEPTH = 16
"""More than any contract needs; what only the free fields, ``calibration`` and ``gate``, could reach."""

_MAX_DIGITS = 8


def contract_to_json(contract: Contract) -> str:
    """Serialise; keys in order of declaration, so that equal contracts give equal text."""
    return msgspec.json.encode(contract).decode()


def contract_from_json(text: str | bytes, *, source: str = "contract") -> Contract:
    """Parse and validate; a contract of schema 1 becomes one of schema 2.

    Parameters
    ----------
    text
        JSON of one contract.
    source
        Where it came from, for error messages.

    Raises
    ------
    ArtefactError
        If the text is not JSON, a field is missing, unknown, of the wrong type or contradicts another (the message has
        its path), or the schema version is another one.
    """
    try:
        fields = msgspec.json.decode(text)
        version = msgspec.convert(fields, _SchemaOnly).schema
        if version not in (1, SCHEMA_VERSION):
            raise ArtefactError(
                f"{source}: contract schema {version}, this iqa-deploy reads schemas 1 and {SCHEMA_VERSION}; "
                "export the model again, or install the version that wrote it"
            )
        if version == 1:
            for key in ("patch_plan", "sha256"):
                if key in fields:
                    raise ArtefactError(
                        f"{source}: invalid contract: schema 1 has no such field - at `$.{key}`; export the model again"
                    )
            fields = _upgraded(fields)
        contract = msgspec.convert(fields, Contract)
    except msgspec.MsgspecError as error:
        raise ArtefactError(f"{source}: invalid contract: {error}; export the model again") from error
    except UnicodeEncodeError as error:
        raise ArtefactError(f"{source}: invalid contract: half a surrogate pair; export the model again") from error
    except RecursionError as error:
        raise ArtefactError(f"{source}: invalid contract: nested too deeply; export the model again") from error
    for path, complaint in (*_strangers(fields, msgspec.to_builtins(contract), "$", 0), *complaints(contract)):
        raise ArtefactError(f"{source}: invalid contract: {complaint} - at `{path}`; export the model again")
    return contract


def schema_of(text: str | bytes) -> int:
    """Return the schema version that a contract was written in."""
    return msgspec.json.decode(text, type=_SchemaOnly).schema


class _SchemaOnly(msgspec.Struct):
    schema: int


def _strangers(given: Any, known: Any, path: str, depth: int) -> Iterator[Complaint]:
    """Yield keys that no field has, texts that no terminal should meet, and what lies too deep to be looked at."""
    if depth > _MAX_DEPTH:
        yield path, f"nested more than {_MAX_DEPTH} levels deep"
    elif isinstance(given, dict):
        for key, value in given.items():
            place = f"{path}.{key}" if key.isidentifier() else f"{path}[{key!r}]"
            if key not in known:
                yield place, "no such field"
            elif not _is_text(key):
                yield place, "a name with control characters"
            else:
                yield from _strangers(value, known[key], place, depth + 1)
    elif isinstance(given, list):
        for index, value in enumerate(given):
            yield from _strangers(value, known[index], f"{path}[{index}]", depth + 1)
    elif isinstance(given, str) and not _is_text(given):
        yield path, "a text with control characters"


def _is_text(text: str) -> bool:
    """Tell whether a text shows as it is: no line of its own, no control or formatting character."""
    return text.isprintable()


def _upgraded(fields: dict[str, Any]) -> dict[str, Any]:
    """Turn the fields of schema 1 into those of schema 2; what is of another type than it should be stays so."""
    upgraded = {("patch_plan" if key == "plan" else key): value for key, value in fields.items()}
    upgraded["schema"] = SCHEMA_VERSION
    baked, options = fields.get("baked_reference"), fields.get("options")
    if isinstance(options, dict):
        sides = {side: options.get(f"baked_{side}", "0") for side in ("width", "height")}
        upgraded["options"] = {
            key: value for key, value in options.items() if key not in ("baked_width", "baked_height")
        }
        if isinstance(baked, dict):
            upgraded["baked_reference"] = baked | {side: _number(text) for side, text in sides.items()}
    return upgraded


def _number(text: object) -> object:
    is_number = isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
    return int(str(text)) if is_number else text
