"""Score the quality of images with deployed IQA networks: lean, without torch or onnx.

>>> from iqa_runtime import Scorer
>>> with Scorer("yoto.onnx") as scorer:  # doctest: +SKIP
...     print(scorer.score("photo.jpg").value)
"""

from iqa_runtime.artefacts.opening import read_contract
from iqa_runtime.contract import Contract, PatchPlan
from iqa_runtime.errors import (
    ArtefactError,
    BackendError,
    DependencyError,
    FileError,
    ImageError,
    IqaError,
    ResourceError,
    UsageError,
)
from iqa_runtime.results import Score
from iqa_runtime.scorer import Scorer

__all__ = [
    "ArtefactError",
    "BackendError",
    "Contract",
    "DependencyError",
    "FileError",
    "ImageError",
    "IqaError",
    "PatchPlan",
    "ResourceError",
    "Score",
    "Scorer",
    "UsageError",
    "read_contract",
]

__version__ = "0.1.0"
