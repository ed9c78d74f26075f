"""Open a file of weights: its bytes tell what it is, not its name, and nothing in it runs.

What is no checkpoint is named as what it is, with the way out.
"""

from __future__ import annotations

import argparse
import codecs
import pathlib
import pickle
import re
import tarfile
import warnings
import zipfile
import zlib
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from iqa_runtime.errors import FileError, IqaError

SAVE_STATE = "torch.save(model.state_dict(), FILE)"
_HEAD, _BLOCK = 1024, 2**20
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_OLD_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
"""The number that files of `torch.save` before PyTorch 1.6 begin with, behind the protocol."""

_PAGE = "a web page, not the weights; open the link in a browser and save the file that it offers"
_FORMS = (
    (rb"\s*version https://git-lfs", "a pointer of Git LFS, not the weights; run `git lfs pull` where it comes from"),
    (rb"(?i)(\xef\xbb\xbf)?\s*(<!--.*-->\s*)?<(!doctype html|html|head|script|body)", _PAGE),
    (rb"\s*<", "an XML answer of a server, not the weights; check the link and download again"),
    (rb"\s*[{\[]", "JSON text; it names or describes weights and holds none: give the file that does"),
    (rb"\x1f\x8b", "compressed with gzip; unpack it (gunzip) and give the file inside"),
    (rb"BZh", "compressed with bzip2; unpack it (bunzip2) and give the file inside"),
    (rb"\xfd7zXZ", "compressed with xz; unpack it (unxz) and give the file inside"),
    (rb"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it (unzstd) and give the file inside"),
    (rb"7z\xbc\xaf|Rar!", "an archive; unpack it and give the checkpoint inside"),
    (rb"\x89HDF", "an HDF5 file (Keras, MATLAB) and no weights of PyTorch; convert it where it was made"),
    (rb"\x93NUMPY", "one NumPy array; make a state dict of arrays by name and save it with torch.save"),
)


class CheckpointError(IqaError, ValueError):
    """A checkpoint cannot be read safely, or its entries don't fit the network."""


def read_content(path: Path) -> tuple[Any, dict[str, str]]:
    """Read what a file of weights holds.

    Parameters
    ----------
    path
        A file of safetensors or of `torch.save`, whatever its suffix. Of the latter only tensors, plain containers and
        what training loops keep beside them (`_plain_objects`) are read: a checkpoint cannot run code.

    Returns
    -------
    tuple
        The content as saved, and what a safetensors file says of itself.

    Raises
    ------
    FileError
        If there is no such file, or it cannot be read.
    CheckpointError
        If it is something else, damaged, or holds objects that would run code.
    """
    if path.is_dir():
        raise FileError(f"{path}: a folder; give the checkpoint in it")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        size = path.stat().st_size
        is_tar = bool(head) and head[:1] != _PICKLE and tarfile.is_tarfile(path)
    except OSError as error:
        raise FileError(f"{path}: cannot read the checkpoint ({error.strerror or error})") from error
    except tarfile.TarError:
        is_tar = False
    if not head:
        raise CheckpointError(f"{path}: the file is empty; download or copy it again")
    if head[8:9] == b"{" and not head.lstrip().startswith(b"{"):
        return _read_safetensors(path, int.from_bytes(head[:8], "little"), size)
    if head.startswith(_ZIP):
        _check_zip(path)
        return _load(path), {}
    if head.startswith(_PICKLE):
        if head[2:15].startswith(_OLD_TORCH):
            return _load(path), {}
        raise CheckpointError(
            f"{path}: a pickle that torch.save did not write; load it where you trust it and save its tensors by name "
            "with torch.save"
        )
    if is_tar and not head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")):
        raise CheckpointError(f"{path}: a tar archive; unpack it (tar -xf) and give the checkpoint inside")
    for pattern, what in _FORMS:
        if re.match(pattern, head, re.DOTALL):
            raise CheckpointError(f"{path}: {what}")
    raise CheckpointError(
        f"{path}: neither a file of torch.save nor safetensors; if it should be one, it is damaged: download it again"
    )


