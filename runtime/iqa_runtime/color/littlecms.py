"""Profiles whose colours are mixed by tables, such as those of printing inks: by littleCMS, which Pillow brings.

Pillow is an extra, ``color``: it is as large as the rest of the runtime without NumPy and OpenCV, and few pictures need
it.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.color.curves import BadProfileError
from iqa_runtime.color.tags import Channels
from iqa_runtime.errors import ImageError, one_line

_BAND_PIXELS = 1 << 20  # converted at a time: Pillow's copies stay small beside the picture
_MODES = {"RGB": "RGB", "gray": "L", "CMYK": "CMYK"}


def is_available() -> bool:
    """Whether littleCMS can be used."""
    try:
        from PIL import features
    except ImportError:
        return False
    return bool(features.check("littlecms2"))


def table_conversion(profile: bytes, channels: Channels) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """Return what turns samples, H x W x (3, 1 or 4), into sRGB, H x W x 3, relative colorimetric.

    Inks are 255 where they are full.

    Raises
    ------
    BadProfileError
        If littleCMS refuses the profile.
    """
    from PIL import Image, ImageCms

    mode = _MODES[channels]
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
        )
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError) as error:
        raise BadProfileError("littleCMS refuses the profile") from error

    def convert(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = samples.shape[:2]
        image = np.empty((height, width, 3), np.uint8)
        rows = max(_BAND_PIXELS // width, 1)
        for top in range(0, height, rows):
            band = np.ascontiguousarray(samples[top : top + rows])
            picture = Image.frombytes(mode, (width, len(band)), band.tobytes())
            try:
                converted: Any = ImageCms.applyTransform(picture, transform)
            except ImageCms.PyCMSError as error:
                raise ImageError(
                    f"littleCMS cannot convert its colours ({one_line(error)}); save it as sRGB"
                ) from error
            image[top : top + rows] = converted
        return image

    return convert
