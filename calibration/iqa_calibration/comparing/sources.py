"""Where the tensors come from that `iqa_calibration.comparing.layers` compares: an ONNX graph, or a backend."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from iqa_calibration.graphs.half_storage import widen
from iqa_calibration.graphs.runner import Feed, Runner
from iqa_calibration.graphs.structure import Structure
from iqa_calibration.half.casting import element_types, emulated, is_half
from iqa_runtime.artefacts.files import PLAN_SUFFIX, is_engine
from iqa_runtime.artefacts.opening import Artefact, open_artefact
from iqa_runtime.backends import GraphSpec, choose_backend
from iqa_runtime.errors import UsageError

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)

Run = Callable[[Feed], Mapping[str, NDArray[Any]]]
"""Runs one item and returns tensors by name."""


@dataclass(frozen=True, slots=True)
class TensorSource:
    """What one side shows of what is inside.

    Attributes
    ----------
    shapes
        The float tensors it can give: name to shape for one item.
    prepare
        Takes names of such tensors and returns what runs an item and gives them.
    """

    shapes: Mapping[str, tuple[int, ...]]
    prepare: Callable[[Sequence[str]], Run]


class Graph:
    """An ONNX graph whose tensors are looked at.

    Parameters
    ----------
    content
        The ONNX file, as read.

    Attributes
    ----------
    structure
        Its nodes.
    floats
        The tensors it computes in float32 and float16, in the order of the graph.
    """

    def __init__(self, content: bytes) -> None:
        self._model = onnx.load_model_from_string(content)
        widen(self._model)
        self.structure = Structure(self._model)
        types = element_types(self._model)
        self.floats = tuple(
            name
            for name in self.structure.producers
            if types.get(name) in _FLOATS and not self.structure.is_constant(name)
        )

    def source(self) -> TensorSource:
        """Return the graph run by ONNX Runtime's CPU provider; one in half rounds wherever it stores a half."""
        model = emulated(self._model) if is_half(self._model) else self._model

        def prepare(names: Sequence[str]) -> Run:
            runner = Runner(model, extra_outputs=names)
            return lambda feed: runner.run(feed, names)

        known = self.structure.item_shapes
        return TensorSource({name: known[name] for name in self.floats if name in known}, prepare)


def check_sides(artefacts: Sequence[Artefact]) -> None:
    """Refuse what shows no tensors, before anything is computed.

    Parameters
    ----------
    artefacts
        The two.

    Raises
    ------
    UsageError
        If none of the artefacts is an ONNX file, or an engine was built without marked layers.
    """
    if all(artefact.engine is not None for artefact in artefacts):
        both = f"{artefacts[0].path} and {artefacts[1].path}"
        raise UsageError(
            f"{both}: none is an ONNX file, which names the layers; compare each with the one it was built from"
        )
    for artefact in artefacts:
        described = artefact.engine
        if described is not None and not described.layer_tensors:
            raise UsageError(
                f"{artefact.path}: built without marked layers, it shows nothing of what is inside; build one that "
                f"does: {described.marking_command}"
            )


def open_both(
    first: str | os.PathLike[str], second: str | os.PathLike[str], *, trust: str | os.PathLike[str] | None = None
) -> tuple[Artefact, Artefact]:
    """Open two artefacts; a key must have signed the engines among them.

    Raises
    ------
    UsageError
        If there is a key and none of them is an engine.
    IqaError
        As `iqa_runtime.artefacts.opening.open_artefact`.
    """
    paths = Path(first), Path(second)
    if trust is not None and not any(map(is_engine, paths)):
        raise UsageError(f"``trust={os.fspath(trust)}``: only engines ({PLAN_SUFFIX}) are signed; leave it out")
    left, right = (open_artefact(path, trust=trust if is_engine(path) else None) for path in paths)
    return left, right


@contextmanager
def tensor_source(
    artefact: Artefact, graph: Graph | None, *, backend: str | None, device: str | None, threads: int
) -> Iterator[TensorSource]:
    """Open what runs an artefact: its backend, if that shows tensors, else the ONNX graph on ONNX Runtime.

    Raises
    ------
    UsageError
        If the backend shows no tensors, and there is no graph; or as `choose_backend`.
    IqaError
        Whatever the backend refuses.
    """
    choice = choose_backend(artefact, backend, device=device)
    chosen = choice.create(artefact.graph, GraphSpec.of_artefact(artefact.contract), threads=threads)
    shapes = chosen.layer_tensors()
    if shapes:
        with chosen:
            yield TensorSource(shapes, lambda names: lambda feed: chosen.run_layers(feed, names))
    elif graph is not None:
        yield graph.source()
    else:
        raise UsageError(f"{artefact.path}: the {chosen.name} backend shows no tensors; compare an ONNX file")
