"""Checkpoints: entries of a file by published key, mapped and checked, and loaded into a network."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from iqa_export.checkpoint_files import SAVE_STATE, CheckpointError
from iqa_export.checkpoint_shards import read_weights
from iqa_export.state_dicts import find_state, is_extra

__all__ = [
    "RANDOM_PREFIX",
    "Checkpoint",
    "CheckpointError",
    "KeyMap",
    "expected_keys",
    "load_into",
    "random_checkpoint",
    "read_checkpoint",
]

RANDOM_PREFIX = "random:"
"""Of what stands for the file of random weights; the seed follows."""

_COUNTER = "num_batches_tracked"
"""Of batch normalisation: no evaluation reads it, and old files lack it."""
_WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


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
        Name of the file without folders, or ``random:SEED``; digest of its bytes, or of the random values. Of a
        checkpoint in several files they are those of the index, see `iqa_export.checkpoint_shards.read_weights`.
    trained
        False for random values.
    metadata
        What a safetensors file says of itself; of use are ``licence`` and ``trained_on``.
    entry
        Where in the file they were: names of the mappings around them and the prefix that was dropped, joined by dots;
        ``.`` where they lay bare and were chosen among others, None where they were all there is.
    extra
        What modules of the network save beside tensors (`torch.nn.Module.get_extra_state`), by published key.
    ignored
        Keys beside them that are none of the network's, such as those of a loss.
    """

    entries: dict[str, Tensor]
    file: str
    sha256: str
    trained: bool = True
    metadata: dict[str, str] = field(default_factory=dict)
    entry: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()


def read_checkpoint(
    path: Path, *, weights_key: str | None = None, expected: Iterable[Collection[str]] = ()
) -> Checkpoint:
    """Read a checkpoint.

    Parameters
    ----------
    path
        A file of safetensors or of `torch.save`, whatever its suffix, or the index of several of these. Of the latter
        only tensors and plain values are read: a checkpoint from the network cannot run code.
    weights_key
        Which of several state dicts in the file: `Checkpoint.entry` of it, or the beginning of that.
    expected
        Published names of the entries of each network it may be (`expected_keys`), in the order of preference.

    Raises
    ------
    FileError
        If the file cannot be read.
    CheckpointError
        If it is no checkpoint, damaged, holds more than plain values, or holds none or more than one state dict.
    """
    content, metadata, digest = read_weights(path)
    state = find_state(content, str(path), weights_key=weights_key, expected=expected)
    return Checkpoint(
        state.entries,
        digest.file,
        digest.sha256,
        metadata=metadata,
        entry=state.entry,
        extra=state.extra,
        ignored=state.ignored,
    )


def expected_keys(network: nn.Module, key_map: KeyMap) -> dict[str, bool]:
    """Return the published keys that a checkpoint of a network must have, and whether they are of parameters.

    Of tensors that are one in the network, such as tied weights, one is enough.
    """
    expected = _expected(network, key_map)
    needed = {key: entry.is_parameter for key, entry in expected.items() if entry.needed and entry.same_as == key}
    return needed | dict.fromkeys(_extra_keys(network, key_map), False)


def random_checkpoint(network: nn.Module, seed: int, key_map: KeyMap) -> Checkpoint:
    """Fill parameters and the statistics of batch normalisation at random, those that start at zero included.

    Matrices keep the size of their input (standard deviation 1 / sqrt(fan-in)), so that activations neither die nor
    explode; scales lie around one, so that no branch is switched off. Equal seeds give equal values on every machine.
    Other buffers are constants of the network, a fixed filter or an order of channels, and stay what they are.
    """
    entries: dict[str, Tensor] = {}
    expected = _expected(network, key_map)
    for key in sorted(expected, key=lambda key: expected[key].same_as != key):
        name, tensor, is_parameter, _, same_as = expected[key]
        if name.endswith(_COUNTER):
            continue
        if same_as != key:
            entries[key] = entries[same_as]
            continue
        if not is_parameter and not name.endswith(("running_mean", "running_var")):
            entries[key] = tensor.detach().clone()
            continue
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
        digest.update(key.encode() + entries[key].reshape(-1).view(torch.uint8).numpy().tobytes())
    return Checkpoint(entries, f"{RANDOM_PREFIX}{seed}", digest.hexdigest(), trained=False)


