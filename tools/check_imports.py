"""Hold the architecture: imports between the packages point one way, and no imports inside one go in a circle.

    python tools/check_imports.py

Every import counts, wherever it stands: inside a function and under ``TYPE_CHECKING``, too. What a lazy import hides
from Python, it does not hide from a reader.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

FLOORS = (
    ("runtime/iqa_runtime", ("iqa_runtime",)),
    ("calibration/iqa_calibration", ("iqa_runtime", "iqa_calibration")),
    ("export/iqa_export", ("iqa_runtime", "iqa_calibration", "iqa_export")),
    ("training/iqa_training", ("iqa_runtime", "iqa_calibration", "iqa_export", "iqa_training")),
    ("serving/iqa_serving", ("iqa_runtime", "iqa_serving")),
)
"""Packages from the ground up, each with those of ours that it may import."""

FORBIDDEN = {
    "iqa_runtime": ("torch", "onnx", "onnxscript", "scipy", "matplotlib"),
    "iqa_calibration": ("torch",),
    "iqa_serving": ("torch", "onnx", "onnxscript", "scipy", "matplotlib"),
}
"""Libraries that a package must not import anywhere."""


def modules_of(folder: Path) -> dict[str, Path]:
    """Return the modules of a package by dotted name; a package's own module has the name of the package."""
    names = {}
    for path in sorted(folder.rglob("*.py*")):
        if path.suffix not in (".py", ".pyi"):  # of a compiled module there is only the stub
            continue
        parts = (folder.name, *path.relative_to(folder).with_suffix("").parts)
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imports_of(path: Path, package: tuple[str, ...]) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """Yield line, module and names of each import in a file of a package, given as the parts of its name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # A relative import begins at the package of its file, one folder up for every dot after the first.
            within = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*within, node.module) if node.module else within)
            yield node.lineno, module, tuple(alias.name for alias in node.names)


def complaints(root: Path) -> Iterator[str]:
    """Yield what is against the rules in a checkout, a line each."""
    ours = [Path(folder).name for folder, _ in FLOORS]
    for folder, allowed in FLOORS:
        modules = modules_of(root / folder)
        package = Path(folder).name
        graph: dict[str, set[str]] = {name: set() for name in modules}
        for name, path in modules.items():
            parts = tuple(name.split("."))
            for line, module, imported in imports_of(path, parts if path.stem == "__init__" else parts[:-1]):
                top = module.partition(".")[0]
                where = f"{path.relative_to(root)}:{line}"
                if top in ours and top not in allowed:
                    yield f"{where}: {package} must not import {top}, which stands above it"
                if top in FORBIDDEN.get(package, ()):
                    yield f"{where}: {package} must not import {top}"
                targets = {f"{module}.{item}" for item in imported} & modules.keys() or {module} & modules.keys()
                graph[name] |= targets - {name}
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            yield f"{folder}: imports go in a circle: {' <- '.join(error.args[1])}"


def main() -> int:
    """Print what is against the rules; 1 if anything is."""
    found = list(complaints(Path(__file__).parents[1]))
    print("\n".join(found) if found else "imports: one way, no circle")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
