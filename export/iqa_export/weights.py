"""Which weights a network gets: those of a file or random ones, and which of a system's variants they are for."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from iqa_export.checkpoints import (
    RANDOM_PREFIX,
    Checkpoint,
    CheckpointError,
    expected_keys,
    random_checkpoint,
    read_checkpoint,
)
from iqa_export.systems import System
from iqa_runtime.errors import UsageError


def load_checkpoint(system: System, weights: str, variant: str | None, *, weights_key: str | None = None) -> Checkpoint:
    """Read a checkpoint, or make one of random values.

    Parameters
    ----------
    system, variant
        The network they are for; None for any variant.
    weights
        A file, or ``random:SEED`` for the system's (first) variant.
    weights_key
        Which of several state dicts in the file, such as ``params_ema`` or ``ema_model``; see `Checkpoint.entry`.

    Raises
    ------
    UsageError
        If the seed is no number, or random values are to have a key.
    FileError, CheckpointError
        If the file cannot be used; also if it holds several state dicts that fit and `weights_key` is None.
    """
    if not weights.startswith(RANDOM_PREFIX):
        # One network after the other, only as far as is needed: to build one takes seconds.
        names = [variant] if variant else system.tasks
        expected = (expected_keys(system.build(name), system.key_map(name)) for name in names)
        return read_checkpoint(Path(weights), weights_key=weights_key, expected=expected)
    if weights_key is not None:
        raise UsageError(f"``weights_key={weights_key}``: {weights} is no file and holds no entries; leave it out")
    seed = weights.removeprefix(RANDOM_PREFIX)
    if not (seed.isascii() and seed.isdigit() and int(seed) < 2**32):
        raise UsageError(f"``weights={weights}``: SEED is a number from 0 to {2**32 - 1}, as in random:0")
    chosen = variant or next(iter(system.tasks))
    return random_checkpoint(system.build(chosen), int(seed), system.key_map(chosen))


def choose_variant(system: System, keys: Collection[str], task: str | None) -> str:
    """Tell the variant from a checkpoint's keys, or where they don't tell, from the task.

    Raises
    ------
    CheckpointError
        If the keys are none of the system's.
    UsageError
        If no variant does the task.
    """
    variant = system.variant_of(keys)
    if variant is not None:
        return variant
    fitting = [name for name, tasks in system.tasks.items() if task is None or task in tasks]
    if not fitting:
        known = sorted({known for tasks in system.tasks.values() for known in tasks})
        raise UsageError(f"``task={task}``: {system.name} does {', '.join(known)}")
    expected = system.key_map(fitting[0]).published(next(iter(system.build(fitting[0]).state_dict())))
    if expected not in keys:
        raise CheckpointError(
            f"the checkpoint has no entry {expected!r}, so it is none of {system.title}'s; check ``model`` and "
            "``weights``"
        )
    return fitting[0]
