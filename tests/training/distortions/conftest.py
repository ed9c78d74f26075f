"""A photograph to distort."""

from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture(scope="module", params=["meadow.jpg", "dogs.jpg"])
def photograph(request):
    folder = Path(__file__).parents[3] / "calibration" / "iqa_calibration" / "photographs"
    image = cv2.imread(str(folder / request.param), cv2.IMREAD_COLOR_RGB)
    return np.ascontiguousarray(image[:256, :256])
