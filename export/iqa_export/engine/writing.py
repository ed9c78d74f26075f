"""Put a plan, its description and its signature on disk, so that no reader ever meets half of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from iqa_runtime.artefacts.engine_file import EngineFile
from iqa_runtime.artefacts.files import description_path, signature_path
from iqa_runtime.artefacts.signing import sign
from iqa_runtime.files.overwriting import replaced_at_once


@dataclass(frozen=True, slots=True)
class Package:
    """A plan to be written: where, its bytes, its description."""

    path: Path
    content: bytes
    described: EngineFile


def write_packages(packages: list[Package], *, key: Path | None = None) -> None:
    """Write plans, descriptions and, with a private key, signatures: all, or none if one cannot be written.

    Each plan is replaced before its description: as long as only one of the two is new, the digest refuses the pair.
    Signatures of earlier plans of these names go.

    Raises
    ------
    FileError
        If something cannot be written, or the key not be read.
    UsageError, DependencyError
        As `iqa_runtime.artefacts.signing.sign`.
    """
    targets = [
        target
        for package in packages
        for target in (package.path, signature_path(description_path(package.path)), description_path(package.path))
    ]
    with replaced_at_once(targets) as folder:
        for package in packages:
            description = folder / description_path(package.path).name
            (folder / package.path.name).write_bytes(package.content)
            description.write_bytes(package.described.to_json())
            if key is not None:
                signature_path(description).write_bytes(sign(package.described.to_json(), key))
