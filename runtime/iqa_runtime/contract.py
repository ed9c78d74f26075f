"""The contract: what an artefact is, what it eats and what its score means, inside the artefact itself.

One frozen dataclass tree. `iqa_runtime.artefacts.contract_json` turns it into JSON and back and holds the rules between
its fields; `iqa_runtime.artefacts.opening` reads it out of an artefact.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any, Literal

SCHEMA_VERSION = 2
METADATA_KEY = "iqa.contract"
PLAN_SUFFIX = ".plan"
REFERENCE_ENCODER_SUFFIX = ".reference.onnx"
"""How the name of a reference encoder ends: ``x.reference.onnx`` belongs to ``x.onnx`` and carries no contract."""

Task = Literal["nr", "fr", "nar"]
Precision = Literal["fp32", "fp16", "bf16", "int8", "int8-weights"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInput:
    """One input of the graph.

    Attributes
    ----------
    name
        ``image``, ``reference`` or ``reference_features``.
    shape
        Sizes in order; the batch axis, the only dynamic one, is the string ``"batch"``. Crops are
        ``("batch", 3, h, w)``, or ``("batch", P, 3, h, w)`` where one item is P crops of one image.
    dtype
        ``float32`` or ``float16``.
    layout
        ``NCHW`` or ``NPCHW`` for crops, ``features`` for cached reference features.
    color
        Channel order the network expects; None for features.
    mean, std
        Per channel, in the order of `color`, for ``(x / 255 - mean) / std``; None for features.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: Literal["float32", "float16"] = "float32"
    layout: Literal["NCHW", "NPCHW", "features"] = "NCHW"
    color: Literal["RGB", "BGR"] | None = "RGB"
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchPlan:
    """Where crops are cut; see `iqa_runtime.scoring.patch_plans` for the positions each kind gives.

    Attributes
    ----------
    kind
        ``five``, ``grid``, ``random`` or ``center``.
    size
        Side of the square crop in pixels.
    count
        Number of crops, for ``random`` only.
    seed
        Seed of the positions, for ``random`` only.
    stride
        Distance of neighbouring crops in pixels, for ``grid`` only.
    """

    kind: Literal["five", "grid", "random", "center"]
    size: int
    count: int | None = None
    seed: int | None = None
    stride: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOutput:
    """What the number means.

    Attributes
    ----------
    name
        Name of the output tensor, shape ``("batch",)``.
    low, high
        Nominal range: the range of the labels it was trained on.
    higher_is_better
        Direction.
    bounded
        Whether the network cannot leave the nominal range.
    scale
        In words: the scale the labels were on.
    """

    name: str = "score"
    low: float
    high: float
    higher_is_better: bool
    bounded: bool
    scale: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOutput:
    """An optional output: one value per cell of a regular grid over the crop, shape ``("batch", rows, columns)``."""

    name: Literal["quality_map", "weight_map"]
    rows: int
    columns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraOutput:
    """An optional output that is no score and no map: ``restored`` crops, or a ``distortion_feature``.

    Attributes
    ----------
    name
        Of the output tensor.
    shape
        Without the batch axis: ``(3, h, w)`` of restored crops, RGB, as x / 255; ``(C,)`` of a feature.
    """

    name: Literal["restored", "distortion_feature"]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Where the parameters come from. `trained` is False for random weights, and every result then says so."""

    file: str
    sha256: str
    trained: bool
    licence: str
    trained_on: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDigest:
    """A file by name (no folder) and the SHA-256 of its bytes, in hexadecimal."""

    file: str
    sha256: str

    @staticmethod
    def of_file(path: Path) -> FileDigest:
        """Digest a file; raises `OSError` if it cannot be read."""
        with path.open("rb") as file:
            return FileDigest(file=path.name, sha256=file_digest(file, "sha256").hexdigest())


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """Everything the runtime needs to know about an artefact.

    Attributes
    ----------
    model, variant, task
        Such as ``yoto``, ``swin_t``, ``fr``.
    options
        Model-specific choices fixed at export, such as ``{"segment": "joint"}``.
    precision, target, opset
        Number format of the graph (``int8-weights``: weights stored as int8, arithmetic in float32), the backend family
        it was made for (``any`` for float32), ONNX opset.
    gmac
        10^9 multiply-accumulates in the matrix products and convolutions of the graph for one item of the batch; the
        encoder of a cached reference is not in it. None where nobody counted them.
    inputs, patch_plan, pooling
        How crops are made and how their scores become one.
    score, maps, extras
        The outputs.
    faithful
        How close the network is to the published one, in a phrase.
    weights
        Provenance of the parameters.
    reference_encoder
        The graph that makes ``reference_features`` of this one; lies in the same folder.
    baked_reference
        The reference image whose features are constants of this graph.
    calibration, gate
        How the numbers of another precision were found, and the verdict on it; None for float32.
    exporter
        Package and version that wrote the artefact.
    schema
        Version of this layout.
    """

    model: str
    variant: str
    task: Task
    options: dict[str, str]
    precision: Precision
    target: str
    opset: int
    gmac: float | None = None
    inputs: tuple[TensorInput, ...]
    patch_plan: PatchPlan
    pooling: Literal["mean"]
    score: ScoreOutput
    maps: tuple[MapOutput, ...] = ()
    extras: tuple[ExtraOutput, ...] = ()
    faithful: str
    weights: Weights
    reference_encoder: FileDigest | None = None
    baked_reference: FileDigest | None = None
    calibration: dict[str, Any] | None = None
    gate: dict[str, Any] | None = None
    exporter: str
    schema: int = SCHEMA_VERSION

    def input(self, name: str) -> TensorInput | None:
        """Return the input called `name`, or None if the graph has none."""
        return next((tensor for tensor in self.inputs if tensor.name == name), None)

    @property
    def crops_per_item(self) -> int:
        """Crops in one item of the batch: P for ``N x P x 3 x H x W`` inputs, else 1."""
        shape = self.inputs[0].shape
        return int(shape[1]) if len(shape) == 5 else 1

    @property
    def needs_reference(self) -> bool:
        """Whether scoring takes a reference image at run time."""
        return any(tensor.name in ("reference", "reference_features") for tensor in self.inputs)
