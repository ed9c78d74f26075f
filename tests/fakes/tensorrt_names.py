"""What there is in each version of TensorRT, from tests/tensorrt_api; and what some code of ours uses of it."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

API = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))["classes"]
    for path in sorted(Path(__file__).parents[1].joinpath("tensorrt_api").glob("*.json"))
}
"""Version -> class -> its members with their parameters, or the list of an enumeration's members."""


def names_used(source: Path, variables: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    """Yield (class, member or None) for all that a module takes from TensorRT.

    Parameters
    ----------
    source
        The module; in it ``trt`` is TensorRT.
    variables
        Names of variables that hold objects of TensorRT, and the classes of these.
    """
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value
        if isinstance(owner, ast.Name) and owner.id == "trt":
            yield node.attr, None
        elif isinstance(owner, ast.Name) and owner.id in variables:
            yield variables[owner.id], node.attr
        elif isinstance(owner, ast.Attribute) and isinstance(owner.value, ast.Name) and owner.value.id == "trt":
            yield owner.attr, node.attr
