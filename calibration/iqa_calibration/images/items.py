"""Items of a graph, crops or whole pictures, made of images by the preparation and the kernels of the runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.contract import Contract
from iqa_runtime.errors import UsageError
from iqa_runtime.images.header import Frame
from iqa_runtime.images.loading import DEFAULT_PIXEL_LIMIT, Source
from iqa_runtime.scoring.crops import CropInput
from iqa_runtime.scoring.preparation import Preparer, Subject


class Cropper:
    """Cuts images into items of a graph with the preparation and the kernels of the runtime.

    Parameters
    ----------
    contract
        Of the artefact.
    frame
        As in `iqa_runtime.Scorer`.

    Raises
    ------
    UsageError
        If the artefact takes cached features of a reference.
    """

    def __init__(self, contract: Contract, frame: Frame | None = None) -> None:
        if contract.input("reference_features") is not None:
            raise UsageError(
                "an artefact that takes cached features of a reference cannot be calibrated; export it without "
                "``cache_reference``"
            )
        self._preparer = Preparer(contract, contract.patch_plan, pixel_limit=DEFAULT_PIXEL_LIMIT, frame=frame)
        names = [tensor.name for tensor in contract.inputs]
        self._crops = {name: CropInput.of_contract(contract, name) for name in names}
        self._needs_reference = contract.needs_reference
        # What is compared has to have the size of its reference, which is not decoded smaller.
        self._whole = contract.task != "nr"

    def photograph(self, source: Source) -> NDArray[np.uint8]:
        """Decode a photograph to be degraded, H x W x 3 RGB: as at run time, in colours and size.

        Raises
        ------
        FileError, ImageError, UsageError
            As scoring would.
        """
        return self._preparer.load(source, whole=self._whole).pixels

    def subject(self, image: Source, reference: Source | None) -> Subject:
        """Decode an image, and its reference where the artefact takes one, and place the crops.

        Raises
        ------
        FileError, ImageError, UsageError
            As scoring would.
        """
        prepared = self._preparer.prepare(image, reference if self._needs_reference else None)
        if prepared.subject is None:
            raise prepared.error or UsageError("the image cannot be prepared")
        return prepared.subject

    def item(self, subject: Subject, index: int) -> dict[str, NDArray[Any]]:
        """Cut one item: every input of the graph, batch axis first."""
        feed = {}
        for name, crops in self._crops.items():
            feed[name] = crops.buffer(1, subject.item_size)
            if name == "reference" and subject.reference is not None:
                crops.fill(feed[name], subject.reference.image, subject.reference_positions[index : index + 1])
            else:
                crops.fill(feed[name], subject.image, subject.positions[index : index + 1])
        return feed


def reference_of(contract: Contract, photographs: Sequence[Source], index: int) -> Source | None:
    """Return what the degradations of a photograph are compared with: itself, or the next one where not aligned."""
    if not contract.needs_reference:
        return None
    return photographs[index if contract.task == "fr" else (index + 1) % len(photographs)]


def check_references(contract: Contract, photographs: Sequence[Source]) -> None:
    """Refuse too few photographs.

    Raises
    ------
    UsageError
        If there is none, or only one and another is needed as the reference.
    """
    if not photographs:
        raise UsageError("there is no calibration image; give at least one")
    if contract.task == "nar" and contract.needs_reference and len(photographs) < 2:
        raise UsageError(
            "one photograph, and this artefact compares with another one; give at least 4, so that 2 calibrate and 2 "
            "judge"
        )


def check_seed(seed: int) -> None:
    """Refuse a seed that NumPy does not take.

    Raises
    ------
    UsageError
        If it is out of range.
    """
    if not 0 <= seed < 2**32:
        raise UsageError(f"``seed={seed}``: it must be 0 to {2**32 - 1}")
