"""Whole commands as contenders: a call starts one and waits for its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from speed.turns import Contender, Role, Work

BENCHMARKS = Path(__file__).parents[1]


def command(name: str, role: Role, arguments: list[str]) -> Contender:
    """Return a contender that runs a command line; its output is thrown away, its errors are kept."""
    return Contender(name=name, role=role, make="speed.commands:make", options={"arguments": arguments})


def iqa_run(*arguments: str) -> list[str]:
    """Return the command line of the `iqa-run` that is installed with this Python."""
    return [str(Path(sys.executable).with_name("iqa-run")), *arguments]


def make(options: dict[str, Any]) -> Work:
    arguments: list[str] = options["arguments"]
    peaks: list[float] = []
    paths = [str(BENCHMARKS), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}

    def call() -> None:
        process = subprocess.Popen(
            arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment
        )
        with process:
            said = process.stderr.read() if process.stderr is not None else b""
            # Instead of `wait`: only this tells the memory of one child.
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            last = said.decode(errors="replace").strip().splitlines()[-1:]
            raise RuntimeError(f"{Path(arguments[0]).name} ended with {process.returncode}: {' '.join(last)}")
        peaks.append(usage.ru_maxrss * 1024 / 1e6)

    call()
    return Work(call=call, peak_megabytes=lambda: max(peaks))
