"""Where the tensors come from that `iqa_calibration.comparing.layers` compares: an ONNX graph, or a backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from iqa_calibration.graphs.runner import Feed, Runner
from iqa_calibration.graphs.structure import Structure
from iqa_calibration.half.casting import element_types, emulated, is_half
from iqa_runtime.artefacts.engine_file import read_plan_file
from iqa_runtime.backends import GraphSpec, choose_backend
from iqa_runtime.contract import PLAN_SUFFIX, Contract
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
    """An ONNX file whose tensors are looked at.

    Attributes
    ----------
    structure
        Its nodes.
    floats
        The tensors it computes in float32 and float16, in the order of the graph.
    """

    def __init__(self, path: Path) -> None:
        self._model = onnx.load_model(path)
        self.structure = Structure(self._model)
        types = element_types(self._model)
        self.floats = tuple(
            name
            for name in self.structure.producers
            if types.get(name) in _FLOATS and not self.structure.is_constant(name)
        )

    def source(self, threads: int) -> TensorSource:
        """Return the graph run by ONNX Runtime's CPU provider; one in half rounds wherever it stores a half."""
        model = emulated(self._model) if is_half(self._model) else self._model

        def prepare(names: Sequence[str]) -> Run:
            runner = Runner(model, threads=threads, extra_outputs=names)
            return lambda feed: runner.run(feed, names)

        known = self.structure.item_shapes
        return TensorSource({name: known[name] for name in self.floats if name in known}, prepare)


def check_sides(paths: Sequence[Path], trust: Path | None = None) -> None:
    """Refuse what shows no tensors, before anything is computed.

    Parameters
    ----------
    paths
        The artefacts.
    trust
        Public key that must have signed the engines; None not to ask.

    Raises
    ------
    UsageError
        If none of the artefacts is an ONNX file, or an engine was built without ``--mark-layers``.
    FileError, ArtefactError
        If the description of an engine cannot be read, or is not signed by that key.
    """
    if not any(path.suffix.lower() == ".onnx" for path in paths):
        raise UsageError(
            f"{paths[0]} and {paths[1]}: none is an ONNX file, which names the layers; compare each with the one it "
            "was built from"
        )
    for path in paths:
        if path.suffix.lower() != PLAN_SUFFIX:
            continue
        described = read_plan_file(path, trust=trust)
        if not described.layer_tensors:
            raise UsageError(
                f"{path}: built without --mark-layers, it shows nothing of what is inside; build one that does: "
                f"{described.marking_command}"
            )


def check_trust(paths: Sequence[Path], trust: Path | None) -> None:
    """Refuse a key where there is nothing that it could have signed.

    Raises
    ------
    UsageError
        If none of the artefacts is an engine.
    """
    if trust is not None and not any(trust_of(path, trust) for path in paths):
        raise UsageError(f"--trust {trust}: only engines ({PLAN_SUFFIX}) are signed; leave it out")


def trust_of(path: Path, trust: Path | None) -> Path | None:
    """Return the key that must have signed an artefact: that of all engines; None for what is no engine."""
    return trust if path.suffix.lower() == PLAN_SUFFIX else None


@contextmanager
def tensor_source(
    path: Path,
    contract: Contract,
    graph: Graph | None,
    *,
    backend: str | None,
    device: str | None,
    threads: int,
    trust: Path | None = None,
) -> Iterator[TensorSource]:
    """Open what runs an artefact: its backend, if that shows tensors, else the ONNX graph on ONNX Runtime.

    Raises
    ------
    UsageError
        If the backend shows no tensors, and there is no graph; or as `choose_backend`.
    IqaError
        Whatever the backend refuses.
    """
    choice = choose_backend(path, contract, backend, device=device)
    key = trust_of(path, trust)
    chosen = choice.create(path, GraphSpec.of_artefact(contract), device=choice.device, threads=threads, trust=key)
    shapes = chosen.layer_tensors()
    if shapes:
        with chosen:
            yield TensorSource(shapes, lambda names: lambda feed: chosen.run_layers(feed, names))
    elif graph is not None:
        yield graph.source(threads)
    else:
        raise UsageError(f"{path}: the {chosen.name} backend shows no tensors; compare an ONNX file")
