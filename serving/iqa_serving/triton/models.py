"""From an artefact to the models of a repository."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from iqa_runtime.artefacts.files import read_file
from iqa_runtime.artefacts.graph_file import GraphFile
from iqa_runtime.artefacts.opening import Artefact
from iqa_runtime.backends.tensor_spec import GraphSpec
from iqa_runtime.errors import UsageError
from iqa_runtime.scoring.patch_plans import choose_patch_plan
from iqa_runtime.scoring.resizing import choose_resize
from iqa_serving.triton.config import Message, Placement, bytes_config, plain_config

CROPS_SUFFIX, REFERENCE_SUFFIX = "_crops", "_reference"
"""What follows the name of a model in those of its graph and of its reference encoder by themselves."""

_ENVIRONMENT = "EXECUTION_ENV_PATH"
"""What the Python backend calls the parameter."""

_CODE = Path(__file__).with_name("model.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model of a repository.

    Attributes
    ----------
    name
        Its name, and that of its folder.
    config
        Its configuration.
    files
        Content of its only version, by name.
    """

    name: str
    config: Message
    files: Mapping[str, bytes]


def bytes_model(
    artefact: Artefact,
    name: str,
    placement: Placement,
    *,
    scoring: Mapping[str, Any],
    byte_limit: int,
    environment: str | None = None,
) -> Model:
    """Return the model that takes encoded images, with all files of an artefact.

    Parameters
    ----------
    artefact
        What scores.
    name
        Of the model.
    placement
        How the server runs it.
    scoring
        Arguments of `iqa_runtime.Scorer`.
    byte_limit
        Most bytes of an encoded image.
    environment
        Python environment on the server; None for its own.

    Raises
    ------
    UsageError
        If the patch plan or the size doesn't suit the artefact.
    FileError, ArtefactError
        If a file cannot be read.
    """
    choose_patch_plan(artefact.path, artefact.contract, scoring["crops"])
    choose_resize(artefact.contract, scoring["resize"])
    parameters = {
        "artefact": artefact.path.name,
        "sha256": artefact.graph.sha256,
        "scoring": {**scoring, "device": placement.device},
        "byte_limit": byte_limit,
    }
    if environment is not None:
        parameters[_ENVIRONMENT] = environment
    files = {_CODE.name: _CODE.read_bytes()}
    graphs = {graph.path: graph for graph in (artefact.graph, artefact.encoder) if graph is not None}
    for what, path in artefact.files():
        if path in graphs:
            files[path.name] = graphs[path].take()
        elif path.exists():  # signatures need not be there
            files[path.name] = read_file(path, what)
    return Model(name=name, config=bytes_config(name, artefact.contract, placement, parameters), files=files)


def plain_models(artefact: Artefact, name: str, placement: Placement) -> Iterator[Model]:
    """Yield the graphs of an artefact as models by themselves, for clients that cut and normalise crops.

    Raises
    ------
    UsageError
        If Triton has no backend for them.
    FileError, ArtefactError
        If a file cannot be read.
    """
    contract = artefact.contract
    yield _plain(artefact, artefact.graph, name + CROPS_SUFFIX, GraphSpec.of_artefact(contract), placement)
    if artefact.encoder is not None:
        spec = GraphSpec.of_reference_encoder(contract)
        yield _plain(artefact, artefact.encoder, name + REFERENCE_SUFFIX, spec, placement)


def _plain(artefact: Artefact, graph: GraphFile, name: str, spec: GraphSpec, placement: Placement) -> Model:
    platform = "onnxruntime_onnx"
    if graph.engine is not None:
        if graph.engine.host.library != "tensorrt":
            raise UsageError(f"{graph.path}: Triton runs no engine of TensorRT-RTX by itself; add ``plain=False``")
        platform = "tensorrt_plan"
        placement = replace(placement, max_batch_size=min(placement.max_batch_size, graph.engine.batch.max))
    config = plain_config(name, spec, artefact.contract, placement, platform=platform)
    return Model(name=name, config=config, files={f"model{graph.path.suffix}": graph.take()})
