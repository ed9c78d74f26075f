"""The systems that `iqa-export` knows: those of this package, and those other packages register.

A package registers its own by an entry point of the group ``iqa_deploy.models`` that names a subclass of `System`.
"""

from __future__ import annotations

import warnings
from functools import cache
from importlib.metadata import entry_points

from iqa_export.systems.base import GraphChoice, System
from iqa_export.systems.cvrkd import CvrkdSystem
from iqa_export.systems.dri import DriSystem
from iqa_export.systems.mfe import MfeSystem
from iqa_export.systems.yoto import YotoSystem
from iqa_runtime.errors import UsageError

__all__ = ["BUILT_IN", "ENTRY_POINT_GROUP", "GraphChoice", "System", "all_systems", "find_system"]

BUILT_IN: tuple[type[System], ...] = (YotoSystem, CvrkdSystem, DriSystem, MfeSystem)
ENTRY_POINT_GROUP = "iqa_deploy.models"


@cache
def all_systems() -> dict[str, System]:
    """Return every system by name; an entry point that fails to load costs a warning, not the others."""
    systems = {system.name: system() for system in BUILT_IN}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        try:
            loaded = entry.load()
        except Exception as error:  # another package's code may raise anything
            warnings.warn(f"entry point {entry.name} ({entry.value}) failed to load: {error!r}", stacklevel=2)
            continue
        if not (isinstance(loaded, type) and issubclass(loaded, System)):
            warnings.warn(f"entry point {entry.name} ({entry.value}) is no subclass of System", stacklevel=2)
        elif loaded.name in systems:
            warnings.warn(f"entry point {entry.name} ({entry.value}): there is a system {loaded.name}", stacklevel=2)
        else:
            systems[loaded.name] = loaded()
    return systems


def find_system(name: str) -> System:
    """Return the system of a name.

    Raises
    ------
    UsageError
        If there is none; the message lists those there are.
    """
    systems = all_systems()
    if name not in systems:
        raise UsageError(f"--model {name}: there is {', '.join(systems)}")
    return systems[name]
