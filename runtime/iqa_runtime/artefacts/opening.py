"""Opening an artefact: what it is, and whether it may run, is settled here before anything else looks at it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from iqa_runtime.artefacts.bundled import NAMES, find_artefact
from iqa_runtime.artefacts.contract_json import contract_from_json, schema_of
from iqa_runtime.artefacts.files import (
    PLAN_SUFFIX,
    REFERENCE_ENCODER_SUFFIX,
    description_path,
    encoder_plan,
    is_engine,
    read_file,
    scorer_name,
    signature_path,
)
from iqa_runtime.artefacts.graph_file import GraphFile
from iqa_runtime.artefacts.onnx_metadata import BLANK_DIGEST, artefact_digest, has_external_data, read_metadata
from iqa_runtime.contract import METADATA_KEY, Contract
from iqa_runtime.errors import ArtefactError, UsageError

if TYPE_CHECKING:
    from iqa_runtime.artefacts.engine_file import EngineFile

_REMEDY = f"check the path, or give the name of a bundled one: {', '.join(NAMES)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """An opened artefact: read once, verified once.

    Attributes
    ----------
    path
        Where it lies.
    contract
        What it is.
    graph
        What runs.
    encoder
        The graph that makes ``reference_features`` of reference crops; None if the artefact takes none.
    """

    path: Path
    contract: Contract
    graph: GraphFile
    encoder: GraphFile | None = None

    @property
    def engine(self) -> EngineFile | None:
        """What is said of it, if it is a TensorRT engine."""
        return self.graph.engine

    def files(self, name: str = "the artefact") -> list[tuple[str, Path]]:
        """Return all files that it consists of: what each is, in words, and its path; `name` is what it is called."""
        files = [(name, self.graph.path)]
        files += [] if self.encoder is None else [(f"the reference encoder of {name}", self.encoder.path)]
        for what, path in files.copy():
            if is_engine(path):
                description = description_path(path)
                files += [(f"the description of {what}", description)]
                files += [(f"the signature of {what}", signature_path(description))]
        return files


def open_artefact(artefact: str | os.PathLike[str], *, trust: str | os.PathLike[str] | None = None) -> Artefact:
    """Open an artefact, and its reference encoder if it has one.

    Parameters
    ----------
    artefact
        Path of an ``.onnx`` or ``.plan`` file written by ``iqa-export``, or the name of a bundled one.
    trust
        Public key (PEM, Ed25519) that must have signed an engine; None to take it from anybody.

    Raises
    ------
    FileError
        If a file, the key or a signature cannot be read.
    ArtefactError
        If it is no artefact, was changed or damaged since it was written, is not signed by that key, or belongs to
        another encoder than the one beside it.
    UsageError
        If there is nothing to sign in such an artefact, or the key is none.
    DependencyError
        If `trust` is given and ``cryptography`` is not installed.
    """
    path = find_artefact(artefact)
    key = None if trust is None else Path(trust)
    if is_engine(path):
        graph = open_graph(path, trust=key)
        contract = _contract_of_engine(path, graph.engine)
    else:
        _check_no_key(path, key)
        content = _read_onnx(path)
        graph = GraphFile(path, content)
        contract = _contract_inside(path, content)
    encoder = _open_encoder(graph, contract, key) if contract.input("reference_features") is not None else None
    return Artefact(path=path, contract=contract, graph=graph, encoder=encoder)


def open_graph(path: Path, *, trust: Path | None = None) -> GraphFile:
    """Open one file that a backend runs, whether or not it is an artefact by itself.

    Raises
    ------
    FileError, ArtefactError, UsageError, DependencyError
        As `open_artefact`; an ONNX file needs no contract.
    """
    if not is_engine(path):
        return GraphFile(path, _read_onnx(path))
    # Here and not above, so that scorers of ONNX files don't load what they never need.
    from iqa_runtime.artefacts.engine_file import load_engine

    described, content = load_engine(path, trust=trust)
    return GraphFile(path, content, described)


def read_contract(artefact: str | os.PathLike[str], *, trust: str | os.PathLike[str] | None = None) -> Contract:
    """Read the contract of an artefact; of an engine it is in the description beside it, and the engine is not read.

    Parameters
    ----------
    artefact, trust
        As for `open_artefact`.

    Raises
    ------
    FileError, ArtefactError, UsageError, DependencyError
        As `open_artefact`; what lies beside an ONNX file is not looked at.
    """
    path = find_artefact(artefact)
    key = None if trust is None else Path(trust)
    if is_engine(path):
        from iqa_runtime.artefacts.engine_file import read_engine_file

        return _contract_of_engine(path, read_engine_file(path, trust=key))
    _check_no_key(path, key)
    return _contract_inside(path, _read_onnx(path))


def _read_onnx(path: Path, what: str = "the artefact", remedy: str = _REMEDY) -> bytes:
    """Read an ONNX file; one whose weights lie in another file is none of ours."""
    content = read_file(path, what, remedy)
    try:
        elsewhere = has_external_data(content)
    except ValueError as error:
        raise ArtefactError(f"{path}: not an ONNX file ({error}); give a file written by iqa-export") from error
    if elsewhere:
        raise ArtefactError(
            f"{path}: its weights lie in another file, which nothing vouches for; artefacts are one file: export the "
            "model with iqa-export"
        )
    return content


def _contract_inside(path: Path, content: bytes) -> Contract:
    """Return the contract in an ONNX file, which must be that of its graph."""
    try:
        text = read_metadata(content).get(METADATA_KEY)
    except ValueError as error:
        raise ArtefactError(f"{path}: not an ONNX file ({error}); give a file written by iqa-export") from error
    if text is None and path.name.endswith(REFERENCE_ENCODER_SUFFIX):
        raise _encoder_alone(path)
    if text is None:
        raise ArtefactError(f"{path}: an ONNX file without a contract; only files written by iqa-export can be scored")
    contract = contract_from_json(text, source=str(path))
    # Blank digests are those of artefacts that were never finished.
    is_sound = contract.sha256 != BLANK_DIGEST and artefact_digest(content, contract.sha256) == contract.sha256
    if schema_of(text) > 1 and not is_sound:
        raise ArtefactError(
            f"{path}: changed or damaged since it was written: its SHA-256 is another one than its contract says; copy "
            "it again, or export the model again"
        )
    return contract


def _contract_of_engine(path: Path, described: EngineFile | None) -> Contract:
    if described is None or described.contract is None:
        raise _encoder_alone(path)
    return described.contract


def _encoder_alone(path: Path) -> ArtefactError:
    scorer = scorer_name(path.name)
    return ArtefactError(f"{path}: the reference encoder of {scorer}, which finds it by itself; give {scorer}")


def _check_no_key(path: Path, key: Path | None) -> None:
    if key is not None:
        raise UsageError(f"{path}: ``trust={key}``: only engines ({PLAN_SUFFIX}) are signed; leave it out")


def _open_encoder(graph: GraphFile, contract: Contract, key: Path | None) -> GraphFile:
    """Open the reference encoder of an artefact, which must be the one that the contract means.

    That of an engine is an engine too, known by the digest in its description.
    """
    wanted = contract.reference_encoder
    if wanted is None:
        raise ArtefactError(f"{graph.path}: the contract names no reference encoder; export the model again")
    remedy = "use the two files of one export"
    if graph.engine is not None:
        encoder = open_graph(encoder_plan(graph.path), trust=key)
        remedy = "use the two engines of one build"
    else:
        what = f"the reference encoder of {graph.path.name}"
        path = graph.path.with_name(wanted.file)
        encoder = GraphFile(path, _read_onnx(path, what, "keep both files of the export in one folder"))
    if encoder.sha256 != wanted.sha256.lower():
        raise ArtefactError(
            f"{encoder.path}: SHA-256 is {encoder.sha256}, {graph.path.name} was made with {wanted.sha256}; {remedy}"
        )
    return encoder
