"""The command iqa-run, in this process and as one of its own, and gray pictures for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from command_line import Result, invoke
from iqa_runtime.commands.run import main

COMMAND = (sys.executable, "-c", "from iqa_runtime.commands.run import main; main()")
GREYS = {"a.png": 51, "sp ace/ü.png": 102, "x/a.png": 204}
DEADLINE = 60.0
"""Seconds a process may take before the test gives up on it: far above what an overloaded host needs."""

TOLERANCE = 1e-5
"""For a float32 mean of 3072 equal values of at most 1: the rounding of a sum in any sensible order stays below it."""


def gray(path: Path, value: int, size: tuple[int, int] = (48, 64)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    _, data = cv2.imencode(".png", np.full((*size, 3), value, np.uint8))
    path.write_bytes(data.tobytes())
    return path


def run(*arguments: object, **options: Any) -> Result:
    return invoke(main, *arguments, **options)


def start(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.PIPE, **options}
    return subprocess.Popen([*COMMAND, *map(str, arguments)], **options)


def finish(process: subprocess.Popen[bytes], stdin: bytes = b"") -> tuple[int, str, str]:
    out, err = process.communicate(stdin, timeout=DEADLINE)
    return process.returncode, out.decode(), err.decode()


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.split("\n")[:-1]]


def scores(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    return {row["path"]: row["score"] for row in rows}
