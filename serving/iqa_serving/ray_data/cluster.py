"""A cluster of Ray, or Ray on this machine alone, and the workers that there is room for."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from iqa_runtime import UsageError
from iqa_runtime.cpu import available_cpus
from iqa_runtime.errors import first_line

SPARE_CPUS = 3
"""CPUs of Ray that scoring leaves to reading, to writing and to looking up what is done. They are tickets: on a machine
of its own, a run has so many more of them than there are processors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """What scores.

    Attributes
    ----------
    count
        Actors; None for as many as there is room for.
    cpus, gpus
        Of each.
    """

    count: int | None = None
    cpus: int = 1
    gpus: float = 0.0

    def number(self, resources: Mapping[str, float]) -> int:
        """Return how many there are, where Ray has these resources.

        Raises
        ------
        UsageError
            If there is no room.
        """
        cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
        room = int((cpus - SPARE_CPUS) // self.cpus)
        if self.gpus:
            room = min(room, int(gpus // self.gpus))
        wanted = room if self.count is None else self.count
        if wanted < 1 or wanted > room:
            raise UsageError(
                f"Ray has {cpus:g} CPUs and {gpus:g} GPUs, and {SPARE_CPUS} CPUs are for reading and writing: there is "
                f"room for {max(0, room)} workers of {self.cpus} CPUs and {self.gpus:g} GPUs; give fewer or smaller "
                "ones, or start nodes of Ray with a larger --num-cpus"
            )
        return wanted


def prepare(address: str | None) -> None:
    """Set what Ray reads from the environment when it is imported, unless it is set.

    Nothing is reported to anybody. Where Ray is started on this machine alone, only this machine can reach it.

    Parameters
    ----------
    address
        As `connect` takes it.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None and "RAY_ADDRESS" not in os.environ:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # elsewhere, too: no other machine
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # as is the default, which says so at length


def connect(address: str | None, workers: Workers) -> None:
    """Connect to a cluster, or start Ray on this machine alone; nothing happens if this process is connected.

    Parameters
    ----------
    address
        Of the cluster; None for the one of ``RAY_ADDRESS``, or else this machine.
    workers
        For whom there must be room on this machine.

    Raises
    ------
    UsageError
        If the cluster cannot be reached.
    """
    import ray

    address = address or os.environ.get("RAY_ADDRESS")
    quiet: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}
    if ray.is_initialized():
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if address is None:
            cpus = (workers.count or max(1, available_cpus() // workers.cpus)) * workers.cpus + SPARE_CPUS
            ray.init("local", num_cpus=cpus, include_dashboard=False, **quiet)
        else:
            ray.init(address, **quiet)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise UsageError(
            f"``address={address}``: no Ray there, or it asks for a token ({first_line(error)}); check the address, or "
            "set RAY_AUTH_MODE=token"
        ) from error
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():  # Ray has put its own there, which ends in a dump of the stack
            if handler is not None:
                signal.signal(number, handler)
