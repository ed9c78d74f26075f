"""TensorRT plans out of ONNX artefacts: packaging, since precision was decided in the graph. Needs no torch, no onnx.

One code serves TensorRT 10.3 to 11.4, which builds on the GPU that will run the plan, and TensorRT-RTX, which builds
without one. Built and parsed with TensorRT-RTX; no plan of either has run on a GPU yet.
"""

from iqa_export.engine.building import build_engine
from iqa_export.engine.checking import why_no_engine
from iqa_export.engine.options import EngineOptions
from iqa_export.engine.progress import Progress
from iqa_export.engine.refitting import refit_engine

__all__ = ["EngineOptions", "Progress", "build_engine", "refit_engine", "why_no_engine"]
