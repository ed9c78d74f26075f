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

from iqa_runtime.errors import FileError, IqaError, first_line

SAVE_STATE = "torch.save(model.state_dict(), FILE)"
_HEAD, _BLOCK = 1024, 2**20
_MOST_QUOTED = 60
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_OLD_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
"""The number that files of `torch.save` before PyTorch 1.6 begin with, behind the protocol."""

SAVE_ARRAYS = "torch.save({name: torch.from_numpy(array), ...}, FILE)"
_PICKLED = "load it where you trust it and save its tensors or arrays by name with torch.save"
_KERAS = (
    "its layers are laid out in another way than PyTorch's: convert it where it was made and save the result: "
    + SAVE_STATE
)
_FORMS = (
    (rb"\s*version https://git-lfs", "a pointer of Git LFS, not the weights; run `git lfs pull` where it comes from"),
    (
        rb"(?i)\s*(<!--.*-->\s*)?<(!doctype html|html|head|script|body)",
        "a web page, not the weights; open the link in a browser and save the file that it offers",
    ),
    (rb"\s*(<\?xml[^>]*>\s*)?<net\b", "a graph of OpenVINO; give the checkpoint of PyTorch that it was made from"),
    (rb"\s*<", "an XML answer of a server, not the weights; check the link and download again"),
    (rb"\s*[{\[]", "JSON text, a description or the answer of a server, and no weights; give the file that holds them"),
    (rb"\x1f\x8b", "compressed with gzip; unpack it (gunzip) and give the file inside"),
    (rb"BZh", "compressed with bzip2; unpack it (bunzip2) and give the file inside"),
    (rb"\xfd7zXZ", "compressed with xz; unpack it (unxz) and give the file inside"),
    (rb"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it (unzstd) and give the file inside"),
    (
        rb"x[\x01\x5e\x9c\xda]|ZF0x",
        f"compressed with zlib, as joblib does; {_PICKLED}",
    ),
    (rb"7z\xbc\xaf|Rar!", "an archive; unpack it and give the checkpoint inside"),
    (rb".{4}TFL3", "a program of TensorFlow Lite; give the checkpoint of PyTorch, if there is one"),
    (
        rb"MATLAB |[\0-\x34]\0\0\0.{8}\0\0\0\0.{4}[A-Za-z]\w*\0",
        f"a file of MATLAB; read it (scipy.io.loadmat, h5py) and save its arrays: {SAVE_ARRAYS}",
    ),
    (rb"\x89HDF", f"an HDF5 file, as Keras writes it; {_KERAS}"),
    (
        rb"\x80[\x02-\x05]|\}q|\]q|\([dl]p?\d*\n|c[\w.]+\n\w+\n",
        f"a pickle that torch.save did not write (pickle.dump, joblib, PaddlePaddle); {_PICKLED}",
    ),
    (rb"\x93NUMPY", f"one NumPy array; give all by name: {SAVE_ARRAYS}"),
    (
        rb"GGUF|GGML|lmgg|fmgg|tjgg",
        "a file of GGUF or GGML, whose weights are quantised; give the checkpoint of PyTorch that it was made from",
    ),
    (rb"\x08[\x03-\x20][\x12\x22\x2a\x32\x3a\x42]", "an ONNX graph already; give the checkpoint that it was made from"),
    (rb"\x08\x01\x12", "a graph of TensorFlow; give the checkpoint of PyTorch, if there is one"),
    (rb"\xff\xd8\xff|\x89PNG|GIF8|RIFF....WEBP|II\*\0|MM\0\*", "a picture; give the checkpoint of the network"),
    (rb"%PDF", "a PDF document; give the checkpoint of the network"),
    (rb"\0+\Z", "nothing but zeros at its beginning, as an interrupted download leaves it; download it again"),
)
"""What files begin with that are given for weights, and the way out; the first that fits."""


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
    except OSError as error:
        raise FileError(f"{path}: cannot read the checkpoint ({error.strerror or error})") from error
    if not head:
        raise CheckpointError(f"{path}: the file is empty; download or copy it again")
    if head[4:9] == b"\0\0\0\0{":
        return _read_safetensors(path, int.from_bytes(head[:8], "little"), size)
    if head.startswith(_ZIP):
        _check_zip(path)
        return _load(path), {}
    if head.startswith(_PICKLE) and head[2:15].startswith(_OLD_TORCH):
        return _load(path), {}
    raise CheckpointError(f"{path}: {_named(path, head)}")


def _named(path: Path, head: bytes) -> str:
    """Say what a file is that is no checkpoint, and the way out."""
    text = _as_text(head)
    start = head if text is None else text.encode()
    for pattern, what in _FORMS:
        if re.match(pattern, start, re.DOTALL):
            return what
    if text is not None:
        begin = text.split("\n")[0][:_MOST_QUOTED].strip()
        return (
            f"neither a file of torch.save nor safetensors but text, which begins with {begin!r}; check where it comes "
            "from, and download the file itself"
        )
    try:
        if tarfile.is_tarfile(path):
            return "a tar archive; unpack it (tar -xf) and give the checkpoint inside"
    except (OSError, tarfile.TarError):
        pass  # no archive, then
    return "neither a file of torch.save nor safetensors; if it should be one, it is damaged: download it again"


def _as_text(head: bytes) -> str | None:
    """Return what a file begins with as text, without a byte order mark; None if it is none."""
    coding = "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        # A character may be cut at the end.
        text = codecs.getincrementaldecoder(coding)().decode(head).strip()
    except UnicodeDecodeError:
        return None
    return text if text and all(character.isprintable() or character.isspace() for character in text) else None


def _read_safetensors(path: Path, header: int, size: int) -> tuple[Any, dict[str, str]]:
    if header + 8 > size:
        raise CheckpointError(f"{path}: cut short: {size} bytes of a safetensors file; download or copy it again")
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        tensors = safetensors.torch.load_file(path)
    except OSError as error:
        raise FileError(f"{path}: cannot read the checkpoint ({error.strerror or error})") from error
    except Exception as error:  # the library's exception has no documented base
        what = (
            "cut short, or longer than its header says"
            if "not fully covered" in str(error)
            else f"a damaged safetensors file ({first_line(error)})"
        )
        raise CheckpointError(f"{path}: {what}; download or copy it again") from error
    # Of tensors that are one in the network, the library's `save_model` writes one and notes the names of the others.
    noted = {name: tensors[other] for name, other in metadata.items() if other in tensors}
    return noted | tensors, metadata


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
        what = f"arrays of NumPy; save them as tensors: {SAVE_ARRAYS}"
    elif any(name.endswith(".weights.h5") for name in names):
        what = f"a model of Keras; {_KERAS}"
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
                    f"{path}: damaged: its member {member.filename} cannot be read ({first_line(error)}); download or "
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
        what = f"an object of {named[1]}, as a whole pickled network does" if named else "more than tensors"
        raise CheckpointError(
            f"{path}: holds {what}, or is damaged, and is not opened, because it could run code; where you trust it, "
            "load it (torch.load(FILE, weights_only=False), with the network's own package installed) and save the "
            f"state dict alone: {SAVE_STATE}"
        ) from error
    except Exception as error:  # a damaged file makes the unpickler raise anything
        raise CheckpointError(
            f"{path}: damaged or cut short ({first_line(error)}); download or copy it again"
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
