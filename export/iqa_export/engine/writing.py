"""Put a plan, its description and its signature on disk, so that no reader ever meets half of them."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from iqa_runtime.artefacts.engine_file import EngineFile
from iqa_runtime.artefacts.files import description_path
from iqa_runtime.artefacts.signing import sign, signature_path
from iqa_runtime.errors import FileError


@dataclass(frozen=True, slots=True)
class Package:
    """A plan to be written: where, its bytes, its description."""

    path: Path
    content: bytes
    described: EngineFile


def write_packages(packages: list[Package], *, key: Path | None = None) -> None:
    """Write plans, descriptions and, with a private key, signatures: all, or none if one cannot be written.

    All is written to a folder beside the target first. Then files are renamed, each plan before its description: as
    long as only one of the two is new, the digest refuses the pair. Signatures of earlier plans of these names go.

    Raises
    ------
    FileError
        If something cannot be written, or the key not be read.
    UsageError, DependencyError
        As `iqa_runtime.artefacts.signing.sign`.
    """
    output = packages[-1].path
    try:
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.stem}.") as folder:
            new, old = Path(folder, "new"), Path(folder, "old")
            new.mkdir()
            old.mkdir()
            targets: list[Path] = []
            for package in packages:
                description = description_path(package.path)
                text = package.described.to_json()
                (new / package.path.name).write_bytes(package.content)
                (new / description.name).write_bytes(text)
                if key is not None:
                    (new / signature_path(description).name).write_bytes(sign(text, key))
                targets += [package.path, signature_path(description), description]
            _exchange(targets, new, old)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{output}: cannot write there ({error.strerror}); check folder and disk") from error


def _exchange(targets: list[Path], new: Path, old: Path) -> None:
    """Replace each target by the file of its name in `new`, if there is one; put everything back if that fails."""
    with ExitStack() as undoing:
        for target in targets:
            if target.is_file():
                target.replace(old / target.name)
                undoing.callback((old / target.name).replace, target)
            if (new / target.name).exists():
                (new / target.name).replace(target)
                undoing.callback(target.unlink)
        undoing.pop_all()
