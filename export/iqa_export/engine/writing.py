"""Put a plan, its description and its signature on disk, so that no reader ever meets half of them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from iqa_runtime.errors import FileError
from iqa_runtime.plan import PlanFile, json_path
from iqa_runtime.signatures import sign, signature_path


@dataclass(frozen=True, slots=True)
class Package:
    """A plan to be written: where, its bytes, its description."""

    path: Path
    content: bytes
    described: PlanFile


def write_packages(packages: list[Package], *, key: Path | None = None) -> None:
    """Write plans, descriptions and, with a private key, signatures.

    All is written to a folder beside the target first. Then files are renamed, each plan before its description: as
    long as only one of the two is new, the digest refuses the pair.

    Raises
    ------
    FileError
        If something cannot be written, or the key not be read.
    UsageError, DependencyError
        As `iqa_runtime.signatures.sign`.
    """
    output = packages[-1].path
    try:
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.stem}.") as folder:
            written: list[tuple[Path, Path]] = []
            for package in packages:
                text = package.described.to_json()
                files = {package.path: package.content}
                if key is not None:
                    files[signature_path(json_path(package.path))] = sign(text, key)
                files[json_path(package.path)] = text
                for target, content in files.items():
                    temporary = Path(folder, target.name)
                    temporary.write_bytes(content)
                    written.append((temporary, target))
            for temporary, target in written:
                temporary.replace(target)
            if key is None:
                for package in packages:
                    # One that an earlier plan of this name left.
                    signature_path(json_path(package.path)).unlink(missing_ok=True)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{output}: cannot write there ({error.strerror}); check folder and disk") from error
