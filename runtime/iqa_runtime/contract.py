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
OWN_SIZE = ("height", "width")
"""Names of the last two axes of inputs that take pictures whole at their own size."""

Task = Literal["nr", "fr", "nar"]
Pooling = Literal["mean", "median", "min", "max", "p05"]
Range = tuple[float | None, float | None]
"""Least and largest score; None where there is no end."""
ColorSpace = Literal["sRGB", "stored"]
Precision = Literal["fp32", "fp16", "bf16", "int8", "int8-weights"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """How a picture is resized before crops are cut or it is taken whole, as by Pillow's ``Image.resize``.

    Attributes
    ----------
    to
        What is made of `size`: the ``shorter`` or the ``longer`` side, in pixels, the other one in proportion;
        ``exact``, height and width; ``pixels``, their product, in proportion.
    size
        A number of pixels; for ``exact`` two of them, (height, width).
    filter
        Antialiased, but for ``nearest``.
    when
        ``always``, or ``shrink``: never enlarge.
    draft
        Whether a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size first, as Pillow's ``Image.draft`` does.
    """

    to: Literal["shorter", "longer", "exact", "pixels"]
    size: int | tuple[int, int]
    filter: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
    when: Literal["always", "shrink"] = "always"
    draft: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInput:
    """One input of the graph.

    Attributes
    ----------
    name
        ``image``, ``reference`` or ``reference_features``.
    shape
        Sizes in order; dynamic axes are strings. The batch axis, ``"batch"``, always is; ``"height"`` and ``"width"``
        are where the patch plan takes whole pictures at their own size: ``("batch", 3, "height", "width")``. Crops, and
        whole pictures of a fixed size, are ``("batch", 3, h, w)``; ``("batch", P, 3, h, w)`` where one item is P crops
        of one image.
    dtype
        ``float32`` or ``float16``.
    layout
        ``NCHW`` or ``NPCHW`` for crops, ``features`` for cached reference features.
    color
        Channel order the network expects; None for features.
    mean, std
        Per channel, in the order of `color`, for ``(x / 255 - mean) / std``; None for features.
    color_space
        What pixels mean to the network: ``sRGB``, or ``stored``, whatever the file holds.
    resize
        What is done to a picture before its crops are cut or it is taken whole; None for nothing.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: Literal["float32", "float16"] = "float32"
    layout: Literal["NCHW", "NPCHW", "features"] = "NCHW"
    color: Literal["RGB", "BGR"] | None = "RGB"
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    color_space: ColorSpace = "sRGB"
    resize: Resize | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchPlan:
    """Where crops are cut; see `iqa_runtime.scoring.patch_plans` for the positions each kind gives.

    Attributes
    ----------
    kind
        ``five``, ``grid``, ``random``, ``center``, ``uniform``; or ``whole``, the picture as one item.
    size
        Side of the square crop in pixels; 0 for ``whole``, which has none: the picture has the size of the input, to
        which it was resized, or where that is ``"height"`` and ``"width"``, its own.
    count
        Number of crops, for ``random`` and ``uniform`` only.
    seed
        Seed of the positions, for ``random`` only.
    stride
        Distance of neighbouring crops in pixels, for ``grid`` only.
    multiple
        Of what height and width of a whole picture are made multiples, in pixels; for ``whole`` at its own size only,
        None if they may be any.
    fit
        How: by reflection at the lower and right edge, or by cropping there; with `multiple` only.
    smallest
        Least height and width that the network takes, in pixels, after the fit; for ``whole`` at its own size only,
        None if any will do.
    """

    kind: Literal["five", "grid", "random", "center", "uniform", "whole"]
    size: int = 0
    count: int | None = None
    seed: int | None = None
    stride: int | None = None
    multiple: int | None = None
    fit: Literal["reflect", "crop"] | None = None
    smallest: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """What scores a population of pictures has, so that one score can be given its place among them.

    Attributes
    ----------
    population
        In words: which pictures.
    images
        How many.
    scores
        Quantiles of their scores at equal steps of probability, from the least to the largest; at least two.
    """

    population: str
    images: int
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOutput:
    """What the number means.

    Attributes
    ----------
    name
        Name of the output tensor, shape ``("batch",)``.
    low, high
        Nominal range: the range of the labels it was trained on. None where it has no end, as distances have none.
    higher_is_better
        Direction.
    bounded
        Whether the network cannot leave the nominal range.
    scale
        In words: the scale the labels were on.
    quantiles
        Scores of a stated population; None if nobody has measured them.
    """

    name: str = "score"
    low: float | None
    high: float | None
    higher_is_better: bool
    bounded: bool
    scale: str
    quantiles: Quantiles | None = None

    @property
    def range(self) -> Range:
        """Its nominal range."""
        return self.low, self.high

    @property
    def direction(self) -> Literal["higher", "lower"]:
        """Which scores are the better ones."""
        return "higher" if self.higher_is_better else "lower"

    def __str__(self) -> str:
        return f"{range_in_words(self.range)}, {self.direction} is better"


def range_in_words(ends: Range) -> str:
    """Say between which numbers scores lie."""
    low, high = ends
    if low is None or high is None:
        return f"{low:g} or more" if low is not None else f"{high:g} or less" if high is not None else "any number"
    return f"{low:g} to {high:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOutput:
    """An optional output: one value per cell of a regular grid over the item, shape ``("batch", rows, columns)``.

    Attributes
    ----------
    name
        Of the output tensor.
    rows, columns
        Cells; 0 where they follow from a picture's own size.
    cell
        Side of a cell in pixels, where they do: height and width of the picture divided by it, rounded up or down as
        the network does, are rows and columns. Else 0.
    """

    name: Literal["quality_map", "weight_map"]
    rows: int
    columns: int
    cell: int = 0


DISTORTIONS = "distortions"
"""Name of the output that says what was done to a picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraOutput:
    """An optional output that is no score and no map: ``restored`` crops, ``distortions``, or another.

    Attributes
    ----------
    name
        Of the output tensor.
    shape
        Without the batch axis: ``(3, h, w)`` of restored crops, RGB, as x / 255; ``(C,)`` of a feature; ``(K,)`` of
        distortions, the probability of each of K labels.
    labels
        What the values along the last axis are called; empty if they have no names.
    """

    name: str
    shape: tuple[int, ...]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Where the parameters come from.

    Attributes
    ----------
    file, sha256
        The checkpoint: name of the file, and SHA-256 of its bytes, in hexadecimal.
    trained
        False for random weights, and every result then says so.
    licence, trained_on
        In words.
    entry
        Where in the file the state dict was: ``.`` for its top where there were others; None if it is all there is.
    """

    file: str
    sha256: str
    trained: bool
    licence: str
    trained_on: str
    entry: str | None = None


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
class BakedReference:
    """The reference image whose features are constants of a graph.

    Attributes
    ----------
    file, sha256
        Name of the file, and SHA-256 of its bytes, in hexadecimal.
    width, height
        In pixels; 0 in artefacts of schema 1 whose images may have any size.
    """

    file: str
    sha256: str
    width: int
    height: int


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
        How crops are made and how their scores become one: their mean, median, least, largest, or 5th
        percentile (``p05``).
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
    sha256
        SHA-256, in hexadecimal, of all of the ONNX file with zeros in the place of this number; see
        `iqa_runtime.artefacts.onnx_metadata.artefact_digest`. Empty in artefacts of schema 1.
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
    pooling: Pooling
    score: ScoreOutput
    maps: tuple[MapOutput, ...] = ()
    extras: tuple[ExtraOutput, ...] = ()
    faithful: str
    weights: Weights
    reference_encoder: FileDigest | None = None
    baked_reference: BakedReference | None = None
    calibration: dict[str, Any] | None = None
    gate: dict[str, Any] | None = None
    exporter: str
    sha256: str = ""
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
    def has_own_size(self) -> bool:
        """Whether pictures are taken whole at their own size, so that height and width of the inputs are dynamic."""
        image = self.input("image")
        return image is not None and tuple(image.shape[-2:]) == OWN_SIZE

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width that every image must have: those of an aligned reference inside; None if any will do."""
        baked = self.baked_reference
        return (baked.height, baked.width) if baked is not None and self.task == "fr" else None

    @property
    def needs_reference(self) -> bool:
        """Whether scoring takes a reference image at run time."""
        return any(tensor.name in ("reference", "reference_features") for tensor in self.inputs)
