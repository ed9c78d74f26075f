"""What a page shows of an image: its pictures, encoded."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.report.pictures import Looks, Place, Sizes, encoded, encoded_map
from iqa_runtime.scoring.resizing import shrunk

Shown = dict[str, Any]
"""By name as the page's script knows them; a picture is its bytes and its suffix, or its address once placed."""


def shown_of(looks: Looks, sizes: Sizes) -> Shown:
    """Return what can be shown of an image, as an item of the page has it beside its row.

    Parameters
    ----------
    looks
        What there is to show.
    sizes
        Of the pictures.

    Returns
    -------
    dict
        ``thumbnail``, ``picture`` and, by name, what lies ``beside`` it; the reference has the ``digest`` of its
        pixels. Empty where there is no image.
    """
    if looks.image is None:
        return {}
    shown: Shown = {"thumbnail": _thumbnail(looks.image, sizes)}
    if sizes.picture:
        shown["picture"] = _picture(looks.image, sizes)
    beside: Shown = {}
    if looks.map is not None:
        values, nominal, higher_is_better = looks.map
        data, worst, best = encoded_map(values, nominal, higher_is_better=higher_is_better)
        beside["heat map"] = {"picture": (data, ".webp"), "worst": worst, "best": best}
    if looks.restored is not None:
        beside["restored"] = {"picture": _picture(looks.restored, sizes)}
    if looks.reference is not None:
        digest = hashlib.blake2b(looks.reference.tobytes(), digest_size=16).hexdigest()
        beside["reference"] = {"picture": _picture(looks.reference, sizes), "digest": digest}
    return shown | ({"beside": beside} if beside else {})


def placed(shown: Any, place: Place) -> Any:
    """Put every encoded picture in its place: (bytes, suffix) becomes its address."""
    if isinstance(shown, dict):
        return {name: placed(value, place) for name, value in shown.items()}
    return place(*shown) if isinstance(shown, tuple) else shown


def _thumbnail(image: NDArray[np.uint8], sizes: Sizes) -> tuple[bytes, str]:
    small = shrunk(image, sizes.thumbnail)
    return encoded(small, ".webp", sizes.thumbnail_bytes), ".webp"


def _picture(image: NDArray[np.uint8], sizes: Sizes) -> tuple[bytes, str]:
    if not sizes.picture:
        return _thumbnail(image, sizes)
    return encoded(shrunk(image, sizes.picture), ".jpg", sizes.picture_bytes), ".jpg"