def load_into(network: nn.Module, checkpoint: Checkpoint, key_map: KeyMap) -> None:
    """Copy a checkpoint's entries into a network, strictly: buffers of any type, and nothing left over.

    Raises
    ------
    CheckpointError
        One error that lists every missing, unexpected and misshapen entry, and those that are not finite, by its
        published key; or if a module does not take the extra state that was saved for it.
    """
    expected, extra = _expected(network, key_map), _extra_keys(network, key_map)
    entries, unequal = _with_tied(checkpoint.entries, expected)
    needed = [key for key, entry in expected.items() if entry.needed]
    taken = [key for key in needed if key in entries]
    misfits = {key: _misfit(key, entries[key], expected[key].tensor) for key in taken}
    lists = {
        "missing": [key for key in needed if key not in entries]
        + [key for key in extra if checkpoint.trained and key not in checkpoint.extra],
        "unexpected": [key for key in entries if key not in expected and not key_map.ignores(key)],
        "misshapen": [key for key in taken if misfits[key]],
        "unlike, though one tensor in the network": unequal,
        "not finite": [key for key in taken if not misfits[key] and not _is_finite(entries[key], expected[key])],
    }
    wrong = {title: keys for title, keys in lists.items() if keys}
    if wrong:
        where = f" (its entry {checkpoint.entry})" if checkpoint.entry else ""
        said = [
            f"{len(keys)} {title} ({', '.join(misfits.get(key) or key for key in keys)})"
            for title, keys in wrong.items()
        ]
        raise CheckpointError(
            f"{checkpoint.file}{where}: the entries don't fit {type(network).__name__}: {'; '.join(said)}; "
            f"{_remedy(checkpoint, wrong)}"
        )
    state: dict[str, Any] = {expected[key].name: entries[key].to(expected[key].tensor.dtype) for key in taken}
    state |= {extra[key]: value for key, value in checkpoint.extra.items() if key in extra}
    try:
        network.load_state_dict(state, strict=False)
    except Exception as error:  # a module may refuse its extra state in any way
        if not checkpoint.extra:
            raise
        raise CheckpointError(
            f"{checkpoint.file}: {type(network).__name__} does not take its extra state "
            f"({', '.join(checkpoint.extra)}): "
            f"{type(error).__name__}: {' '.join(str(error).split())}; check which network the weights are for"
        ) from error


def _remedy(checkpoint: Checkpoint, wrong: Mapping[str, Sequence[str]]) -> str:
    """Say what to do about entries that don't fit, by the titles of the lists that they are in."""
    entries = checkpoint.entries
    part = re.search(r"-\d+-of-0*([1-9]\d*)\.", checkpoint.file)
    if wrong.keys() == {"missing"}:
        if part:
            return (
                f"the file is one of {part[1]} parts; give the index beside them, such as model.safetensors.index.json"
            )
        return "check which network the weights are for, and whether the file is one part of several"
    if wrong.keys() == {"not finite"}:
        if all(bool(entries[key].isfinite().all()) for key in wrong["not finite"]):
            return "float32 has no numbers that large; look at these entries, and save the checkpoint in float32"
        return "its training diverged; take an earlier checkpoint"
    if any("lora_" in key for key in wrong.get("unexpected", ())):
        return "it is an adapter (LoRA): merge it into the network that it was trained for, and save the state dict"
    forms = [entries[key] for key in wrong.get("misshapen", ())]
    if any(value.is_meta for value in forms):
        return f"it was saved without values (device meta); load the weights first, then {SAVE_STATE}"
    if any(value.is_quantized or value.dtype in _WHOLE for value in forms):
        return f"weights as whole numbers are quantised; give those that they were made of: {SAVE_STATE}"
    if any(value.layout is not torch.strided for value in forms):
        return "sparse entries: save them as value.to_dense()"
    return "check which network the weights are for"