def _read_safetensors(path: Path, header: int, size: int) -> tuple[Any, dict[str, str]]:
    if header + 8 > size:
        raise CheckpointError(f"{path}: cut short: {size} bytes of a safetensors file; download or copy it again")
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        return safetensors.torch.load_file(path), metadata
    except OSError as error:
        raise FileError(f"{path}: cannot read the checkpoint ({error.strerror or error})") from error
    except Exception as error:  # the library's exception has no documented base
        what = (
            "cut short" if "not fully covered" in str(error) else f"a damaged safetensors file ({_first_line(error)})"
        )
        raise CheckpointError(f"{path}: {what}; download or copy it again") from error


def _check_zip(path: Path) -> None:
    """Tell a file of `torch.save` from the other formats that are zip archives too."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise CheckpointError(
            f"{path}: cut short: its end is missing; download or copy it again, or take an earlier checkpoint"
        ) from error
    inner = {name.partition("/")[2] or name for name in names}
    if "constants.pkl" in inner:
        what = "a TorchScript program; save the state dict of the module it was made of: " + SAVE_STATE
    elif "data.pkl" in inner:
        _check_members(path)
        return
    elif {"archive_format", "archive_version"} & inner or any(name.startswith("models/") for name in inner):
        what = "a program of torch.export; save the state dict of the module it was made of: " + SAVE_STATE
    elif names and all(name.endswith(".npy") for name in names):
        what = "arrays of NumPy; save them as tensors: torch.save({name: torch.from_numpy(array), ...}, FILE)"
    else:
        what = "a zip archive; unpack it and give the checkpoint inside"
    raise CheckpointError(f"{path}: {what}")


def _check_members(path: Path) -> None:
    """Hold the members of a zip to their checksums, which PyTorch does not; it can be told to write none (zeros)."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            checksum, member.CRC = member.CRC, None  # type: ignore[assignment]  # typeshed does not know it may be None
            actual = 0
            try:
                with archive.open(member) as file:
                    while block := file.read(_BLOCK):
                        actual = zlib.crc32(block, actual)
            except Exception as error:  # damaged headers make the library raise anything
                raise CheckpointError(
                    f"{path}: damaged: its member {member.filename} cannot be read ({_first_line(error)}); download or "
                    "copy it again"
                ) from error
            if checksum not in (0, actual):
                raise CheckpointError(
                    f"{path}: damaged: the bytes of its member {member.filename} do not have the checksum that they "
                    "were saved with; download or copy it again"
                )


def _load(path: Path) -> Any:
    try:
        # The library warns of old formats, which concerns their writers,
        # and would read the suffix of a path.
        with path.open("rb") as file, warnings.catch_warnings(), torch.serialization.safe_globals(_plain_objects()):
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f"an object of {named[1]}" if named else "more than tensors"
        raise CheckpointError(
            f"{path}: holds {what}, or is damaged, and is not opened, because it could run code; where you trust it, "
            f"load it and save the state dict alone: {SAVE_STATE}"
        ) from error
    except Exception as error:  # a damaged file makes the unpickler raise anything
        raise CheckpointError(
            f"{path}: damaged or cut short ({_first_line(error)}); download or copy it again"
        ) from error


def _plain_objects() -> list[Any]:
    """List what training loops save beside the state dict; to build one of these runs no code of the file's choice."""
    multiarray = import_module("numpy._core.multiarray" if hasattr(np, "_core") else "numpy.core.multiarray")
    functions = [
        (getattr(multiarray, name), f"numpy.{core}.multiarray.{name}")
        for name in ("scalar", "_reconstruct")
        for core in ("core", "_core")
    ]
    dtypes = {type(np.dtype(code)) for code in np.typecodes["All"]}
    paths = [pathlib.PurePosixPath, pathlib.PosixPath, pathlib.PureWindowsPath, pathlib.WindowsPath]
    return [*functions, np.ndarray, np.dtype, *dtypes, codecs.encode, argparse.Namespace, *paths]


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
