"""Find the state dict of a network inside what training loops save around it.

Where the names of the network's entries are known, every mapping in the file and every prefix in it is tried: the one
that has them all is taken. Two that have them all, such as raw and averaged weights, are asked about; so are averages
of the parameters alone, and tensors whose names say that they are averages.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from iqa_export.checkpoint_files import SAVE_ARRAYS, SAVE_STATE, CheckpointError

TOP = "."
"""What `weights_key` calls entries that lie bare at the top of the file."""
_WRAPPERS = ("module.", "_orig_mod.", "model.")
_TRAINING = re.compile(
    r"(.*\.)?(_extra_state|n_averaged|total_ops|total_params)"
    r"|(epoch|step|global_step|initted|ema_updates)"
    r"|(criterion|criteria|loss|losses|loss_fn|loss_func|loss_function|metric|metrics)(_\w+)?(\..*)?"
)
"""Entries of training, not of the network: counters of averaging and profiling, losses and metrics with parameters."""
EXTRA_STATE = "_extra_state"
"""Last part of the name under which PyTorch keeps what a module's `get_extra_state` returns."""
_DEPTH, _MOST_LISTED = 5, 5
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_AVERAGES = {"ema", "shadow", "averaged", "swa"}
"""Words in names of averaged weights, whatever form these have: a list, or names without dots."""


@dataclass(frozen=True, kw_only=True)
class State:
    """A state dict as found in a file.

    Attributes
    ----------
    entry
        Where it was: names of the mappings around it and the prefix that was dropped, joined by dots; `TOP` where it
        lay bare and was chosen among others, None where it was all there is.
    entries
        Its tensors by published key.
    extra
        What modules of the network save beside tensors (`EXTRA_STATE`), by published key.
    ignored
        Keys beside it that are none of the network's.
    """

    entry: str | None
    entries: dict[str, Tensor]
    extra: dict[str, Any]
    ignored: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """One prefix in one mapping.

    `keys` are the file's, by the names that the network has or would have; `matched` are those that it has.
    """

    path: tuple[str, ...]
    prefix: str
    content: Mapping[str, Any]
    keys: Mapping[str, str]
    matched: frozenset[str] = frozenset()

    @property
    def label(self) -> str:
        parts = [*self.path, self.prefix.removesuffix(".")]
        return ".".join(part for part in parts if part) or TOP

    @property
    def entries(self) -> dict[str, Tensor]:
        """Tensors but for those that are known to be of training."""
        return {
            name: value
            for name, key in self.keys.items()
            if isinstance(value := self.content[key], Tensor)
            and not is_extra(name)
            and (name in self.matched or not _TRAINING.fullmatch(name))
        }

    @property
    def extra(self) -> dict[str, Any]:
        """Extra state that the network keeps."""
        return {name: self.content[key] for name, key in self.keys.items() if name in self.matched and is_extra(name)}


def is_extra(name: str) -> bool:
    """Whether a name in a state dict is that of a module's extra state."""
    return name.rpartition(".")[2] == EXTRA_STATE