class _Expected(NamedTuple):
    """One tensor of a network.

    `needed` is False where no checkpoint has to have it, and none is asked for it; `same_as` is the first key, in the
    order of the alphabet, of the same tensor: its own, but where modules share one.
    """

    name: str
    tensor: Tensor
    is_parameter: bool
    needed: bool
    same_as: str


def _expected(network: nn.Module, key_map: KeyMap) -> dict[str, _Expected]:
    """Return the tensors of a network by published key."""
    parameters = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    tensors = {key_map.published(name): (name, tensor) for name, tensor in _state_of(network).items()}
    first: dict[tuple[object, ...], str] = {}
    for key in sorted(tensors):
        first.setdefault(_identity(tensors[key][1]), key)
    found = {}
    for key, (name, tensor) in tensors.items():
        is_parameter = name in parameters
        needed = is_parameter or not (key.endswith(_COUNTER) or key_map.ignores(key))
        found[key] = _Expected(name, tensor, is_parameter, needed, first[_identity(tensor)])
    return found


def _identity(tensor: Tensor) -> tuple[object, ...]:
    """Return what two tensors of a network have in common if, and only if, they are one."""
    address = 0 if tensor.is_meta else tensor.data_ptr()
    return (address or id(tensor), tensor.shape, tensor.stride(), tensor.dtype)


def _with_tied(entries: Mapping[str, Tensor], expected: Mapping[str, _Expected]) -> tuple[dict[str, Tensor], list[str]]:
    """Fill in what is there under another name of the same tensor; also return names whose values differ."""
    filled, unequal = dict(entries), []
    for key, entry in expected.items():
        if entry.same_as == key:
            continue
        names = [name for name in (entry.same_as, key) if name in filled]
        if len(names) == 1:
            filled[entry.same_as] = filled[key] = filled[names[0]]
        elif names and not _is_same(filled[entry.same_as], filled[key]):
            unequal.append(f"{entry.same_as} and {key}")
    return filled, unequal


def _is_same(first: Tensor, second: Tensor) -> bool:
    return first is second or (not first.is_meta and first.dtype == second.dtype and bool(first.equal(second)))


def _state_of(network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a network's state, without the extra state of modules."""
    return {
        name: value for name, value in network.state_dict().items() if isinstance(value, Tensor) and not is_extra(name)
    }


def _extra_keys(network: nn.Module, key_map: KeyMap) -> dict[str, str]:
    """Return the names of the extra state of a network's modules by published key, but for what it does not use."""
    names = {key_map.published(name): name for name in network.state_dict() if is_extra(name)}
    return {key: name for key, name in names.items() if not key_map.ignores(key)}


def _is_finite(value: Tensor, expected: _Expected) -> bool:
    """Tell whether values are numbers; buffers may hold infinities on purpose, as masks of attention do."""
    if not value.is_floating_point():
        return True
    taken = value.to(expected.tensor.dtype)
    return bool((taken.isfinite() if expected.is_parameter else ~taken.isnan()).all())


def _misfit(key: str, value: Tensor, expected: Tensor) -> str | None:
    """Say how an entry does not fit, or None: floats of any precision fit floats, others where no value changes."""
    if not (value.is_meta or value.is_quantized or value.layout is not torch.strided) and value.shape == expected.shape:
        if value.is_floating_point() and expected.is_floating_point():
            return None
        if value.dtype == expected.dtype:
            return None
        if not (value.is_floating_point() or value.is_complex() or expected.is_floating_point()) and bool(
            value.to(expected.dtype).to(value.dtype).equal(value)
        ):
            return None
    return f"{key} {_form(value)}, expected {_form(expected)}"


def _form(tensor: Tensor) -> str:
    shape = tuple(tensor.shape)
    if tensor.is_meta:
        return f"{shape} without values"
    if tensor.is_floating_point() and tensor.layout is torch.strided:
        return f"{shape} floating"
    return f"{shape} {tensor.dtype}, {tensor.layout}".replace("torch.", "")
