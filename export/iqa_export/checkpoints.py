"""Read checkpoints: PyTorch files without running their code, safetensors; wrapped or bare; keys mapped and checked."""

from __future__ import annotations

import hashlib
import pickle
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from iqa_runtime.contract import FileDigest
from iqa_runtime.errors import FileError, IqaError

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "params", "params_ema", "weights")
PREFIXES = ("module.", "_orig_mod.", "model.")


class CheckpointError(IqaError, ValueError):
    """A checkpoint cannot be read safely, or its entries don't fit the network."""


@dataclass(frozen=True)
class KeyMap:
    """How the names of our network become those of a published checkpoint.

    Attributes
    ----------
    prefixes
        Our prefix to the published one, up to a dot or the end of the name; the longest that fits is replaced. A name
        with none of them is published as it is.
    ignored
        Regular expressions of published entries that the network does not use or rebuilds itself.
    """

    prefixes: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def published(self, name: str) -> str:
        """Return the published key of one of our names."""
        end = len(name)
        while end > 0:
            if name[:end] in self.prefixes:
                return self.prefixes[name[:end]] + name[end:]
            end = name.rfind(".", 0, end)
        return name

    def ignores(self, key: str) -> bool:
        """Whether a published entry is known and not used."""
        return any(re.fullmatch(pattern, key) for pattern in self.ignored)


@dataclass(frozen=True)
class Checkpoint:
    """The entries of a checkpoint, by published key, and where they come from.

    Attributes
    ----------
    entries
        The tensors.
    file, sha256
        Name of the file without folders, or ``random:SEED``; digest of its bytes, or of the random values.
    trained
        False for random values.
    metadata
        What a safetensors file says of itself; of use are ``licence`` and ``trained_on``.
    """

    entries: dict[str, Tensor]
    file: str
    sha256: str
    trained: bool = True
    metadata: dict[str, str] = field(default_factory=dict)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Parameters
    ----------
    path
        ``.safetensors``, or a file of `torch.save` whatever its suffix. Of the latter only tensors and plain containers
        are read (``weights_only=True``): a checkpoint from the network cannot run code.

    Raises
    ------
    FileError
        If the file cannot be read.
    CheckpointError
        If it is damaged, holds more than tensors, or holds no state dict.
    """
    try:
        digest = FileDigest.of_file(path)
        metadata: dict[str, str] = {}
        if path.suffix == ".safetensors":
            content: Any = safetensors.torch.load_file(path)
            with safetensors.safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise FileError(f"{path}: cannot read the checkpoint ({error.strerror or error}); check --weights") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds more than tensors, or is no checkpoint, and is not opened, because it could run code; "
            "save the state dict with torch.save(model.state_dict(), FILE) and give that file"
        ) from error
    except Exception as error:  # a damaged file makes the unpickler raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: damaged or not a checkpoint ({reason}); download it again") from error
    return Checkpoint(_unwrap(content, path), digest.file, digest.sha256, metadata=metadata)


def random_checkpoint(network: nn.Module, seed: int, key_map: KeyMap) -> Checkpoint:
    """Fill every tensor of a network at random: batch-normalisation statistics and tensors that start at zero included.

    Matrices keep the size of their input (standard deviation 1 / sqrt(fan-in)), so that activations neither die nor
    explode; scales lie around one, so that no branch is switched off. Equal seeds give equal values on every machine.
    """
    entries = {}
    for name, tensor in network.state_dict().items():
        if not tensor.is_floating_point():
            continue
        key = key_map.published(name)
        random = np.random.RandomState((zlib.crc32(key.encode()) + seed) % 2**32)
        if key.endswith("running_var"):
            values = random.uniform(0.8, 1.2, tensor.shape)
        elif tensor.ndim >= 2:
            values = random.standard_normal(tensor.shape) / np.sqrt(np.prod(tensor.shape[1:]))
        elif key.endswith("weight"):
            values = 1 + 0.1 * random.standard_normal(tensor.shape)
        else:
            values = 0.1 * random.standard_normal(tensor.shape)
        entries[key] = torch.from_numpy(np.asarray(values, dtype=np.float32))
    digest = hashlib.sha256()
    for key in sorted(entries):
        digest.update(key.encode() + entries[key].numpy().tobytes())
    return Checkpoint(entries, f"random:{seed}", digest.hexdigest(), trained=False)


def load_into(network: nn.Module, checkpoint: Checkpoint, key_map: KeyMap) -> None:
    """Copy a checkpoint's entries into a network, strictly.

    Raises
    ------
    CheckpointError
        One error that lists every missing, unexpected and misshapen entry by its published key.
    """
    expected = {key_map.published(name): (name, tensor) for name, tensor in network.state_dict().items()}
    entries = checkpoint.entries
    # Integer buffers are counters and indices: nothing that scoring reads comes from the file.
    required = [key for key, (_, tensor) in expected.items() if tensor.is_floating_point()]
    missing = [key for key in required if key not in entries]
    unexpected = [key for key in entries if key not in expected and not key_map.ignores(key)]
    misshapen = [
        f"{key} {_form(entries[key])}, expected {tuple(expected[key][1].shape)} floating"
        for key in required
        if key in entries and (entries[key].shape != expected[key][1].shape or not _is_dense_float(entries[key]))
    ]
    problems = [
        f"{len(keys)} {title} ({', '.join(keys)})"
        for title, keys in (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen))
        if keys
    ]
    if problems:
        raise CheckpointError(
            f"{checkpoint.file}: the entries don't fit {type(network).__name__}: {'; '.join(problems)}; "
            "check --model and --variant"
        )
    network.load_state_dict({expected[key][0]: entries[key] for key in required}, strict=False)


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    """Find the state dict inside what training loops save, and strip the prefixes that wrappers add to every key."""
    while isinstance(content, Mapping) and not _is_state_dict(content):
        inner = next((content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not _is_state_dict(content):
        raise CheckpointError(
            f"{path}: no state dict, bare or under {', '.join(WRAPPERS)}; save model.state_dict() and give that file"
        )
    entries = dict(content)
    while prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in entries)), None):
        entries = {key.removeprefix(prefix): tensor for key, tensor in entries.items()}
    return entries


def _is_state_dict(content: Mapping[Any, Any]) -> bool:
    return bool(content) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())


def _is_dense_float(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.layout is torch.strided


def _form(tensor: Tensor) -> str:
    kind = "floating" if _is_dense_float(tensor) else f"{tensor.dtype}, {tensor.layout}".replace("torch.", "")
    return f"{tuple(tensor.shape)} {kind}"