def find_state(
    content: object, source: str, *, weights_key: str | None = None, expected: Iterable[Collection[str]] = ()
) -> State:
    """Find the one state dict in the content of a file.

    Parameters
    ----------
    content
        What the file holds.
    source
        Its name, for messages.
    weights_key
        Which one, where there are several: `State.entry` of it, or the beginning of that; `TOP` for a bare one.
    expected
        Published names of the entries of each network it may be, in the order of preference; a mapping tells which are
        parameters (True), and averages of these alone are then noticed. Without any, the file has
        to hold one state dict, and prefixes that wrappers add to every key are dropped.

    Raises
    ------
    CheckpointError
        If there is none, or more than one; the message lists them. Also if there seem to be averages beside the one.
    """
    mappings = list(_mappings(content, ()))
    if not mappings:
        what, remedy = "no state dict, bare or inside; save one", SAVE_STATE
        if _holds_arrays(content):
            what, remedy = "arrays of NumPy and no tensors; save them as tensors", SAVE_ARRAYS
        raise CheckpointError(f"{source}: {what} and give that file: {remedy}")
    named = _Named(weights_key)
    candidates: list[_Candidate] = []
    covering: list[_Candidate] | None = None
    for names in expected:
        found, others = _fitting(mappings, names, named)
        # Of those that fit none, the nearest: the error then tells what is missing there and not everything.
        if found and (not candidates or len(found[0].matched) > len(candidates[0].matched)):
            candidates = found
        if found and len(found[0].matched) == len(names):
            covering = [*found, *others]
            break
    bare = [_bare(path, mapping) for path, mapping in mappings if not _has_mappings(mapping)]
    candidates = _distinct(candidates or [each for each in bare if named.fits(each.label)])
    if len(candidates) != 1:
        there = ", ".join(each.label for each in candidates or bare)
        if not there:
            raise CheckpointError(
                f"{source}: no state dict, only other tensors; save one and give that file: {SAVE_STATE}"
            )
        what = (
            f"no weights under {weights_key!r}" if not candidates else "weights in more than one place, not all equal"
        )
        raise CheckpointError(f"{source}: {what}; choose one of them with ``weights_key``: {there}")
    chosen = candidates[0]
    if covering is not None and weights_key != chosen.label and (beside := _beside(content, chosen, covering, named)):
        more = f" and {len(beside) - _MOST_LISTED} more" if len(beside) > _MOST_LISTED else ""
        raise CheckpointError(
            f"{source}: beside {chosen.label} there seem to be averaged weights, not as a whole state dict: "
            f"{', '.join(beside[:_MOST_LISTED])}{more}; ``weights_key={chosen.label}`` takes {chosen.label}; for the "
            f"averages, load them into the network that was trained and save its state dict: {SAVE_STATE}"
        )
    entries, extra = chosen.entries, chosen.extra
    used = {chosen.keys[name] for name in (*entries, *extra)}
    return State(
        entry=weights_key if chosen.label == TOP else chosen.label,
        entries=entries,
        extra=extra,
        ignored=tuple(key for key in chosen.content if key not in used),
    )


@dataclass(frozen=True)
class _Named:
    """What the user asks for: a label, or the beginning of one; None for any."""

    key: str | None

    def fits(self, label: str) -> bool:
        return self.key is None or label == self.key or label.startswith(f"{self.key}.")


