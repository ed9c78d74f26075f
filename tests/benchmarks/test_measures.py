"""benchmarks/measures.py: what it counts."""

from dataclasses import replace

import numpy as np
import pytest
from measures import DEGRADATIONS, SIDE, agreement, degraded, shares, shrunk

from undistorted import UNDISTORTED

NOISY = replace(UNDISTORTED, noise=10.0)


def test_shares_of_reasons():
    found = shares([UNDISTORTED, NOISY, NOISY, replace(NOISY, sharpness=0.1)])
    assert found == dict.fromkeys(found, 0.0) | {"noise": 0.75, "blur": 0.25}


def test_agreement_of_pictures_and_their_copies():
    found = agreement(
        [(UNDISTORTED, UNDISTORTED), (UNDISTORTED, NOISY), (UNDISTORTED, replace(UNDISTORTED, noise=1.5))]
    )
    assert found["difference"]["noise"] == {"median": 0.5, "largest": 9.0}
    assert found["difference"]["jpeg_quality"] is None
    assert (found["pictures"], found["reason_differs"]["noise"], found["reason_differs"]["blur"]) == (3, 1, 0)


def test_each_degradation_of_a_picture_of_the_size_of_the_set():
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE + 8, SIDE + 8, 3), dtype=np.uint8)
    names, levels, pictures = zip(*degraded(pixels[:64, :64], [2]), strict=True)
    assert (names, set(levels)) == (DEGRADATIONS, {2})
    assert all(picture.shape == (64, 64, 3) for picture in pictures)
    assert next(degraded(pixels, [1]))[2].shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize(("factor", "shape"), [(0.5, (20, 30, 3)), (2.0, (40, 60, 3))])
def test_copies_are_smaller_or_the_same(factor, shape):
    assert shrunk(np.zeros((40, 60, 3), np.uint8), factor).shape == shape
