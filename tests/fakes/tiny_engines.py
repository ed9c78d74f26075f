"""An engine of the stand-in for TensorRT that takes crops of 8 x 8 pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.artefacts.engine_file import BatchRange
from iqa_runtime.artefacts.opening import open_graph
from iqa_runtime.backends import GraphSpec, TensorSpec
from iqa_runtime.backends.tensorrt import TensorRtBackend

ITEM = (3, 8, 8)
BATCH = BatchRange(min=1, opt=4, max=8)
SPEC = GraphSpec((TensorSpec("image", ITEM, "float32"),), (TensorSpec("score", ()),))


def opened(path: Path, spec: GraphSpec = SPEC, *, device: str = "cuda") -> TensorRtBackend:
    return TensorRtBackend(open_graph(path), spec, device=device, threads=1)


def images(items: int, seed: int = 0, dtype: str = "float32") -> NDArray[Any]:
    return np.random.default_rng(seed).random((items, *ITEM)).astype(dtype)