def _mappings(content: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yield every mapping with tensors under names, and where it is."""
    if isinstance(content, (list, tuple)):
        content = {str(index): value for index, value in enumerate(content) if not isinstance(value, Tensor)}
    if not isinstance(content, Mapping):
        return
    # Optimisers count their parameters.
    content = {key: value for key, value in content.items() if isinstance(key, str)}
    if any(isinstance(value, Tensor) for value in content.values()):
        yield path, content
    if len(path) < _DEPTH:
        for key, value in content.items():
            yield from _mappings(value, (*path, key))


def _holds_arrays(content: object, depth: int = 0) -> bool:
    """Whether there is a NumPy array somewhere inside."""
    if isinstance(content, Mapping):
        content = list(content.values())
    if isinstance(content, (list, tuple)) and depth <= _DEPTH:
        return any(_holds_arrays(value, depth + 1) for value in content)
    return isinstance(content, np.ndarray)


def _has_mappings(mapping: Mapping[str, Any]) -> bool:
    return any(isinstance(value, Mapping) for value in mapping.values())


def _bare(path: tuple[str, ...], content: Mapping[str, Any]) -> _Candidate:
    """Return a mapping without the prefixes that wrappers add to every key."""
    tensors = [key for key, value in content.items() if isinstance(value, Tensor) and not _TRAINING.fullmatch(key)]
    prefix = ""
    while added := next((each for each in _WRAPPERS if all(key.startswith(prefix + each) for key in tensors)), ""):
        prefix += added
        if not tensors:
            break
    keys = {key.removeprefix(prefix): key for key in tensors}
    return _Candidate(path=path, prefix=prefix, content=content, keys=keys)


def _fitting(
    mappings: list[tuple[tuple[str, ...], Mapping[str, Any]]], expected: Collection[str], named: _Named
) -> tuple[list[_Candidate], list[_Candidate]]:
    """Return the mappings and prefixes that hold the most of the expected names, and those with all parameters."""
    parameters = {name for name, is_one in expected.items() if is_one} if isinstance(expected, Mapping) else set()
    best: list[_Candidate] = []
    covering: list[_Candidate] = []
    for rename in (_current, _unwrapped):
        ours = rename(expected)
        found = [
            candidate
            for path, mapping in mappings
            for candidate in _candidates(path, mapping, rename(mapping), ours)
            if named.fits(candidate.label)
        ]
        most = max((len(each.matched) for each in (*best, *found)), default=0)
        if not best or most > len(best[0].matched):
            best = [each for each in found if len(each.matched) == most]
        covering += [each for each in found if parameters and parameters <= each.matched]
        if most == len(expected):
            break
    return best, covering


def _beside(content: object, chosen: _Candidate, covering: list[_Candidate], named: _Named) -> list[str]:
    """Return where there are other values for all parameters, or tensors whose names say that they are averages."""
    equal = [each for each in covering if _agree(each.entries, chosen.entries, each.matched)]
    labels = {each.label: None for each in covering if not any(each.label == other.label for other in equal)}
    known = {id(each.content[each.keys[name]]) for each in equal for name in each.matched}
    # What would be loaded and fits nothing is told by whom it is loaded into.
    known |= {id(value) for value in chosen.entries.values()}
    for label, value in _averages(content, ()):
        if named.fits(label) and id(value) not in known and not f"{chosen.label}.".startswith(f"{label}."):
            labels[label] = None
    return [label for label in labels if label != chosen.label]


def _averages(content: object, path: tuple[str, ...]) -> Iterator[tuple[str, object]]:
    """Yield tensors and arrays under names of averages, and the beginning of where they are up to such a name."""
    if isinstance(content, (Tensor, np.ndarray)):
        parts = ".".join(path).split(".")
        for end, part in enumerate(parts, 1):
            if content.ndim and _AVERAGES.intersection(word.lower() for word in _WORDS.findall(part)):
                yield ".".join(parts[:end]), content
                return
    elif len(path) <= _DEPTH + 1 and isinstance(content, (Mapping, list, tuple)):
        items = content.items() if isinstance(content, Mapping) else enumerate(content)
        for key, value in items:
            yield from _averages(value, (*path, str(key)))


def _candidates(
    path: tuple[str, ...], mapping: Mapping[str, Any], theirs: Mapping[str, str], ours: Mapping[str, str]
) -> list[_Candidate]:
    """Return a mapping once for each prefix that some of our names stand behind."""
    matched: dict[str, set[str]] = {}
    for name in theirs:
        start = 0
        while True:
            if name[start:] in ours:
                matched.setdefault(name[:start], set()).add(ours[name[start:]])
            start = name.find(".", start) + 1
            if not start:
                break
    prefixes = tuple(prefix for prefix in matched if prefix)
    found = []
    for prefix, names in matched.items():
        complete = tuple(each for each in prefixes if len(matched[each]) == len(ours) and each != prefix)
        keys = {
            ours.get(name.removeprefix(prefix), name.removeprefix(prefix)): key
            for name, key in theirs.items()
            if name.startswith(prefix) and not (complete and name.startswith(complete))
        }
        found.append(_Candidate(path=path, prefix=prefix, content=mapping, keys=keys, matched=frozenset(names)))
    return found


def _current(keys: Collection[str]) -> dict[str, str]:
    """Return keys by what PyTorch calls them today: old weight and spectral normalisation became parametrisations."""
    renamed = {}
    known = set(keys)
    for key in keys:
        base, _, part = key.rpartition("_")
        module, dot, tensor = base.rpartition(".")
        inner = f"{module}{dot}parametrizations.{tensor}"
        if part in ("g", "v") and {f"{base}_g", f"{base}_v"} <= known:
            renamed[f"{inner}.original{'gv'.index(part)}"] = key
        elif part in ("orig", "u", "v") and {f"{base}_orig", f"{base}_u"} <= known:
            renamed[f"{inner}.original" if part == "orig" else f"{inner}.0._{part}"] = key
        else:
            renamed[key] = key
    return renamed


def _unwrapped(keys: Collection[str]) -> dict[str, str]:
    """Return keys as in `_current`, without the names that wrappers of inner modules put in the middle."""
    current = _current(keys)
    renamed = {re.sub(r"(^|\.)((module|_orig_mod)\.)+", r"\1", name): key for name, key in current.items()}
    return renamed if len(renamed) == len(current) else current


def _distinct(candidates: list[_Candidate]) -> list[_Candidate]:
    """Leave out what holds the same values as one before it."""
    distinct: list[_Candidate] = []
    for candidate in candidates:
        if not any(_equal(candidate.entries, other.entries) for other in distinct):
            distinct.append(candidate)
    return distinct


def _equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and _agree(first, second, first)


def _agree(first: dict[str, Tensor], second: dict[str, Tensor], names: Iterable[str]) -> bool:
    """Whether both have the same values under those of the names that the first has."""
    return all(
        name in second
        and (
            first[name] is second[name]
            or (
                first[name].dtype == second[name].dtype
                and not first[name].is_meta
                and bool(first[name].equal(second[name]))
            )
        )
        for name in names
        if name in first
    )
