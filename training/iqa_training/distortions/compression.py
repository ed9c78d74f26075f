"""Compression: JPEG 2000 and JPEG, encoded and decoded in memory."""

from __future__ import annotations

import io

import cv2
import numpy as np
import PIL.Image

from .pixels import Image


def jpeg2000(image: Image, ratio: float) -> Image:
    """Compress with JPEG 2000 to `ratio` times fewer bytes than the raw pixels have.

    Pillow, because OpenCV takes the inverse of the ratio in whole thousandths: 120 and 125 would be the same.
    """
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, "JPEG2000", quality_mode="rates", quality_layers=[ratio])
    with PIL.Image.open(file) as decoded:
        return np.array(decoded)


def jpeg(image: Image, quality: float) -> Image:
    """Compress with JPEG at a libjpeg `quality` from 100 to 1, rounded to a whole number, chroma halved (4:2:0)."""
    parameters = [
        cv2.IMWRITE_JPEG_QUALITY,
        round(quality),
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    ]
    _, file = cv2.imencode(".jpg", image[..., ::-1], parameters)
    return np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR_RGB), np.uint8)
