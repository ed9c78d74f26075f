"""Run a command as a user does, in this process."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple
from unittest.mock import patch


class Result(NamedTuple):
    """What a command leaves: its exit code and what it wrote."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


def invoke(main: Callable[[], object], *arguments: object, stdin: bytes = b"") -> Result:
    """Call the `main` of a command with arguments, and something on its standard input."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2))
    given = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    code: object = 0
    with (
        patch.object(sys, "argv", ["command", *map(str, arguments)]),
        patch.object(sys, "stdin", given),
        patch.object(os, "_exit", sys.exit),  # a command leaves its process, and this one is the tests'
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as stopped:
            code = stopped.code or 0
            if isinstance(code, str):  # a message, as Python takes it
                err.write(f"{code}\n")
                code = 1
        texts = []
        for stream in (out, err):
            stream.flush()
            texts.append(stream.buffer.getvalue().decode())
    assert isinstance(code, int)
    return Result(code, *texts)
