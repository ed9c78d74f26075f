"""How many CPUs the process may use: affinity and cgroup quotas."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from iqa_runtime import cpu
from iqa_runtime.cpu import available_cpus, cgroup_quota


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_affinity_bounds() -> None:
    assert 1 <= available_cpus() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("quota", "expected"), [(math.inf, 8), (2.5, 3), (0.1, 1), (64.0, 8)])
def test_the_smaller_of_affinity_and_quota_rounded_up(
    monkeypatch: pytest.MonkeyPatch, quota: float, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(cpu, "cgroup_quota", lambda *_: quota)
    assert available_cpus() == expected


def test_version_2_takes_the_strictest_ancestor(tmp_path: Path) -> None:
    write(tmp_path / "cgroup", "0::/slice/service\n")
    write(tmp_path / "fs/cpu.max", "max 100000\n")
    write(tmp_path / "fs/slice/cpu.max", "150000 100000\n")
    write(tmp_path / "fs/slice/service/cpu.max", "400000 100000\n")
    assert cgroup_quota(tmp_path / "cgroup", tmp_path / "fs") == 1.5


def test_version_1(tmp_path: Path) -> None:
    write(tmp_path / "cgroup", "4:memory:/box\n3:cpu,cpuacct:/box\n")
    write(tmp_path / "fs/cpu,cpuacct/cpu.cfs_quota_us", "-1\n")
    write(tmp_path / "fs/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    write(tmp_path / "fs/cpu,cpuacct/box/cpu.cfs_quota_us", "200000\n")
    write(tmp_path / "fs/cpu,cpuacct/box/cpu.cfs_period_us", "100000\n")
    assert cgroup_quota(tmp_path / "cgroup", tmp_path / "fs") == 2


def test_no_cgroups_no_limit(tmp_path: Path) -> None:
    assert cgroup_quota(tmp_path / "cgroup", tmp_path) == math.inf
    write(tmp_path / "cgroup", "1:cpu:/\n0::/\n")
    assert cgroup_quota(tmp_path / "cgroup", tmp_path) == math.inf
