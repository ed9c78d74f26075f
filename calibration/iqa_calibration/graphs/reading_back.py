"""Read an artefact back as whoever scores with it will: its contract, its graph, and what the graph gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iqa_calibration.images.items import Cropper
from iqa_calibration.photographs import packaged_photographs, repeated
from iqa_runtime.artefacts.opening import Artefact, open_artefact
from iqa_runtime.backends import Backend, GraphSpec
from iqa_runtime.backends.onnx_runtime import OnnxRuntimeBackend
from iqa_runtime.contract import Contract
from iqa_runtime.errors import ArtefactError
from iqa_runtime.images.loading import load_image
from iqa_runtime.scoring.patch_plans import example_size

ROUNDING = 1e-5
"""Share of the range by which a bounded score may leave it: some float32 roundings of a scaled sigmoid."""
_PLAIN = (0, 128, 255)
"""Black, gray and white: where networks leave a range that photographs keep to."""


def check_artefact(artefact: Artefact) -> None:
    """Hold an ONNX artefact to its own contract: its tensors, and its scores of one crop of each packaged photograph.

    So are those of black, gray and white, where they are numbers: without any contrast some networks have
    none. Of one that takes cached features of a reference, the tensors alone.

    Raises
    ------
    FileError, ArtefactError, BackendError
        If it cannot be read again, or is not what its contract says.
    """
    contract = artefact.contract
    with _backend(artefact) as backend:
        if contract.input("reference_features") is not None:
            return
        cropper = Cropper(contract)
        photographs = _pictures(contract)
        plain = [np.full_like(photographs[0], level) for level in _PLAIN]
        scores = _scores(backend, cropper, contract, photographs)
        plain_scores = _scores(backend, cropper, contract, plain)
    check_scores(artefact.path, contract, np.concatenate([scores, plain_scores[np.isfinite(plain_scores)]]))


def _scores(
    backend: Backend, cropper: Cropper, contract: Contract, pictures: list[NDArray[np.uint8]]
) -> NDArray[np.floating]:
    """Score one crop of each picture; a reference that need not be aligned is the next one."""
    scores = []
    for picture, other in zip(pictures, pictures[1:] + pictures[:1], strict=True):
        reference = picture if contract.task == "fr" else other
        subject = cropper.subject(picture, reference if contract.needs_reference else None)
        scores.append(backend.infer(cropper.item(subject, 0), backend.spec.output_names)[contract.score.name])
    return np.concatenate(scores)


def check_signature(path: Path) -> Contract:
    """Hold the tensors of an ONNX artefact to its contract, and return this.

    Raises
    ------
    FileError, ArtefactError
        As `check_artefact`.
    """
    opened = open_artefact(path)
    with _backend(opened):
        return opened.contract


def check_scores(path: Path, contract: Contract, scores: NDArray[np.floating]) -> None:
    """Refuse scores that a contract rules out.

    Raises
    ------
    ArtefactError
        If one is no number, or outside of a range that is said to bound it.
    """
    score = contract.score
    if not np.isfinite(scores).all():
        raise ArtefactError(
            f"{path.name}: it gives {scores[~np.isfinite(scores)][0]} for a photograph, which is no score"
        )
    if not score.bounded or score.low is None or score.high is None:
        return
    slack = ROUNDING * (score.high - score.low)
    if not (scores.min() >= score.low - slack and scores.max() <= score.high + slack):
        raise ArtefactError(
            f"{path.name}: its score is said to be bounded to {score.low:g} to {score.high:g}, and photographs and "
            f"plain crops score {scores.min():.4g} to {scores.max():.4g}; correct the range, or say that it "
            "is not bounded"
        )


def _pictures(contract: Contract) -> list[NDArray[np.uint8]]:
    """Return the photographs of the package, repeated or cut to the size of a baked reference where there is one.

    So are those too small for a network that takes pictures at their own size.
    """
    pictures = [load_image(photograph) for photograph in packaged_photographs()]
    baked = contract.baked_reference
    if baked is not None and baked.width and baked.height:
        return [repeated(pixels, baked.height, baked.width) for pixels in pictures]
    if contract.has_own_size:
        least = example_size(contract)
        return [
            repeated(pixels, *(max(pair) for pair in zip(least, pixels.shape, strict=False))) for pixels in pictures
        ]
    return pictures


def _backend(opened: Artefact) -> Backend:
    return OnnxRuntimeBackend(opened.graph, GraphSpec.of_artefact(opened.contract), device="cpu", threads=1)
