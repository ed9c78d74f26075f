"""Opening an artefact: what it is and whether it may run is settled here, before anything else looks at it."""

from __future__ import annotations

import os
from pathlib import Path

from iqa_runtime.artefacts.contract_json import contract_from_json
from iqa_runtime.artefacts.onnx_metadata import read_metadata
from iqa_runtime.contract import METADATA_KEY, PLAN_SUFFIX, REFERENCE_ENCODER_SUFFIX, Contract
from iqa_runtime.errors import ArtefactError, FileError, UsageError


def read_contract(artefact: str | Path, *, trust: str | os.PathLike[str] | None = None) -> Contract:
    """Read the contract out of an ONNX artefact, or that of an engine from the description beside it.

    Parameters
    ----------
    artefact
        Path of an ``.onnx`` or ``.plan`` file written by ``iqa-export``.
    trust
        Public key (PEM, Ed25519) that must have signed an engine; None to take it from anybody.

    Raises
    ------
    FileError
        If the file, the key or the signature cannot be read.
    ArtefactError
        If it is not an ONNX file, carries no valid contract, or is not signed by that key.
    UsageError
        If there is nothing to sign in such an artefact, or the key is none.
    DependencyError
        If `trust` is given and ``cryptography`` is not installed.
    """
    path = Path(artefact)
    if path.suffix.lower() == PLAN_SUFFIX:
        # Here and not above, so that scorers of ONNX files don't load what they never need.
        from iqa_runtime.artefacts.engine_file import read_plan_contract

        return read_plan_contract(path, trust=None if trust is None else Path(trust))
    if trust is not None:
        raise UsageError(f"{path}: trust={os.fspath(trust)}: only engines ({PLAN_SUFFIX}) are signed; leave it out")
    try:
        metadata = read_metadata(path)
    except OSError as error:
        raise FileError(f"{path}: cannot read the artefact ({error.strerror}); check the path") from error
    except ValueError as error:
        raise ArtefactError(f"{path}: not an ONNX file ({error}); give a file written by iqa-export") from error
    if METADATA_KEY not in metadata and path.name.endswith(REFERENCE_ENCODER_SUFFIX):
        scorer = path.name.removesuffix(REFERENCE_ENCODER_SUFFIX) + ".onnx"
        raise ArtefactError(f"{path}: the reference encoder of {scorer}, which finds it by itself; give {scorer}")
    if METADATA_KEY not in metadata:
        raise ArtefactError(f"{path}: an ONNX file without a contract; only files written by iqa-export can be scored")
    return contract_from_json(metadata[METADATA_KEY], source=str(path))
