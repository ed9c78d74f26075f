"""Change a value somewhere in JSON, so that it stays JSON: random bytes seldom come past its parser."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 2, 3, 2**31, 2**63, 2**64, 10**30, 10**400, 0.5, -0.0, 1e-320, 1e30, 1e308),
    *("", "batch", "a\nb", "\0", "\x1b[2J", "\ud800", "é", "٣", "..", "../x", "x" * 2000, "9" * 5000, "0" * 64),
    *([], {}, [[]], [0, 0], [1] * 300, {"a": {"a": {}}}),
)
"""What values are replaced by, beside others of the same document."""

_DEEP = 3000
"""Levels that are more than any parser follows."""


def mutated(data: bytes, seed: int) -> bytes | None:
    """Return a document with one to three changes; None if it is no JSON, or too deep for Python's."""
    chance = random.Random(seed)
    try:
        document = [json.loads(data)]  # so that the whole has a place, too
        for _ in range(chance.choice((1, 1, 2, 3))):
            _change(document, chance)
        text = json.dumps(document[0], ensure_ascii=chance.random() < 0.5)
    except (ValueError, RecursionError):
        return None
    if chance.random() < 0.002:
        text = text.replace("null", "[" * _DEEP + "]" * _DEEP, 1)
    return text.encode("utf-8", "surrogatepass")


def _change(document: list[Any], chance: random.Random) -> None:
    """Replace a value, or take away, rename or double one."""
    places = list(_places(document))
    holder, key = chance.choice(places)
    kind = chance.choice(("value",) * 5 + ("copy",) * 3 + ("less", "more"))
    if kind == "value":
        holder[key] = deepcopy(chance.choice(VALUES))
    elif kind == "copy":
        other, other_key = chance.choice(places)
        holder[key] = deepcopy(other[other_key])
    elif isinstance(holder, dict):
        value = holder.pop(key)
        if kind == "more":
            holder[chance.choice(("path", "schema", "strange", f"{key} ", "\x9b"))] = value
    elif kind == "more":
        holder.insert(key, deepcopy(holder[key]))
    elif holder is not document:
        holder.pop(key)


def _places(holder: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place of a document: what holds it, and its key or index."""
    for key, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
        yield holder, key
        if isinstance(value, (dict, list)):
            yield from _places(value)
