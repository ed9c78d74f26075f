"""The systems that `iqa-export` knows: those of this package, and those other packages register.

A package registers its own by an entry point of the group ``iqa_deploy.models`` that names a subclass of `System`.
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from iqa_export.systems.base import GraphChoice, System
from iqa_export.systems.cvrkd import CvrkdSystem
from iqa_export.systems.declarations import contract_faults, faults
from iqa_export.systems.dists import DistsSystem
from iqa_export.systems.dri import DriSystem
from iqa_export.systems.lpips import LpipsSystem
from iqa_export.systems.mfe import MfeSystem
from iqa_export.systems.yoto import YotoSystem
from iqa_runtime.errors import IqaError, UsageError, first_line

__all__ = ["BUILT_IN", "ENTRY_POINT_GROUP", "GraphChoice", "System", "all_systems", "blamed", "find_system"]

BUILT_IN: tuple[type[System], ...] = (YotoSystem, CvrkdSystem, DriSystem, MfeSystem, LpipsSystem, DistsSystem)
ENTRY_POINT_GROUP = "iqa_deploy.models"


@cache
def all_systems() -> dict[str, System]:
    """Return every system by name; an entry point that is no system costs a warning that names it, not the others."""
    systems = {system.name: system() for system in BUILT_IN}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        reason, system = _loaded(entry, systems)
        if system is None:
            _broken()[entry.name] = reason
            warnings.warn(f"the system {entry.name} ({entry.value}) is left out: {reason}", stacklevel=2)
        else:
            systems[system.name] = system
    return systems


@cache
def _broken() -> dict[str, str]:
    """Return why entry points were left out, by their names."""
    return {}


def _loaded(entry: EntryPoint, known: dict[str, System]) -> tuple[str, System | None]:
    """Return the system of another package, or why it is none."""
    try:
        loaded = entry.load()
        if not (isinstance(loaded, type) and issubclass(loaded, System)):
            return "it is no subclass of System", None
        system = loaded()
        if getattr(system, "name", None) in known:
            return f"there is a system {system.name} already", None
        wrong = next(faults(system), None) or next(contract_faults(system), None)
        return ("", system) if wrong is None else (wrong, None)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # another package's code may raise anything, sys.exit() among it
        return first_line(error), None


@contextmanager
def blamed(system: System) -> Iterator[None]:
    """Say of what a system of another package raises that it is that package's; what ours raise stays as it is.

    Raises
    ------
    UsageError
        In the place of whatever is no error of iqa-deploy; it names the module and the line.
    """
    try:
        yield
    except (IqaError, KeyboardInterrupt):
        raise
    except BaseException as error:  # another package's code may raise anything, sys.exit() among it
        if type(system) in BUILT_IN:
            raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise UsageError(
            f"{system.origin} fails: {first_line(error)} ({place.filename}:{place.lineno}); mend it"
        ) from error


def find_system(name: str) -> System:
    """Return the system of a name.

    Raises
    ------
    UsageError
        If there is none; the message lists those there are.
    """
    systems = all_systems()
    if name in systems:
        return systems[name]
    if name in _broken():
        raise UsageError(f"``model={name}``: its package is broken: {_broken()[name]}")
    raise UsageError(f"``model={name}``: there is {', '.join(systems)}")
