"""What the types of a contract cannot say: rules between its fields, and ranges of its numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath, PureWindowsPath

from iqa_runtime.contract import (
    DISTORTIONS,
    OWN_SIZE,
    Contract,
    ExtraOutput,
    PatchPlan,
    Quantiles,
    Resize,
    ScoreOutput,
    TensorInput,
)

Complaint = tuple[str, str]
"""Where (a path of fields, as in ``$.score.low``) and what."""

_INPUTS = ("image", "reference", "reference_features")
_RANKS = {"NCHW": 4, "NPCHW": 5}
_MAX_RANK = 8
_MAX_SIDE, _MAX_PIXELS = 2**20, 2**30  # of an image that OpenCV decodes
_MAX_SIZE = 2**24  # of one axis: no tensor of ours comes near
_MAX_ITEM = 2**31  # elements of one item: 8 GiB in float32
_MAX_MEAN = 1000.0  # pixels are 0 to 1 here; networks that want 0 to 255, or -1 to 1, have means below 1
_STD_RANGE = (1e-6, 1e6)  # likewise: 1/255 to 1
_MAX_SCORE = 1e9
_MAX_OPSET = 1000
_GMAC_RANGE = (1e-9, 1e9)  # one multiplication, and a million times those of the largest network here
_MAX_IMAGES = 10**12
_MAX_QUANTILES = 10_001


def complaints(contract: Contract) -> Iterator[Complaint]:
    """Yield what is wrong with a contract of sound types."""
    if contract.input("image") is None:
        yield "$.inputs", "no input called 'image'"
    for index, tensor in enumerate(contract.inputs):
        if tensor.name not in _INPUTS:
            yield f"$.inputs[{index}].name", f"no input is called {tensor.name!r}; there is {', '.join(_INPUTS)}"
        elif (tensor.layout == "features") != (tensor.name == "reference_features"):
            yield f"$.inputs[{index}].layout", f"{tensor.name!r} is not {tensor.layout!r}"
    if len({tensor.name for tensor in contract.inputs}) < len(contract.inputs):
        yield "$.inputs", "two inputs of one name"
    for index, tensor in enumerate(contract.inputs):
        yield from _about_input(f"$.inputs[{index}]", tensor, contract.patch_plan)
    yield from _about_reference(contract)
    yield from _about_patch_plan(contract)
    yield from _about_score(contract.score)
    if not all((contract.model, contract.variant, contract.target)):
        yield "$", "model, variant and target need names"
    if not 1 <= contract.opset <= _MAX_OPSET:
        yield "$.opset", f"{contract.opset} is no ONNX operator set"
    if contract.gmac is not None and not _GMAC_RANGE[0] <= contract.gmac <= _GMAC_RANGE[1]:
        yield "$.gmac", f"{contract.gmac:g} is no number of multiply-accumulates"
    for index, output in enumerate(contract.maps):
        follows = contract.has_own_size and output.cell > 0
        if not (output.rows == output.columns == 0 if follows else min(output.rows, output.columns) >= 1):
            yield f"$.maps[{index}]", f"{output.rows} x {output.columns} cells"
        elif max(output.rows, output.columns, output.cell) > _MAX_SIDE or (output.cell and not follows):
            yield f"$.maps[{index}]", f"{output.rows} x {output.columns} cells of side {output.cell}"
    for index, extra in enumerate(contract.extras):
        if len(extra.shape) >= _MAX_RANK:
            yield f"$.extras[{index}].shape", f"{len(extra.shape) + 1} axes"
        elif not 1 <= min(extra.shape, default=0) <= math.prod(extra.shape) <= _MAX_ITEM:
            yield f"$.extras[{index}].shape", f"{list(extra.shape)} is no shape"
        elif extra.labels and len(extra.labels) != extra.shape[-1]:
            yield f"$.extras[{index}].labels", f"{len(extra.labels)} names for {extra.shape[-1]} values"
        elif extra.name == DISTORTIONS:
            yield from _about_distortions(f"$.extras[{index}]", extra)
    sizes = {output.name: (output.rows, output.columns, output.cell) for output in contract.maps}
    if "weight_map" in sizes and sizes["weight_map"] != sizes.get("quality_map"):
        yield "$.maps", "a weight_map goes with a quality_map of its size"
    image = contract.input("image")
    for index, extra in enumerate(contract.extras):
        if extra.name != "restored" or image is None:
            continue
        if contract.has_own_size:
            yield f"$.extras[{index}]", "whole pictures at their own size cannot be restored: their shape is not fixed"
        elif extra.shape != tuple(image.shape[-3:]):
            yield f"$.extras[{index}].shape", f"restored crops are {list(image.shape[-3:])}"
    names = [
        contract.score.name,
        *(output.name for output in contract.maps),
        *(extra.name for extra in contract.extras),
    ]
    if len({*names, *_INPUTS}) < len(names) + len(_INPUTS) or not all(names):
        yield "$", f"outputs need names of their own, other than those of inputs: {names}"
    files = {"weights": contract.weights.file}
    files |= {} if contract.reference_encoder is None else {"reference_encoder": contract.reference_encoder.file}
    files |= {} if contract.baked_reference is None else {"baked_reference": contract.baked_reference.file}
    for field, name in files.items():
        if not _is_file_name(name):
            yield f"$.{field}.file", f"{name!r} is not the name of a file without its folder"


def _about_distortions(place: str, extra: ExtraOutput) -> Iterator[Complaint]:
    """Hold probabilities of what was done to a picture to names that rows can have."""
    if len(extra.shape) != 1 or not extra.labels:
        yield place, f"{DISTORTIONS} are one probability for each of some labels"
    elif len(set(extra.labels)) < len(extra.labels):
        yield f"{place}.labels", "two of one name"
    elif not all(label.strip() == label and label and "," not in label for label in extra.labels):
        yield f"{place}.labels", f"{list(extra.labels)}: names without commas, and without spaces around them"


def _about_input(place: str, tensor: TensorInput, plan: PatchPlan) -> Iterator[Complaint]:
    batch, *sizes = tensor.shape or (0,)
    fixed = sizes
    if plan.kind == "whole" and tuple(sizes[-2:]) == OWN_SIZE:
        fixed = sizes[:-2]
    sound = all(isinstance(size, int) and 0 < size <= _MAX_SIZE for size in fixed)
    if len(sizes) >= _MAX_RANK:
        yield f"{place}.shape", f"{len(sizes) + 1} axes"
    elif not isinstance(batch, str) or not batch or not sizes or not sound:
        yield f"{place}.shape", f"{list(tensor.shape)} is not a named batch axis followed by fixed sizes"
    elif len(tensor.shape) != _RANKS.get(tensor.layout, len(tensor.shape)):
        yield f"{place}.shape", f"{list(tensor.shape)} is not {tensor.layout}"
    elif math.prod(int(size) for size in fixed) > _MAX_ITEM:
        yield f"{place}.shape", f"{list(tensor.shape)} has more elements than any memory holds"
    if not all(abs(value) <= _MAX_MEAN for value in tensor.mean or ()):
        yield f"{place}.mean", f"{list(tensor.mean or ())}: pixels are 0 to 1, means within {_MAX_MEAN:g} of 0"
    if not all(_STD_RANGE[0] <= value <= _STD_RANGE[1] for value in tensor.std or ()):
        yield f"{place}.std", f"{list(tensor.std or ())} is not within {_STD_RANGE[0]:g} to {_STD_RANGE[1]:g}"
    if tensor.layout == "features" and tensor.resize is not None:
        yield f"{place}.resize", "features are not resized; their pictures are, as the input 'image' says"
    elif tensor.resize is not None:
        yield from about_resize(f"{place}.resize", tensor.resize)


def about_resize(place: str, resize: Resize) -> Iterator[Complaint]:
    """Yield what is wrong with how pictures are resized."""
    if resize.to == "exact" and resize.when != "always":
        yield f"{place}.when", "exact is always that size; shrink goes with shorter, longer and pixels"
    pair = isinstance(resize.size, tuple)
    if pair != (resize.to == "exact"):
        yield f"{place}.size", f"{resize.size}: exact takes height and width, {resize.to} one number"
        return
    sizes = resize.size if isinstance(resize.size, tuple) else (resize.size,)
    most = _MAX_PIXELS if resize.to == "pixels" else _MAX_SIDE
    if not all(1 <= size <= most for size in sizes) or (pair and math.prod(sizes) > _MAX_PIXELS):
        yield f"{place}.size", f"{resize.size} is not a number of pixels that an image may have"


def _about_reference(contract: Contract) -> Iterator[Complaint]:
    """Hold the task to the reference: an input, or baked in, not both."""
    baked = contract.baked_reference
    given = (contract.needs_reference, baked is not None)
    wanted = ((False, False),) if contract.task == "nr" else ((True, False), (False, True))
    if given not in wanted:
        has = {(True, False): "an input for a reference", (False, True): "a baked reference", (True, True): "both"}
        yield "$.task", f"{contract.task!r} with {has.get(given, 'no reference')}"
    if (contract.input("reference_features") is None) != (contract.reference_encoder is None):
        yield "$.reference_encoder", "goes with an input 'reference_features', and only with one"
    image, reference = contract.input("image"), contract.input("reference")
    if image is not None and reference is not None and image.shape != reference.shape:
        yield "$.inputs", f"image is {list(image.shape)}, reference {list(reference.shape)}"
    if image is not None and reference is not None and image.resize != reference.resize:
        yield "$.inputs", "image and reference are resized alike, or neither is"
    if image is not None and reference is not None and image.color_space != reference.color_space:
        yield "$.inputs", f"image is in {image.color_space}, reference in {reference.color_space}"
    if contract.has_own_size and contract.task != "nr":
        if baked is not None or contract.reference_encoder is not None:
            yield "$.inputs", "whole pictures at their own size are compared with a picture, not with features of one"
        elif contract.task == "nar":
            yield "$.inputs", "pictures of a pair that differ in size have no common height and width; fix the size"
    if baked is None:
        return
    unknown = baked.width == baked.height == 0 and contract.task == "nar"
    if not unknown and not 1 <= min(baked.width, baked.height) <= max(baked.width, baked.height) <= _MAX_SIDE:
        yield "$.baked_reference", f"{baked.width} x {baked.height} is no size of an image"
    elif baked.width * baked.height > _MAX_PIXELS:
        yield "$.baked_reference", f"{baked.width} x {baked.height} pixels, more than any image has"


def _about_patch_plan(contract: Contract) -> Iterator[Complaint]:
    """Hold crops to the size of the input, whole pictures to what they are cut to."""
    plan = contract.patch_plan
    image = contract.input("image")
    if image is None:
        return
    if plan.kind != "whole":
        if image.layout in _RANKS and tuple(image.shape[-2:]) != (plan.size, plan.size):
            yield "$.patch_plan.size", f"crops of {plan.size} x {plan.size} pixels for an input of {list(image.shape)}"
        return
    if plan.size or (plan.count, plan.seed, plan.stride) != (None, None, None):
        yield "$.patch_plan", "whole pictures have no size, count, seed and stride of crops"
    if image.layout != "NCHW":
        yield "$.inputs", "whole pictures are NCHW, one an item"
    if (plan.multiple is None) != (plan.fit is None):
        yield "$.patch_plan", "multiple and fit go together"
    sides = {"multiple": plan.multiple, "smallest": plan.smallest}
    for field, side in sides.items():
        if side is not None and not 1 <= side <= _MAX_SIDE:
            yield f"$.patch_plan.{field}", f"{side} is no number of pixels"
        elif side is not None and not contract.has_own_size:
            yield f"$.patch_plan.{field}", "goes with dynamic height and width, and only with them"
    resize = image.resize
    if not contract.has_own_size and (resize is None or resize.to != "exact" or resize.size != tuple(image.shape[-2:])):
        yield "$.inputs", "whole pictures of a fixed size need a resize to exactly that size"


def _about_score(score: ScoreOutput) -> Iterator[Complaint]:
    ends = [end for end in (score.low, score.high) if end is not None]
    if not all(abs(end) <= _MAX_SCORE for end in ends) or ends != sorted(set(ends)):
        yield "$.score", f"low is {score.low} and high {score.high}, not a range"
    elif score.bounded and len(ends) < 2:
        yield "$.score.bounded", "a score without both ends of its range is not bounded"
    if score.quantiles is not None:
        yield from _about_quantiles("$.score.quantiles", score.quantiles)


def _about_quantiles(place: str, quantiles: Quantiles) -> Iterator[Complaint]:
    scores: Sequence[float] = quantiles.scores
    if not 2 <= quantiles.images <= _MAX_IMAGES:
        yield f"{place}.images", f"{quantiles.images}: a population has 2 to {_MAX_IMAGES}"
    if not 2 <= len(scores) <= _MAX_QUANTILES:
        yield f"{place}.scores", f"{len(scores)} quantiles; there are 2 to {_MAX_QUANTILES}"
    elif not all(abs(score) <= _MAX_SCORE for score in scores) or list(scores) != sorted(scores):
        yield f"{place}.scores", f"not in ascending order, or beyond {_MAX_SCORE:g}"


def _is_file_name(name: str) -> bool:
    parts = PurePosixPath(name).name, PureWindowsPath(name).name
    return parts == (name, name) and name not in ("", ".", "..")
