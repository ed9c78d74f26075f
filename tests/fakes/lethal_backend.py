"""ONNX Runtime that kills its process where a picture is all white, and where it is all black the first time alone."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.backends.onnx_runtime import OnnxRuntimeBackend

MARK = "IQA_LETHAL_MARK"
"""Variable of the environment: the path of a file that is there from the first black picture on."""


class LethalBackend(OnnxRuntimeBackend):
    """Of inputs that are normalised to -1 to 1."""

    def _run(self, inputs: dict[str, NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        image = inputs["image"]
        mark = Path(os.environ[MARK])
        is_first = bool(np.all(image == -1)) and not mark.exists()
        if is_first:
            mark.touch()
        if is_first or np.all(image == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._run(inputs, outputs)
