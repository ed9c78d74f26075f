"""How many CPUs this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def available_cpus() -> int:
    """Return the number of CPUs this process may keep busy, at least 1.

    The smaller of its affinity and its cgroup quota (version 1 or 2, rounded up): a container limited to two CPUs of a
    64-core host should start two threads, and `os.cpu_count` would say 64.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    return max(1, math.ceil(min(cpus, quota)))


def cgroup_quota(membership: Path, root: Path) -> float:
    """Return the CPUs granted by the strictest of this process's cgroups; infinity if nothing limits it.

    Parameters
    ----------
    membership
        The process's ``/proc/PID/cgroup``.
    root
        Where the cgroup file systems are mounted.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return math.inf
    quotas = [math.inf]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            quotas += [_quota_v2(folder / "cpu.max") for folder in _ancestors(root, path)]
        elif "cpu" in controllers.split(","):
            quotas += [_quota_v1(folder) for folder in _ancestors(root / controllers, path)]
    return min(quotas)


def _ancestors(mount: Path, path: str) -> Iterator[Path]:
    """Yield the folders of a cgroup and of all above it; any of them may limit."""
    inner = PurePosixPath(path).relative_to("/")
    return (mount / folder for folder in (inner, *inner.parents))


def _quota_v2(file: Path) -> float:
    try:
        quota, period = file.read_text().split()
    except (OSError, ValueError):
        return math.inf
    return math.inf if quota == "max" else int(quota) / int(period)


def _quota_v1(folder: Path) -> float:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return math.inf
    return math.inf if quota < 0 else quota / period
