"""What ``import iqa_runtime`` loads and costs."""

from __future__ import annotations

import subprocess
import sys

# Seconds beyond numpy; the promise to whoever embeds the package.
IMPORT_SECONDS = 0.15

_MEASURE = """
import numpy, time
began = time.perf_counter()
import iqa_runtime
print(time.perf_counter() - began)
"""
_LOADED = """
import sys
import iqa_runtime
print(*sys.modules)
"""


def run(code: str) -> str:
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return finished.stdout


def test_nothing_heavy_is_loaded() -> None:
    loaded = {name.partition(".")[0] for name in run(_LOADED).split()}
    assert {"numpy", "msgspec", "iqa_runtime"} <= loaded
    heavy = {"onnxruntime", "onnx", "torch", "cv2", "typer", "rich", "click", "scipy", "matplotlib", "PIL", "asyncio"}
    assert not loaded & heavy


def test_it_is_quick() -> None:
    # The best of several: other work on the host only ever adds.
    assert min(float(run(_MEASURE)) for _ in range(5)) <= IMPORT_SECONDS
