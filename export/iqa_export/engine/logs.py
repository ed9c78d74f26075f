"""What TensorRT says while it works, kept for the message of an error."""

from __future__ import annotations

from typing import Any


def make_log(trt: Any) -> Any:
    """Return a logger of a TensorRT module: an ``ILogger`` whose `errors` is a list of one-line texts, in order."""

    class Log(trt.ILogger):  # type: ignore[misc]  # known only at run time
        def __init__(self) -> None:
            # The binding asks for just this, instead of super().
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            # Notes that a library of this kind gives about itself (an "internal error" of the log stream in
            # TensorRT-RTX is one) come while all is well, so only errors proper count.
            if severity == trt.ILogger.ERROR:
                self.errors.append(" ".join(msg.split()))

    return Log()


def last_error(log: Any) -> str:
    """Return the last error that was logged, in one line."""
    return str(log.errors[-1]) if log.errors else "it gave no reason"
